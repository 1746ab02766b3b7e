"""How values read: times, sizes, numbers, states and where a thing's page is.

Knows words for people, and nothing of HTML beyond a name for a colour.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from urllib.parse import quote

from msgspec import Struct

from clew.base import ids
from clew.base.clock import now
from clew.base.records import Event, Node

_TONES = {
    "good": ("✓", ("done", "finished", "blessed", "live", "clear", "added", "passed", "active")),
    "busy": (
        "▸",
        ("running", "used", "canary", "arm", "shadow", "loading", "open", "changed", "polling"),
    ),
    "idle": (
        "·",
        ("free", "waiting", "pending", "paused", "draining", "candidate", "skipped", "skip"),
    ),
    "quiet": (
        "–",
        ("elsewhere", "retired", "cancelled", "blocked", "stopped", "superseded", "deleted"),
    ),
    "warn": (
        "!",
        (
            "excluded",
            "infeasible",
            "refused",
            "overridden",
            "rolled_back",
            "drift",
            "quarantined",
            "recovered",
        ),
    ),
    "bad": ("✕", ("failed", "aborted", "error", "failing")),
}
_STATES = {state: (tone, icon) for tone, (icon, states) in _TONES.items() for state in states}
_PAGES = {
    "commit": "/commits/",
    "checkpoint": "/commits/",
    "job": "/jobs/",
    "experiment": "/experiments/",
    "trial": "/trials/",
    "model_version": "/models/",
    "verdict": "/verdicts/",
    "endpoint": "/endpoints/",
    "prediction": "/predictions/",
    "drift_report": "/drift/",
    "change": "/changes/",
    "pipeline": "/pipelines#",
    "trigger": "/triggers/",
    "source": "/sources/",
}
_NOWHERE = frozenset({"datums", "predictions", "thing"})
_SUBJECTS = {
    "commit": "commit",
    "job": "job",
    "pipeline": "pipeline",
    "experiment": "experiment",
    "trial": "trial",
    "model": "model_version",
    "verdict": "verdict",
    "alias": "model_version",
    "revision": "revision",
    "drift": "drift_report",
}


class Chip(Struct, frozen=True, kw_only=True):
    """A state to show: ``tone`` names a colour, ``icon`` says the same without colour."""

    text: str
    tone: str
    icon: str


def chip(state: str) -> Chip:
    """The chip of a state of anything."""
    tone, icon = _STATES.get(state, ("idle", "·"))
    return Chip(text=state.replace("_", " "), tone=tone, icon=icon)


def href(kind: str, identifier: str) -> str:
    """Where the page of a thing is; things without a page of their own have their lineage."""
    if kind == "repo":
        return f"/repos/{quote(identifier)}"
    return _PAGES.get(kind, "/why/") + quote(identifier, safe="")


def link_of(node: Node) -> str:
    """Where a node of the lineage leads: a file has no id of its own but its address."""
    if node.kind == "file":
        on_main = ":/" in node.title and ".checkpoints:" not in node.title
        return f"/why/{quote(node.title)}" if on_main else ""
    return "" if node.kind in _NOWHERE else href(node.kind, node.id)


def subject_link(event: Event) -> str:
    """Where the thing leads that an event is about; '' where it has no page."""
    kind = _SUBJECTS.get(event.kind.partition(".")[0], "")
    return href(kind, event.subject) if kind else ""


def short(identifier: str) -> str:
    """Eight characters of an id; of a digest, without its tag."""
    return ids.short(identifier.rpartition(":")[2])


def ago(moment: datetime | None) -> str:
    """How long ago (or in how long), in one unit."""
    if moment is None:
        return "–"
    seconds = (now() - moment).total_seconds()
    if seconds < -5:
        return f"in {_span(-seconds)}"
    return "just now" if seconds < 5 else f"{_span(seconds)} ago"


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def exact(moment: datetime | None) -> str:
    """The time in UTC, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def duration(seconds: float | None) -> str:
    """A length of time, in one or two units."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def took(start: datetime | None, end: datetime | None) -> str:
    """How long between two moments (until now where there is no second)."""
    return "–" if start is None else duration(((end or now()) - start).total_seconds())


def size(count: float) -> str:
    """Bytes, in a unit that reads well."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def number(value: object) -> str:
    """A number as a person writes it: thousands apart, four figures of a fraction."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return {"inf": "∞", "-inf": "−∞"}.get(str(value), "not a number")
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def metric(value: float | None) -> str:
    """A metric, so that a column of them lines up: four decimals unless it is large or tiny."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 100 else number(value)


def text(value: object) -> str:
    """Any value in one line, as it is (a year has no thousands)."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else number(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def milliseconds(value: float | None) -> str:
    """A latency in three figures, with its unit."""
    return "–" if value is None else f"{value:.3g} ms"


def plural(count: int, word: str) -> str:
    """``1 file``, ``3 files``."""
    ending = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{count:,} {word if count == 1 else ending}"


FILTERS = {
    "chip": chip,
    "short": short,
    "ago": ago,
    "exact": exact,
    "duration": duration,
    "size": size,
    "number": number,
    "metric": metric,
    "ms": milliseconds,
    "line": text,
    "plural": plural,
}
