"""Chunks of a large file on their way out: read, verified and expanded by several threads at once.

Knows nothing of where chunks are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

_HANDS = 2
_AHEAD = 6  # chunks of about a MiB that wait for who reads
_FEW = 3  # so few are not worth threads


def ahead(fetch: Callable[[bytes], bytes], keys: Sequence[bytes]) -> Iterator[bytes]:
    """The chunks of these keys in order, those that come next fetched meanwhile."""
    if len(keys) <= _FEW:
        yield from map(fetch, keys)
        return
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(_HANDS, thread_name_prefix="clew-fetch") as hands:
        try:
            for key in keys:
                waiting.append(hands.submit(fetch, key))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
