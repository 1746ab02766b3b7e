"""What clients ask that waits for rows: in threads of their own, so many at once and no more.

Knows no transport and no rows. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST = 64
"""Questions of one kind that may wait, or be answered, at once."""
TOO_MANY = f"{MOST} such questions wait already; retry later."
T = TypeVar("T")


class Questions:
    """Acts in threads. Such as may wait long (``slow``) have threads and places of their own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads = {
            slow: ThreadPoolExecutor(4, thread_name_prefix="slow-question" if slow else "question")
            for slow in (False, True)
        }
        self._waiting = {False: 0, True: 0}

    def ask(self, act: Callable[[], T], *, slow: bool = False) -> asyncio.Future[T] | None:
        """What it returns or raises, once it does; None where too many wait."""
        if self._waiting[slow] >= MOST:
            return None
        self._waiting[slow] += 1
        future = self._loop.run_in_executor(self._threads[slow], act)
        future.add_done_callback(lambda _: self._answered(slow=slow))
        return future

    def _answered(self, *, slow: bool) -> None:
        self._waiting[slow] -= 1
