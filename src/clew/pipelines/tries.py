"""Which datums that failed are tried again, and when.

Knows policies and clocks; what a datum is does not matter here, but that it has a key.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Generic, Protocol, TypeVar

from clew.base.records.policy import Backoff, Policy


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


class _Item(Protocol):
    @property
    def unit(self) -> _Keyed: ...


T = TypeVar("T", bound=_Item)


class Tries(Generic[T]):
    """The tries of the datums of one job. Used by one thread."""

    def __init__(self, retries: int, policy: Policy) -> None:
        self._retries = retries
        self._policy = policy
        self._tries = Counter[str]()
        self._numbers = count()
        self.later: list[tuple[float, int, T]] = []
        """Those that wait for their next try."""

    def again(self, item: T, evidence: Mapping[str, object]) -> float | None:
        """Seconds until a datum that failed is tried once more; None where it has failed for good.

        ``evidence`` holds the ``code`` of the failure and the ``types`` of the exception.
        """
        tries = self._tries[item.unit.key]
        if tries >= self._retries or not _wanted(self._policy.retry_on, evidence):
            return None
        self._tries[item.unit.key] += 1
        pause_s = pause_of(self._policy.backoff, tries)
        heapq.heappush(self.later, (time.monotonic() + pause_s, next(self._numbers), item))
        return pause_s

    def due(self) -> Iterator[T]:
        """Those whose pause is over."""
        now = time.monotonic()
        while self.later and self.later[0][0] <= now:
            yield heapq.heappop(self.later)[2]


def pause_of(backoff: Backoff, tries: int) -> float:
    """The pause after so many tries before this one: exponential, bounded, shortened at random."""
    longest = backoff.max_s / backoff.first_s if backoff.first_s else 0.0
    grown = backoff.first_s * min(longest, backoff.factor ** min(tries, 60))
    return min(backoff.max_s, grown) * (1 - backoff.jitter * random.random())  # noqa: S311 - no secret


def _wanted(names: tuple[str, ...], evidence: Mapping[str, object]) -> bool:
    types = evidence.get("types", [])
    assert isinstance(types, list)
    return not names or not {evidence.get("code"), *types}.isdisjoint(names)
