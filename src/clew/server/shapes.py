"""What the routes answer, described for OpenAPI by the records themselves.

Knows schemas, and nothing of any one route. FastAPI describes dataclasses and pydantic's models;
records are neither (design/0030).
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI

_REF = "#/components/schemas/{name}"


class Routes(APIRouter):
    """Routes whose ``response_model`` is a record or a list of one; it describes, and checks not.

    What they answer is encoded by :func:`clew.server.wire.encode` alone.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shapes: dict[str, type] = {}

    def add_api_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        response_model: Any = None,
        status_code: int | None = None,
        responses: dict[int | str, dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        """As FastAPI's, but the schema of an answer is that of a record."""
        told: dict[int | str, dict[str, Any]] = {}
        if isinstance(response_model, type) or typing.get_origin(response_model) is list:
            told[status_code or 200] = answer(response_model, "Done.", self.shapes)
        super().add_api_route(
            path,
            endpoint,
            response_model=None,
            status_code=status_code,
            responses={**told, **(responses or {})},
            **options,
        )


def answer(shape: Any, description: str, shapes: dict[str, type]) -> dict[str, Any]:
    """How OpenAPI says that an answer is a record or a list of it, noted in ``shapes``."""
    record = typing.get_args(shape)[0] if typing.get_origin(shape) is list else shape
    shapes[record.__name__] = record
    schema: dict[str, Any] = {"$ref": _REF.format(name=record.__name__)}
    if record is not shape:
        schema = {"type": "array", "items": schema}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def describe(app: FastAPI, shapes: Mapping[str, type]) -> None:
    """Let the document of ``app`` tell what the records hold, once somebody asks for it."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            _, components = msgspec.json.schema_components(
                shapes.values(), schema_hook=_anything, ref_template=_REF
            )
            known = document.setdefault("components", {}).setdefault("schemas", {})
            document["components"]["schemas"] = dict(sorted({**components, **known}.items()))
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _anything(kind: type) -> dict[str, Any]:
    """A field that may hold whatever JSON can say."""
    if kind is not object:
        raise NotImplementedError
    return {"description": "Whatever JSON can say."}
