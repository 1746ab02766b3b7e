"""Endpoints as a user writes them: a model with functions around it, under a name.

Records what was written; ``serving`` says what it means.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from clew.authoring.checks import check_name, invalid
from clew.authoring.graphs import Given, graph_of
from clew.authoring.steps import (
    Around,
    EndpointOptions,
    Function,
    GraphOptions,
    Step,
    Training,
)
from clew.base.records import Column
from clew.serving import Rollout, immediate

_TYPES = {
    float: "double", int: "int64", bool: "bool", str: "string", datetime: "timestamp[us]",
    date: "date32[day]",
}  # fmt: skip
_ARROW = {
    *_TYPES.values(), "float", "halffloat",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}  # fmt: skip


class Served:
    """The part of :class:`clew.Pipeline` about endpoints."""

    endpoints: dict[str, EndpointOptions]
    graphs: dict[str, GraphOptions]

    def endpoint(
        self,
        name: str,
        model: Training,
        *,
        rollout: Rollout | None = None,
        log: float | bool = 1.0,
        redact: Sequence[str] = (),
        isolate: bool | None = None,
        preprocess: Function | None = None,
        postprocess: Function | None = None,
        inputs: Mapping[str, Any] | None = None,
        example: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Serve the champion of ``model`` under ``name``; new ones come by ``rollout``.

        Functions see batches: rows of several requests below one another. They must answer each
        row by itself and give as many as they got. A ``ValueError`` of theirs is a bad request;
        anything else is a fault of the endpoint (500). A change of them, or of what they use of
        the project, is a new revision that takes over by ``rollout``.

        Args:
            name: Of the endpoint.
            model: The training step.
            rollout: How a new version takes over: ``clew.immediate()``, ``clew.canary()``,
                ``clew.shadow()``, ``clew.split(20)``, ``clew.ab_test()``, ``clew.bandit()``.
            log: The share of predictions that is kept, from 0 (or False) to 1, chosen by
                prediction id.
            redact: Inputs and outputs that are never written to disk.
            isolate: The model has a process of its own beside each serving process: True, False,
                or None: where it is large (512 MiB) or slow (a tenth of a second).
            preprocess: Rows as a client sends them → rows for the model. Its first parameter may
                be annotated as a Polars frame (so it is without one), a pandas frame or an array.
                A step of the pipeline will do: then its function is meant.
            postprocess: Outputs of the model (a mapping of arrays; a frame where it is annotated
                as one) → outputs for the client: a mapping of arrays, a frame, or one array. With
                a second parameter it gets the rows too, as ``preprocess`` does.
            inputs: What a client sends, where it is not what the model takes: name → type (float,
                int, bool, str, datetime, date; ``float | None`` where it may be missing; or the
                Arrow name of a type).
            example: Rows that a client may send: a revision is asked for them before it serves,
                and is not let in where it fails.

        Raises:
            Invalid: ``pipeline.definition``.
        """
        if not isinstance(model, Training):
            raise invalid(f"{model!r} is not a training step", "An endpoint serves a model.")
        self._add_endpoint(
            EndpointOptions(
                name=name,
                model=model,
                rollout=rollout or immediate(),
                log=share_of(log),
                redact=_names(redact),
                isolate=isolate,
                around=Around(
                    preprocess=_function(preprocess, "preprocess", most=1),
                    postprocess=_function(postprocess, "postprocess", most=2),
                    inputs=_columns(inputs or {}),
                    example=_rows(example),
                ),
            )
        )

    def graph(
        self,
        name: str,
        steps: Given,
        *,
        rollout: Rollout | None = None,
        log: float | bool = 1.0,
        redact: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Serve a graph of endpoints under ``name``: an endpoint that asks others.

        It is asked as any other, over the same protocols; what a client sends is what its nodes
        take together. Nodes are asked in the process that serves the graph. Each answer says which
        versions made it, and its prediction leads to those of its nodes.

        Args:
            name: Of the endpoint that the graph is.
            steps: ``clew.sequence(...)``, ``clew.ensemble(...)``, ``clew.switch(...)``,
                ``clew.splitter(...)``, or one node.
            rollout: How a changed graph takes over, as for :meth:`endpoint`. As a shadow it asks
                its nodes about copies, one at a time.
            log: The share of predictions that is kept, as for :meth:`endpoint`. Nodes keep theirs
                as their endpoints say.
            redact: Inputs and outputs of the graph that are never written to disk.
            inputs: Columns that a client sends for conditions alone, which no node takes: name →
                type, as for :meth:`endpoint`.

        Raises:
            Invalid: ``pipeline.definition``, ``graph.condition``.
        """
        check_name(name, "a graph")
        chosen = rollout or immediate()
        self._give_way(name)
        if name in self.endpoints or name in self.graphs:
            raise invalid(f"There are two endpoints {name!r}", "Give each a name of its own.")
        root, functions = graph_of(name, steps)
        self.graphs[name] = GraphOptions(
            name=name,
            root=root,
            functions=functions,
            rollout=chosen,
            log=share_of(log),
            redact=_names(redact),
            inputs=_columns(inputs or {}),
        )

    def _add_endpoint(self, one: EndpointOptions) -> None:
        check_name(one.name, "an endpoint")
        around = one.around
        if (around.inputs or around.example) and not (around.preprocess or around.postprocess):
            raise invalid(
                f"The endpoint {one.name} has inputs= or example= and no function around its model",
                "Give preprocess=, or leave them out: the signature of the model says the same.",
            )
        if around.inputs and not around.preprocess:
            raise invalid(
                f"The endpoint {one.name} has inputs= and no preprocess=",
                "Give the function that makes of them what the model takes.",
            )
        self._give_way(one.name)
        if one.name in self.endpoints or one.name in self.graphs:
            raise invalid(f"There are two endpoints {one.name!r}", "Give each a name of its own.")
        self.endpoints[one.name] = one

    def _give_way(self, name: str) -> None:
        """Where an endpoint may be defined again, the one before goes."""


def share_of(log: float | bool) -> float:
    """The share of predictions that is kept. Raises Invalid ``pipeline.definition``."""
    if not 0 <= float(log) <= 1:
        raise invalid(f"log={log!r} is no share of predictions", "Give 0 to 1.")
    return float(log)


def _names(redact: Sequence[str]) -> tuple[str, ...]:
    if isinstance(redact, str):
        raise invalid(f"redact={redact!r} is a text", f"Write redact=[{redact!r}].")
    return tuple(redact)


def _function(given: Any, what: str, *, most: int) -> Function | None:
    if given is None:
        return None
    function: Function = given.__wrapped__ if isinstance(given, Step) else given
    if not inspect.isfunction(function):
        raise invalid(f"{what}={given!r} is not a function", "Give one, without calling it.")
    taken = [
        one
        for one in inspect.signature(function).parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    if not 1 <= len(taken) <= most:
        raise invalid(
            f"{what} {function.__name__} takes {len(taken)} parameters",
            "It gets the rows." if most == 1 else "It gets the outputs, and the rows if it asks.",
        )
    return function


def _columns(inputs: Mapping[str, Any]) -> tuple[Column, ...]:
    return tuple(_column(name, kind) for name, kind in inputs.items())


def _column(name: str, kind: Any) -> Column:
    nullable = False
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kinds = typing.get_args(kind)
        nullable = type(None) in kinds
        rest = [one for one in kinds if one is not type(None)]
        kind = rest[0] if len(rest) == 1 else kind
    arrow = kind if isinstance(kind, str) else _TYPES.get(kind, "")
    if arrow not in _ARROW:
        raise invalid(
            f"The input {name!r} cannot be {kind!r}",
            "Give float, int, bool, str, datetime or date, with `| None` where it may be missing, "
            "or an Arrow name such as 'int32'.",
        )
    return Column(name=str(name), type=arrow, nullable=nullable)


def _rows(example: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    if isinstance(example, Mapping) or not all(isinstance(row, Mapping) for row in example):
        raise invalid(f"example={example!r} is no list of rows", "Write [{'column': value}].")
    return tuple(dict(row) for row in example)
