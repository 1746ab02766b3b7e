"""One tree of errors, cut by what the catcher can do.

Knows nothing of HTTP, gRPC or exit codes: the doors translate.
"""

from __future__ import annotations

from typing import ClassVar


class ClewError(Exception):
    """A refusal with a stable code, what went wrong with which thing, and the next step.

    ``code`` is dotted and never changes once released (``repo.unknown``). ``hint`` is a whole
    sentence or a command that the reader can run; it is empty only where nothing can be done.
    """

    kind: ClassVar[str] = "error"

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        between = "\n" if "\n" in self.hint else " "  # a traceback stands below, not behind
        return f"{self.message}{between}{self.hint}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self).kind, self.code, self.message, self.hint))

    def to_wire(self) -> dict[str, str]:
        """Plain form for pipes, HTTP bodies and ``--json``; :func:`from_wire` reads it back."""
        return {"kind": self.kind, "code": self.code, "message": self.message, "hint": self.hint}


class NotFound(ClewError):
    """What was named does not exist: name another."""

    kind = "not_found"


class Conflict(ClewError):
    """Somebody else was first, or it exists already: look again, then retry or choose."""

    kind = "conflict"


class Invalid(ClewError):
    """The request itself is wrong and will stay wrong: change it."""

    kind = "invalid"


class NotReady(ClewError):
    """Right, but too early: wait for what is named and retry."""

    kind = "not_ready"


class Denied(ClewError):
    """Not allowed for this caller or by this rule: ask, or override with a name and a reason."""

    kind = "denied"


class Unavailable(ClewError):
    """A resource is missing for now (disk full, port in use, process died): mend it, then retry."""

    kind = "unavailable"


class Corrupt(ClewError):
    """Stored bytes are not what they should be: nothing of them is returned."""

    kind = "corrupt"


_KINDS: dict[str, type[ClewError]] = {
    cls.kind: cls for cls in (NotFound, Conflict, Invalid, NotReady, Denied, Unavailable, Corrupt)
}


class Ended(Exception):
    """The process of a model ended while it computed; what it was computing is lost."""


class ModelError(Exception):
    """What a model raised in a process of its own, as text."""


def closed() -> Unavailable:
    """A workspace was asked after its ``close()``."""
    return Unavailable(
        "workspace.closed",
        "This workspace was closed.",
        hint="Open it again: clew.connect()",
    )


def from_wire(data: dict[str, str]) -> ClewError:
    """The error that :meth:`ClewError.to_wire` wrote, as the same class."""
    return _rebuild(data["kind"], data["code"], data["message"], data.get("hint", ""))


def _rebuild(kind: str, code: str, message: str, hint: str) -> ClewError:
    return _KINDS.get(kind, ClewError)(code, message, hint=hint)
