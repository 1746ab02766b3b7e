"""What it is to read a feed: from a position, the next increment.

Knows no kind of feed and no repo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct, field

from clew.base import clock
from clew.base.errors import Unavailable
from clew.db import Tx

Position = dict[str, Any]
Bytes = bytes | Path


class Place(Struct, frozen=True, kw_only=True):
    """Where a reader goes on. ``marks`` are loaded when they are asked for."""

    position: Position
    marks: Callable[[], dict[str, str]]


class Increment(Struct, frozen=True, kw_only=True):
    """What is new: files to put and paths to delete, and where reading goes on after it.

    ``marked`` and ``unmarked`` change the marks; ``check`` is called inside the transaction that
    commits, and whatever it raises undoes it. With no ``puts`` and no ``deletes`` only the
    position moves. ``more``: there is something left already. ``items`` are counted for people:
    rows, messages, files.
    """

    puts: Mapping[str, Bytes] = field(default_factory=dict)
    deletes: Sequence[str] = ()
    position: Position
    marked: Mapping[str, str] = field(default_factory=dict)
    unmarked: Sequence[str] = ()
    items: int = 0
    size_bytes: int = 0
    more: bool = False
    message: str = ""
    check: Callable[[Tx], None] = lambda _: None


class Standing(Struct, frozen=True, kw_only=True):
    """How far behind a feed is: ``lag`` in its own items (None: not known), and a note."""

    lag: int | None = None
    note: str = ""


class Reader(Protocol):
    """Reads one feed; one thread at a time. It keeps nothing that a crash may lose."""

    def read(self, place: Place, stop: Callable[[], bool]) -> Increment | None:
        """The next increment after a place, or None where there is nothing (yet).

        May wait for a batch to fill; returns soon after ``stop`` says so. Called again with the
        same place it gives at least what it gave, unless :meth:`committed` was called.
        """
        ...

    def committed(self, position: Position) -> None:
        """This position is durable: what was handed out may be acknowledged.

        Also called once before the first read, with the position that was found.
        """
        ...

    def standing(self) -> Standing:
        """How far behind it was at the last read."""
        ...

    def wait(self, timeout_s: float, stopped: Callable[[float], bool]) -> bool:
        """Wait for something to read, or until ``stopped(seconds)`` says so; whether it stopped."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Surroundings(Struct, frozen=True, kw_only=True):
    """What readers stand on: secrets, rows, the time, and a directory for temporary files."""

    secret: Callable[[str], str]
    """The text behind ``env:NAME`` or ``file:PATH``; a text that is no reference stays."""
    read: Callable[[], AbstractContextManager[Tx]]
    scratch: Path
    clock: Clock
    root: Path
    """Relative directories of definitions are below it."""


class Clock:
    """The time, as tests may replace it."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return clock.to_us(clock.now())


def extra_missing(what: str, module: str | None, extra: str) -> Unavailable:
    """The error for a library that is not installed."""
    return Unavailable(
        "extra.missing",
        f"{what} needs {module}, which is not installed.",
        hint=f"pip install {extra}",
    )


def file_name(moment_us: int, number: int, suffix: str) -> str:
    """The path of an increment: by time, and never that of another one of its source."""
    moment = datetime.fromtimestamp(moment_us / 1e6, UTC)
    return f"/{moment:%Y%m%dT%H%M%S}-{number:06d}{suffix}"


def plain_wait(timeout_s: float, stopped: Callable[[float], bool]) -> bool:
    """Wait, where nothing tells of something to read."""
    return stopped(timeout_s)
