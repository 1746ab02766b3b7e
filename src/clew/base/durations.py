"""Spans of time as people write them: ``"5m"``, ``"1h30m"``, ``300``.

Knows no calendar: a day has 24 hours here.
"""

from __future__ import annotations

import re
from datetime import timedelta

from clew.base.errors import Invalid

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)\s*")


def seconds(span: str | float | timedelta, what: str = "a span of time") -> float:
    """Seconds of a span: a number of them, a timedelta, or text such as ``"1h30m"``.

    Raises:
        Invalid: ``duration.invalid`` where it is none, or is negative; ``what`` names it.
    """
    found = _seconds(span)
    if found is None or not 0 <= found < float("inf"):
        raise Invalid(
            "duration.invalid",
            f"{span!r} cannot be {what}.",
            hint='Write seconds as a number, or such as "30s", "5m", "1h30m", "7d".',
        )
    return found


def _seconds(span: object) -> float | None:
    if isinstance(span, timedelta):
        return span.total_seconds()
    if isinstance(span, int | float) and not isinstance(span, bool):
        return float(span)
    if not isinstance(span, str):
        return None
    parts = _PART.findall(span)
    if not parts or "".join(_PART.split(span.strip())[::3]).strip():
        return None
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def said(span_s: float) -> str:
    """A span for people, in its largest whole unit: ``5m``, ``36h``, ``90s``."""
    for unit in ("w", "d", "h", "m"):
        if span_s and span_s % _UNITS[unit] == 0:
            return f"{span_s / _UNITS[unit]:g}{unit}"
    return f"{span_s:g}s"
