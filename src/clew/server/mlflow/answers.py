"""Answers in the form that MLflow's clients read: JSON, errors as ``{error_code, message}``.

Knows MLflow's names of errors; nothing of what went wrong.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from clew.base.errors import ClewError

JSON = "application/json"
_KINDS = {
    "not_found": (404, "RESOURCE_DOES_NOT_EXIST"),
    "conflict": (409, "RESOURCE_CONFLICT"),
    "invalid": (400, "INVALID_PARAMETER_VALUE"),
    "denied": (403, "PERMISSION_DENIED"),
    "not_ready": (503, "TEMPORARILY_UNAVAILABLE"),
    "unavailable": (503, "TEMPORARILY_UNAVAILABLE"),
    "corrupt": (500, "INTERNAL_ERROR"),
}


def refusal(error: ClewError) -> Response:
    """An error of ours as MLflow's clients show it: what is wrong, and the next step."""
    status, code = _KINDS.get(error.kind, (500, "INTERNAL_ERROR"))
    if error.code == "mlflow.fenced":
        status, code = 501, "NOT_IMPLEMENTED"
    body = {"error_code": code, "message": str(error), "clew_code": error.code}
    return Response(msgspec.json.encode(body), status, media_type=JSON)


def answer(value: object) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), media_type=JSON)
