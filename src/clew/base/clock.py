"""The time, always aware and in UTC.

Knows nothing of time zones of users: the doors format.
"""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The present, aware, in UTC, to the microsecond."""
    return datetime.now(UTC)


def from_us(microseconds: int) -> datetime:
    """An aware UTC time from microseconds since the Unix epoch (how rows keep times)."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since the Unix epoch of an aware time.

    Raises:
        ValueError: ``moment`` is naive.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a naive time has no place on the line of time: {moment!r}")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
