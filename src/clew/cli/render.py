"""How things look in a terminal: ids, times, states, sizes and tables.

Knows no verbs; it turns values into text.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clew.base.clock import now
from clew.base.ids import short

MARKS = {
    "done": ("✓", "green"),
    "finished": ("✓", "green"),
    "blessed": ("✓", "green"),
    "live": ("●", "green"),
    "running": ("▸", "cyan"),
    "open": ("▸", "cyan"),
    "loading": ("▸", "cyan"),
    "canary": ("◐", "cyan"),
    "arm": ("◑", "cyan"),
    "shadow": ("◌", "cyan"),
    "waiting": ("…", "dim"),
    "skipped": ("=", "dim"),
    "skip": ("=", "dim"),
    "run": ("▸", "cyan"),
    "delete": ("-", "red"),
    "retired": ("○", "dim"),
    "draining": ("○", "dim"),
    "blocked": ("⊘", "yellow"),
    "excluded": ("⊘", "yellow"),
    "cancelled": ("⊘", "yellow"),
    "superseded": ("=", "dim"),
    "recovered": ("↻", "yellow"),
    "refused": ("✗", "yellow"),
    "infeasible": ("⊘", "yellow"),
    "overridden": ("!", "yellow"),
    "rolled_back": ("↩", "yellow"),
    "failed": ("✗", "red"),
    "aborted": ("✗", "red"),
    "candidate": ("?", "cyan"),
    "polling": ("▸", "cyan"),
    "failing": ("✗", "red"),
    "active": ("●", "green"),
    "paused": ("‖", "dim"),
    "stopped": ("■", "dim"),
    "pending": ("…", "dim"),
    "added": ("+", "green"),
    "deleted": ("-", "red"),
    "changed": ("~", "yellow"),
}


def state(name: str) -> Text:
    """A state with its mark and colour."""
    mark, style = MARKS.get(name, ("·", ""))
    return Text(f"{mark} {name}", style=style)


def mark(name: str) -> Text:
    """The mark of a state alone."""
    sign, style = MARKS.get(name, ("·", ""))
    return Text(sign, style=style)


def ident(identifier: str | None) -> Text:
    """An id, short."""
    return Text(short(identifier) if identifier else "–", style="cyan" if identifier else "dim")


def size(size_bytes: int) -> str:
    """Bytes for people: 1.5 MB (powers of 1000)."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def amount(number: int, noun: str) -> str:
    """A count with its noun: 1 file, 2,000 files."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def ago(moment: datetime | None) -> str:
    """How long ago, in one unit."""
    if moment is None:
        return "–"
    seconds = max(0, int((now() - moment).total_seconds()))
    for limit, divisor, unit in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{seconds // divisor} {unit} ago"
    return f"{seconds // 86_400} d ago"


def seconds(start: datetime | None, end: datetime | None) -> str:
    """The time between two moments, or from the first until now."""
    if start is None:
        return "–"
    spent = ((end or now()) - start).total_seconds()
    return f"{spent * 1000:.0f} ms" if spent < 1 else f"{spent:.1f} s"


def span(seconds: float) -> str:
    """About how long something takes, in one unit."""
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def number(value: object) -> str:
    """A number with four significant places; whole ones with thousands separated."""
    if isinstance(value, bool) or value is None:
        return "–" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def table(console: Console, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table without lines; columns whose name ends in ``>`` are aligned right."""
    out = Table(box=None, pad_edge=False, header_style="dim", show_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        right = column.endswith(">")
        out.add_column(column.rstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        out.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    console.print(out)
