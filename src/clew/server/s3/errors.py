"""Errors as S3 says them: a code, a status, and a message with the next step.

Knows the codes of S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html) and how
errors of Clew map to them.
"""

from __future__ import annotations

from clew.base.errors import ClewError


class S3Error(Exception):
    """An answer that is not a success. ``headers`` go with it."""

    def __init__(
        self, code: str, message: str, status: int = 400, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = headers or {}


class NotModified(Exception):  # an answer, not an error
    """The client has it already: 304 with these headers and no body."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__("not modified")
        self.headers = headers


_CODES = {
    "file.unknown": ("NoSuchKey", 404),
    "repo.unknown": ("NoSuchBucket", 404),
    "ref.unknown": ("NoSuchBucket", 404),
    "commit.unknown": ("NoSuchBucket", 404),
    "repo.derived": ("AccessDenied", 403),
    "path.invalid": ("InvalidArgument", 400),
    "tree.file_and_directory": ("ObjectNameConflict", 409),
    "disk.full": ("InsufficientStorage", 507),
    "db.busy": ("SlowDown", 503),
}
_KINDS = {
    "not_found": ("NoSuchKey", 404),
    "conflict": ("OperationAborted", 409),
    "invalid": ("InvalidRequest", 400),
    "not_ready": ("ServiceUnavailable", 503),
    "denied": ("AccessDenied", 403),
    "unavailable": ("ServiceUnavailable", 503),
}


def as_s3(error: ClewError) -> S3Error:
    """An error of Clew, with its own code at the end of the message."""
    code, status = _CODES.get(error.code) or _KINDS.get(error.kind) or ("InternalError", 500)
    return S3Error(code, f"{error} ({error.code})", status)


def no_such_key(key: str) -> S3Error:
    """There is no such object."""
    return S3Error("NoSuchKey", f"There is no {key!r} in this bucket.", 404)


def precondition(which: str) -> S3Error:
    """A condition of the request does not hold."""
    return S3Error("PreconditionFailed", f"The condition {which} does not hold.", 412)


def not_implemented(what: str) -> S3Error:
    """A part of S3 that this door does not have."""
    return S3Error("NotImplemented", f"{what} is not a thing that Clew's S3 door does.", 501)
