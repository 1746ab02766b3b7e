"""Wishes of many requests carried out together, a batch at a time.

Knows turns; nothing of what is wished. Whoever has the turn takes all that waits: a lone request
is carried out at once, a hundred that come meanwhile are a few batches.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from msgspec import Struct


class Wished(Struct, kw_only=True, eq=False):
    """What one request wants, and what has become of it."""

    error: Exception | None = None
    done: bool = False


W = TypeVar("W", bound=Wished)


class Line(Generic[W]):
    """Wishes in the order of their coming. Thread-safe.

    ``work`` carries a batch out and sets ``error`` of those that it refuses. Hold ``turn`` to keep
    it from working.
    """

    def __init__(self, work: Callable[[list[W]], None]) -> None:
        self._work = work
        self._queue: list[W] = []
        self._mutex = Lock()
        self.turn = Lock()

    def carry_out(self, wish: W) -> None:
        """Return when the wish is carried out. Raises what it was refused with."""
        with self._mutex:
            self._queue.append(wish)
        with self.turn:
            if not wish.done:
                with self._mutex:
                    batch, self._queue = self._queue, []
                self._work(batch)
                for one in batch:
                    one.done = True
        if wish.error is not None:
            raise wish.error


def whole_or_each(act: Callable[[list[W]], None], batch: list[W]) -> None:
    """Act on a batch; where that fails, on each alone, to find out whose fault it is.

    Such as a path that would be both a file and a directory. Whoever wished it learns the error.
    """
    try:
        act(batch)
    except Exception as error:  # noqa: BLE001 - whoever wished for it raises it
        if len(batch) == 1:
            batch[0].error = error
            return
        for one in batch:
            whole_or_each(act, [one])
