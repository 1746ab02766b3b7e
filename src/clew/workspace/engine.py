"""The engine: rounds of work until nothing is left, or until told to stop.

Knows the doors whose turn comes each round; what a turn does is theirs. One engine works on a
workspace at a time: whoever runs it holds the engine lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from clew.base.errors import ClewError
from clew.base.structs import KNOWN
from clew.sources import Feeding
from clew.workspace.acting import Acting
from clew.workspace.graphs import follow_aliases
from clew.workspace.keeping import drop_old_feedback, drop_old_logs
from clew.workspace.rooms import Rooms
from clew.workspace.watching import around_of

SLOW_ROUND_S = 0.5
IDLE_WAIT_S = 0.2
NOTE_EVERY_S = 1.0
"""How often others are told who uses the slots; who is quicker tells nothing."""
TRIGGERS_S = 0.05
"""How late at most triggers look at what happened: events come in bursts."""


class Engine:
    """Does the work of a workspace, on the thread that calls it."""

    def __init__(
        self,
        rooms: Rooms,
        report: Callable[[str], None] = lambda _: None,
        rested: Callable[[], None] = lambda: None,
        *,
        served: bool = False,
    ) -> None:
        """``rested`` is called when nothing has happened for a moment after something had."""
        KNOWN.several_threads()
        self._rooms = rooms
        self._report = report
        self._rested = rested
        self._quiet = _Quiet()
        self._slow_at = 0.0
        self._triggers_at = 0.0
        self._owed = False
        self._feeding: Feeding | None = None
        self._noted_at = time.monotonic()
        self._acting = Acting(rooms, served=served)

    def recover(self) -> None:
        """Take up what an engine that died has left."""
        self._rooms.experiments.tell_excluded()
        self._rooms.pipelines.recover()
        drop_old_logs(self._rooms)
        drop_old_feedback(self._rooms)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; waits for events where there is nothing to do.

        An error of one round (a full disk, say) is reported and the round is tried again later:
        rows keep what is left to do.
        """
        self._feeding = Feeding(self._rooms.sources)
        try:
            self._run(stop)
        finally:  # nothing of ours reads once another engine may take the lock
            self._feeding.close()
            self._feeding = None
            self._acting.close()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            seen = self._rooms.db.events.last()
            try:
                busy = self.round()
            except ClewError as error:
                self._report(f"{error.code}: {error}")
                stop.wait(2.0)
                continue
            if busy or self._something(seen) or self._owed:
                continue
            if self._quiet.now(seen):
                self._rested()

    def _something(self, seen: int) -> bool:
        """Wait for an event after which there may be something to do; False where none comes."""
        events = self._rooms.db.events
        until = time.monotonic() + (TRIGGERS_S if self._owed else IDLE_WAIT_S)
        while events.wait(seen, until - time.monotonic()):
            last = events.last()
            if events.any_after(seen, but=self._rooms.pipelines.moves_nothing):
                return True
            seen = last
        return False

    def run_until_idle(self, done: Callable[[], bool], stop: threading.Event) -> None:
        """Work until ``done`` says so and nothing is left to do at once."""
        looked = False  # rooms that look now and then have had a turn since anything was done
        while not stop.is_set():
            seen = self._rooms.db.events.last()
            if self.round(whole=True):
                looked = False
                continue
            if done():  # a question that such a turn has begun is awaited; the next one is not
                looked = (looked and not self._acting.busy) or not self._slow_turns()
                if looked and not self._acting.busy:
                    self._acting.close()
                    return
            self._rooms.db.events.wait(seen, IDLE_WAIT_S)

    def close(self) -> None:
        """Stop what runs; it is taken up again by the next engine."""
        self._rooms.pipelines.close()

    def round(self, *, whole: bool = False) -> bool:
        """One turn of every room; whether anything was done.

        Triggers have theirs a little later where they have just had one, or a job runs that might
        end by then, unless it is ``whole``.
        """
        rooms = self._rooms
        busy = rooms.pipelines.tick()
        now = time.monotonic()
        if not self._owed and rooms.pipelines.busy:
            self._triggers_at = max(self._triggers_at, now)
        self._owed = not whole and now - self._triggers_at < TRIGGERS_S
        if not self._owed:
            busy |= self._acting.tick()
            self._triggers_at = time.monotonic()
        if time.monotonic() - self._slow_at >= SLOW_ROUND_S:
            busy |= self._slow_turns()
        return busy

    def _slow_turns(self) -> bool:
        """The turns of rooms that need not look all the time; whether anything was done."""
        rooms = self._rooms
        self._slow_at = time.monotonic()
        self._acting.tend()
        if self._feeding is not None:
            self._feeding.tend()
        rooms.experiments.tell_excluded()  # people may have given some back, in another process
        if self._slow_at - self._noted_at >= NOTE_EVERY_S:
            self._noted_at = self._slow_at
            rooms.experiments.note_pools()
        busy = rooms.pipelines.ticks.tick()
        busy |= rooms.serving.tick()
        busy |= rooms.serving.collect() > 0
        busy |= follow_aliases(rooms)
        watched = rooms.monitoring.tick(rooms.models.reference, partial(around_of, rooms))
        busy |= bool(watched)
        return busy


class _Quiet:
    """Whether nothing happens any more after something did; says so once."""

    def __init__(self) -> None:
        self._seen = self._told = -1

    def now(self, last: int) -> bool:
        """``last`` is the newest event, looked at now and then: the same twice is quiet."""
        quiet = last == self._seen != self._told
        self._seen = last
        if quiet:
            self._told = last
        return quiet
