"""The end of the event log, followed once for all who listen.

Knows nothing of HTTP: it turns the verb ``events`` into async iteration.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TypeVar

import anyio.to_thread

from clew.base.records import Event
from clew.base.verbs import Verbs

Changed = Callable[[int, float], bool]
"""(seq, timeout_s) → whether an event after ``seq`` is there; waits for it, in a thread."""
T = TypeVar("T")
_PAUSE_S = 0.1
_BATCH = 1000
_KEPT = 10_000


class Tail:
    """Follows the events of a workspace while anybody listens; one reader for all listeners.

    Belongs to one event loop. Holds the latest 10,000 events; a listener that is further behind
    reads from the log.
    """

    def __init__(self, verbs: Verbs, changed: Changed | None = None) -> None:
        self._verbs = verbs
        self._changed = changed
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._last = 0
        self._listeners = 0
        self._news = asyncio.Event()
        self._closed = False
        self._follower: asyncio.Task[None] | None = None
        self._threads = anyio.CapacityLimiter(4)

    async def last(self) -> int:
        """The sequence number of the latest event, 0 where there is none."""
        return await self._thread(self._find_last)

    async def follow(self, after: int) -> AsyncGenerator[Event | None, None]:
        """Every event after ``after``, as it happens; None now and then while nothing does.

        Ends when the tail is closed.
        """
        at = after
        self._listeners += 1
        try:
            while not self._closed:
                self._start(at)
                news = self._news
                for event in await self._after(at):
                    at = event.seq
                    yield event
                if self._last <= at and not await _set_within(news, 10.0):
                    yield None
        finally:
            self._listeners -= 1

    async def after(self, at: int) -> list[Event]:
        """Up to 1,000 events after ``at``, from the log."""
        return await self._thread(lambda: list(self._verbs.events(after=at, limit=_BATCH)))

    def close(self) -> None:
        """End every listener."""
        self._closed = True
        self._tell()
        if self._follower is not None:
            self._follower.cancel()

    def _start(self, after: int) -> None:
        """A follower, where none runs; the error of one that failed goes to the listener."""
        follower = self._follower
        if follower is not None and not follower.done():
            return
        self._kept.clear()
        self._last = after
        self._follower = asyncio.get_running_loop().create_task(self._run())
        if follower is not None and not follower.cancelled():
            follower.result()

    async def _run(self) -> None:
        while self._listeners and not self._closed:
            events = await self.after(self._last)
            if events:
                self._kept.extend(events)
                self._last = events[-1].seq
                self._tell()
            elif self._changed is None:
                await asyncio.sleep(_PAUSE_S)
            else:
                await self._thread(partial(self._changed, self._last, 1.0))

    async def _after(self, at: int) -> list[Event]:
        if self._kept and self._kept[0].seq <= at + 1:
            return [event for event in self._kept if event.seq > at]
        return await self.after(at)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _thread(self, act: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(act, limiter=self._threads, abandon_on_cancel=True)

    def _find_last(self) -> int:
        """By doubling and halving: the log answers whether anything is after a number."""
        low, high = 0, 1
        while self._any_after(high):
            low, high = high, high * 2
        if low == 0 and not self._any_after(0):
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._any_after(middle) else (low, middle)
        return high

    def _any_after(self, seq: int) -> bool:
        return next(iter(self._verbs.events(after=seq, limit=1)), None) is not None


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
