"""Instants of a schedule: cron expressions, ``@daily``, ``@every 5m``, ``never``; with a time zone.

Knows nothing of what happens at an instant, and never asks for the time itself.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from msgspec import Struct

from clew.base.errors import Invalid

NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
NEVER = "never"

_EVERY = re.compile(r"@every\s+((?:\d+(?:ms|[dhms]))+)")
_PART = re.compile(r"(\d+)(ms|[dhms])")
_PARTS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTEST = timedelta(seconds=1)
_MINUTES_AND_SECONDS = (5, 6)
_HINT = 'Write "0 5 * * *" (minute hour day month weekday), "@daily", "@every 15m" or "never".'


class Schedule(Struct, frozen=True, kw_only=True):
    """The instants of a schedule, all to the second; made by :func:`schedule`.

    The same for everybody who asks, whenever: ``@every`` counts from 1970-01-01 in UTC, a cron
    expression is read on the clock of ``zone`` as Debian's cron does (an hour that a clock skips
    runs right after it, one that comes twice runs once).
    """

    text: str
    zone: str

    def next(self, after: datetime) -> datetime | None:
        """The first instant behind an aware time, in UTC; None where there is none."""
        if self.text == NEVER:
            return None
        every = _every(self.text)
        if every is not None:
            return _EPOCH + ((after - _EPOCH) // every + 1) * every
        return _step(self.text, after.astimezone(_zone(self.zone)), reverse=False)

    def last(self, until: datetime) -> datetime | None:
        """The last instant at or before an aware time, in UTC; None where there is none."""
        if self.text == NEVER:
            return None
        every = _every(self.text)
        if every is not None:
            return _EPOCH + (until - _EPOCH) // every * every
        behind = until.replace(microsecond=0) + timedelta(seconds=1)
        return _step(self.text, behind.astimezone(_zone(self.zone)), reverse=True)

    def due(self, after: datetime, until: datetime) -> datetime | None:
        """The last instant behind ``after`` and not behind ``until``: those before it are missed.

        So a machine that slept over several does once what they ask for.
        """
        found = self.last(until)
        return found if found is not None and found > after else None


def schedule(text: str, zone: str = "UTC") -> Schedule:
    """A schedule, checked.

    Args:
        text: Five fields of cron (minute, hour, day of the month, month, day of the week; six with
            the second before them) with ``*``, lists, ranges, steps, names, ``L`` and ``#``; or
            ``@yearly @monthly @weekly @daily @hourly``; ``@every 1h30m``; ``never``.
        zone: Name of a time zone, such as ``Europe/Berlin``, on whose clock cron's fields are.

    Raises:
        Invalid: ``schedule.invalid``, ``schedule.zone``.
    """
    plain = " ".join(text.split())
    _zone(zone)
    if plain != NEVER and _every(plain) is None:
        plain = NAMED.get(plain.lower(), plain)
        if len(plain.split()) not in _MINUTES_AND_SECONDS:
            raise _invalid(text, f"it has {len(plain.split())} fields where five are expected")
        _step(plain, _EPOCH, reverse=False)
    return Schedule(text=plain, zone=zone)


def _step(text: str, start: datetime, *, reverse: bool) -> datetime | None:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only who has a schedule pays for it

    try:
        found: datetime = next(CronSim(text, start, reverse=reverse))
    except StopIteration:
        return None
    except CronSimError as error:
        raise _invalid(text, str(error).rstrip(".").lower()) from None
    return found.astimezone(UTC)


def _every(text: str) -> timedelta | None:
    found = _EVERY.fullmatch(text)
    if found is None:
        if text.startswith("@every"):
            raise _invalid(text, "its length is not like 90s, 15m or 1h30m")
        return None
    length_ms = sum(int(number) * _PARTS[unit] for number, unit in _PART.findall(found[1]))
    length = timedelta(milliseconds=length_ms)
    if length < _SHORTEST or length.microseconds:
        raise _invalid(text, "it must be whole seconds, at least one")
    return length


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Invalid(
            "schedule.zone",
            f"There is no time zone {name!r} here.",
            hint="Use a name such as UTC, Europe/Berlin or America/New_York.",
        ) from None


def _invalid(text: str, why: str) -> Invalid:
    return Invalid("schedule.invalid", f"The schedule {text!r} cannot be read: {why}.", hint=_HINT)
