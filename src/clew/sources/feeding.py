"""Threads that read sources while a server works: one for each that is not paused.

Knows when to begin and to end; what a turn does is the room's.
"""

from __future__ import annotations

import logging
import threading

from msgspec import Struct, field

from clew.base.errors import ClewError
from clew.sources.sources import Sources

_LOOK_S = 1.0


class _Worker(Struct):
    """One thread, and how it is told to end."""

    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class Feeding:
    """Reads all sources of a workspace, each on a thread of its own. Owned by one thread."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._workers: dict[str, _Worker] = {}

    def tend(self) -> None:
        """Begin with sources that are new or resumed, end with those that went or are paused."""
        wanted = {name for name, _ in self._sources.due()}
        for name in [name for name in self._workers if name not in wanted]:
            self._end([name])
        for name in wanted:
            known = self._workers.get(name)
            if known is None or (known.thread is not None and not known.thread.is_alive()):
                self._begin(name)

    def close(self) -> None:
        """End all of them; what was read and not committed is read again."""
        self._end(list(self._workers))

    def _begin(self, name: str) -> None:
        worker = _Worker()
        worker.thread = threading.Thread(
            target=self._work, args=(name, worker.stop), name=f"source {name}", daemon=True
        )
        self._workers[name] = worker
        worker.thread.start()

    def _end(self, names: list[str]) -> None:
        ending = [self._workers.pop(name) for name in names]
        for worker in ending:
            worker.stop.set()
        for worker in ending:
            if worker.thread is not None:
                worker.thread.join()

    def _work(self, name: str, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self._turn(name, stop)
        except Exception:
            logging.getLogger("clew.sources").exception("source %s", name)
            stop.wait(_LOOK_S)
        finally:
            self._sources.leave(name)

    def _turn(self, name: str, stop: threading.Event) -> None:
        """One turn, and the pause that comes after it."""
        try:
            _, more = self._sources.turn(name, stop.is_set)
            if more:
                return
        except ClewError as error:
            logging.getLogger("clew.sources").debug("source %s: %s", name, error)
            stop.wait(max(dict(self._sources.due()).get(name, 0.0), 0.05))
            return
        wait_s = dict(self._sources.due()).get(name, 0.0)
        self._sources.wait(name, max(wait_s, 0.01), stop.wait)
