"""Times, times of day and durations as texts of ISO 8601, by the Arrow type that they are of.

Knows names of Arrow types; no frame and no request.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time, timedelta

import msgspec
from msgspec import Struct


class Iso(Struct, frozen=True):
    """How values of a type are written: ``words`` for people, ``example`` as a text of it.

    ``read`` raises ValueError for a text that is none.
    """

    words: str
    example: str
    read: Callable[[str], object]


def iso_of(kind: str) -> Iso | None:
    """How values of an Arrow type are written; None where not in ISO 8601."""
    return next((found for start, found in _BY_START.items() if kind.startswith(start)), None)


def iso_text(value: timedelta) -> str:
    """A duration as text: ``PT5400S``; also one of a library's own class."""
    plain = timedelta(value.days, value.seconds, value.microseconds)
    return str(msgspec.to_builtins(plain))


def _time_of_day(text: str) -> time:
    found = time.fromisoformat(text)
    if found.tzinfo is not None:
        raise ValueError(f"a time of day has no zone: {text!r}")
    return found


def _duration(text: str) -> timedelta:
    try:
        return msgspec.convert(text, timedelta)
    except msgspec.ValidationError:
        raise ValueError(f"no duration such as PT1H30M or -P1DT2.5S: {text!r}") from None


_MOMENT = Iso("a time in ISO 8601", "2000-01-01T00:00:00", datetime.fromisoformat)
_BY_START = {
    "timestamp": _MOMENT,
    "date": _MOMENT,
    "time": Iso("a time of day in ISO 8601", "00:00:00", _time_of_day),
    "duration": Iso("a duration in ISO 8601, such as PT1H30M", "PT0S", _duration),
}
"""``time`` (time32, time64) stands behind ``timestamp``."""
