"""Which models a serving process holds in memory, where it is not to hold all of them.

Knows no rows and no loading: values in, names out.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Mapping
from queue import SimpleQueue
from typing import Protocol

from msgspec import Struct

RESTLESS = frozenset({"loading", "canary", "arm", "shadow"})
"""States of revisions that are watched: their endpoint stays in memory with all that it has."""


class Wake(Struct, frozen=True):
    """Somebody asks for what sleeps: a version of an endpoint, or '' for what has its traffic.

    ``done`` is set when it is in memory, or cannot come.
    """

    endpoint: str
    version: str
    done: threading.Event | None = None


class Wakes:
    """Who asks for what sleeps, in their order. Thread-safe.

    Whoever asks again for what is already asked for adds nothing; and who asked before an attempt
    to load it ended has that answer, so one request costs one attempt. One that is waited for
    (``done``) is always tried.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Wake | None] = SimpleQueue()
        self._asked: dict[tuple[str, str], int] = {}  # the last who asked, by what is queued
        self._failed: dict[str, int] = {}
        self._number = 0

    def ask(self, wake: Wake | None) -> None:
        """Queue it (None: the end)."""
        with self._lock:
            if wake is not None and wake.done is None:
                key = wake.endpoint, wake.version
                queued = key in self._asked
                self._asked[key] = self._next()
                if queued:
                    return
            self._queue.put(wake)

    def get(self) -> tuple[Wake | None, int]:
        """The next, and its place among those who asked and what failed; waits for it."""
        wake = self._queue.get()
        with self._lock:
            if wake is None or wake.done is not None:
                return wake, self._next()
            return wake, self._asked.pop((wake.endpoint, wake.version))

    def fail(self, revision: str) -> None:
        """An attempt to load it has failed: call it before anybody is told."""
        with self._lock:
            self._failed[revision] = self._next()

    def keep(self, revisions: Container[str]) -> None:
        """Forget what is not served any more."""
        with self._lock:
            self._failed = {id: at for id, at in self._failed.items() if id in revisions}

    def is_new(self, revision: str, asked: int) -> bool:
        """Whether nobody has tried to load it since that place."""
        with self._lock:
            return self._failed.get(revision, 0) < asked

    def _next(self) -> int:
        self._number += 1
        return self._number


class Holding(Struct, frozen=True, kw_only=True):
    """How many models a process holds. ``most`` 0: all of them; ``idle_s`` 0: for ever.

    ``most`` counts revisions. What is beyond it goes, the one that was asked longest ago first;
    so does what nobody has asked for ``idle_s``. Both come back when they are asked for.
    """

    most: int = 0
    idle_s: float = 0.0

    @property
    def all(self) -> bool:
        """Whether everything is held, always."""
        return not self.most and not self.idle_s


class Asked(Protocol):
    """A model in memory, as far as it matters here."""

    waiting: int
    """Requests that are not answered yet."""

    @property
    def asked_us(self) -> int:
        """When it was last asked for, or loaded; in microseconds since the Unix epoch."""
        ...


def sleepers(
    held: Mapping[str, Asked], holding: Holding, now_us: int, others: int = 0
) -> list[str]:
    """Names of those that go to sleep now; ``others`` take places too, and stay.

    Those that have something to answer stay.
    """
    may = [name for name, each in held.items() if not each.waiting]
    may.sort(key=lambda name: held[name].asked_us)
    going = []
    if holding.idle_s:
        since_us = now_us - int(holding.idle_s * 1e6)
        going = [name for name in may if held[name].asked_us < since_us]
    if holding.most:
        beyond = len(held) - len(going) + others - holding.most
        going += [name for name in may if name not in going][: max(0, beyond)]
    return going
