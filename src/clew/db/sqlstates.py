"""What an error of PostgreSQL means for a person: by its SQLSTATE, or by words before a session.

Knows texts only; which exception they come from is for ``postgres.py``.
"""

from __future__ import annotations

from clew.base.errors import ClewError, Corrupt, Denied, NotFound, Unavailable

_Known = tuple[type[ClewError], str, str, str]
"""Kind, code, message and hint."""


def known(state: str, text: str, place: str, *, ended: bool) -> ClewError | None:
    """The error of a statement; None where a person can do nothing about it.

    ``ended``: the connection is gone, whatever the state says. ``place`` is a database as it may
    be shown.
    """
    found = _ERRORS.get(state) or _ERRORS.get(state[:2])
    if found is None and ended:
        found = _UNREACHABLE
    return None if found is None else _said(found, text, place)


def of_connecting(text: str, place: str) -> ClewError:
    """The error of connecting: the library gives no SQLSTATE for it, so words must do."""
    found = next((one for words, one in _REFUSALS if words in text), _UNREACHABLE)
    return _said(found, text, place)


def _said(known: _Known, text: str, place: str) -> ClewError:
    kind, code, message, hint = known
    reason = f"(PostgreSQL: {_reason(text)})"
    return kind(code, f"{message.format(place=place)} {reason}.", hint=hint)


def _reason(text: str) -> str:
    """What the server says, or what the library says of getting there."""
    said = text.partition("FATAL:")[2] or text
    return said.strip().partition("\n")[0].removeprefix("connection failed: ").rstrip(".")


_BUSY_S = 30
_UNREACHABLE: _Known = (
    Unavailable,
    "db.unreachable",
    "The database {place} cannot be reached",
    "Check that PostgreSQL runs there and takes connections from here, then do it again.",
)
_DENIED: _Known = (
    Denied,
    "db.denied",
    "The database {place} refuses this user",
    "Check user and password (PGPASSWORD, ~/.pgpass or the URL) and the rights on the schema.",
)
_MISSING: _Known = (
    NotFound,
    "db.missing",
    "There is no database {place}",
    "Make it with `createdb`, or name another.",
)
_FULL: _Known = (
    Unavailable,
    "db.busy",
    "The server of {place} takes no more connections",
    "Raise max_connections, or end what holds them, then do it again.",
)
_BUSY: _Known = (
    Unavailable,
    "db.busy",
    f"Another process has held the database {{place}} for more than {_BUSY_S} s",
    "Find what holds it in pg_stat_activity, end that, then do it again.",
)
_CORRUPT: _Known = (
    Corrupt,
    "db.corrupt",
    "The database {place} is damaged",
    "Restore it from a backup; the store is not affected.",
)
_REFUSALS: tuple[tuple[str, _Known], ...] = (
    ("password authentication failed", _DENIED),
    ("no password supplied", _DENIED),
    ("authentication failed", _DENIED),
    ("no pg_hba.conf entry", _DENIED),
    ("permission denied for database", _DENIED),
    ("is not permitted to log in", _DENIED),
    ('role "', _DENIED),
    ("too many clients", _FULL),
    ("remaining connection slots", _FULL),
    ("too many connections", _FULL),
    ('database "', _MISSING),
)
"""By words of https://www.postgresql.org/docs/current/client-authentication-problems.html."""

_ERRORS: dict[str, _Known] = {
    "08": _UNREACHABLE,
    "57P01": _UNREACHABLE,
    "57P02": _UNREACHABLE,
    "57P03": _UNREACHABLE,
    "57P05": _UNREACHABLE,
    "25P03": _UNREACHABLE,
    "28": _DENIED,
    "42501": _DENIED,
    "3D000": _MISSING,
    "53300": _FULL,
    "55P03": _BUSY,
    "40P01": _BUSY,
    "XX001": _CORRUPT,
    "XX002": _CORRUPT,
    "53100": (
        Unavailable,
        "disk.full",
        "The disk of the server of {place} is full; nothing of this change was kept",
        "Free space there, then do it again.",
    ),
    "25006": (
        Unavailable,
        "workspace.read_only",
        "The database {place} takes no writes: it is a standby or set to read-only",
        "Name the primary server.",
    ),
    "58030": (
        Unavailable,
        "disk.error",
        "The disk of the server of {place} failed; nothing of this change was kept",
        "Look into the log of PostgreSQL, then do it again.",
    ),
}
"""By SQLSTATE or its class (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
