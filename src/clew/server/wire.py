"""How records and errors look on the wire.

Knows media types and status codes, and nothing of what the records mean.
"""

from __future__ import annotations

import logging
import secrets

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from msgspec import Struct
from starlette.exceptions import HTTPException

from clew.base.errors import ClewError, Invalid, NotFound

MSGPACK = "application/msgpack"
TOLD = "clew.told"
"""Key in the scope of a request: errors that the log has already."""
_STATUS = {
    "not_found": 404,
    "conflict": 409,
    "invalid": 400,
    "not_ready": 409,
    "denied": 403,
    "unavailable": 503,
    "corrupt": 500,
}
_LOG = logging.getLogger("clew.server")


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """What went wrong. ``kind`` says what can be done, ``code`` is stable, ``hint`` a next step."""

    kind: str
    code: str
    message: str
    hint: str


class ErrorBody(Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def encode(value: object, accept: str = "") -> Response:
    """A record as JSON, or as MessagePack where the caller asks for it.

    MessagePack keeps what JSON cannot say (NaN, infinities); JSON writes ``null`` for those.
    """
    if MSGPACK in accept:
        return Response(msgspec.msgpack.encode(value), media_type=MSGPACK)
    return Response(msgspec.json.encode(value), media_type="application/json")


def status_of(error: ClewError) -> int:
    """The HTTP status that fits an error."""
    return 401 if error.code.startswith("auth.") else _STATUS.get(error.kind, 500)


def error_response(error: ClewError) -> Response:
    """An error as ``{"error": {kind, code, message, hint}}``."""
    headers = {}
    status = status_of(error)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="clew"'
    if error.kind in {"not_ready", "unavailable"}:
        headers["Retry-After"] = "1"
    body = msgspec.json.encode({"error": error.to_wire()})
    return Response(body, status, headers, media_type="application/json")


def as_clew_error(request: Request, error: Exception) -> ClewError:
    """Any error of a request as one of ours; what nobody expected is logged with a reference."""
    if isinstance(error, ClewError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        return _http(request, error)
    reference = secrets.token_hex(4)
    _LOG.error(
        "%s %s failed (reference %s)", request.method, request.url.path, reference, exc_info=error
    )
    request.scope.get(TOLD, []).append(error)
    return ClewError(
        "server.failed",
        f"The server failed while it worked on this request (reference {reference}).",
        hint="Look for the reference in the server's log.",
    )


def _invalid(error: RequestValidationError) -> Invalid:
    said = "; ".join(
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors()
    )
    return Invalid("request.invalid", f"The request is wrong: {said}.", hint="See /docs.")


def _http(request: Request, error: HTTPException) -> ClewError:
    if error.status_code == 404:
        return NotFound(
            "route.unknown", f"Nothing is at {request.url.path}.", hint="See /docs for the API."
        )
    return Invalid(
        "request.invalid",
        f"{request.method} {request.url.path} is refused: {error.detail}.",
        hint="See /docs for the API.",
    )
