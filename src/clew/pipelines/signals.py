"""How others speak to the thread of a job, and how they see what it does now.

Knows flags and clocks; who sets them and who obeys is elsewhere.
"""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import Protocol

from msgspec import Struct, field

from clew.pipelines.datums import Unit


class Live(Struct, frozen=True):
    """A datum that runs now, and for how long."""

    unit: Unit
    reason: str
    spent_s: float


class Watched(Protocol):
    """What runs the datums of a job."""

    def live(self) -> list[Live]:
        """The datums that run now. May be asked from any thread."""
        ...


class Signals(Struct):
    """Flags for one job. Thread-safe.

    ``draining``: begin nothing more, and stop when what runs has ended. ``closing`` and
    ``cancelled``: stop at once. ``restarts`` are keys of datums to begin anew.
    """

    cancelled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    draining: threading.Event = field(default_factory=threading.Event)
    pausing: threading.Event = field(default_factory=threading.Event)
    restarts: SimpleQueue[str] = field(default_factory=SimpleQueue)
    batches: Watched | None = None
    limit_s: float = 0.0
    _deadline: float | None = None

    def limit(self, seconds: float | None) -> None:
        """Let the job be late after so many seconds from now."""
        if seconds is not None:
            self.limit_s, self._deadline = seconds, time.monotonic() + seconds

    @property
    def late(self) -> bool:
        """Whether the job has run longer than it may."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def interrupted(self) -> bool:
        """Whether to stop now."""
        return self.cancelled.is_set() or self.closing.is_set() or self.late

    def ending(self) -> bool:
        """Whether to stop as soon as that costs nothing."""
        return self.interrupted() or self.draining.is_set()

    def live(self) -> list[Live]:
        """The datums that run now."""
        return self.batches.live() if self.batches is not None else []
