"""Memory that a long-lived process has let go of, given back to the system.

Knows the allocator of glibc, and does nothing where there is another. CPython frees what it does
not need, but the C library keeps it: for each thread, in an arena of its own, in case it is needed
again. After a job of 100,000 datums that was most of what the server held.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_ARENA_MAX = -8
"""``M_ARENA_MAX`` of ``mallopt`` (malloc.h)."""

_ARENAS = 2


def few_arenas() -> None:
    """From now on let threads share arenas. To be called before there are many threads."""
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Give pages that hold nothing back to the system: some milliseconds, where there is much."""
    malloc_trim = _c_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _c_function(name: str) -> Callable[..., object] | None:
    return getattr(ctypes.CDLL(None), name, None)
