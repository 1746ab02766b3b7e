"""Which revision answers: by share of traffic, by key, or by version.

Knows nothing of models or requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar
from zlib import crc32

T = TypeVar("T")


class Router(Generic[T]):
    """Arms with weights. Requests without a key are spread smoothly: with weights 90 and 10,
    every tenth goes to the second arm. Requests of one key always go to the same arm.
    """

    __slots__ = ("_arms", "_credit", "_total", "_weights")

    def __init__(self, arms: Sequence[tuple[T, int]]) -> None:
        self._arms = [arm for arm, weight in arms if weight > 0]
        self._weights = [weight for _, weight in arms if weight > 0]
        self._credit = [0] * len(self._arms)
        self._total = sum(self._weights)

    def choose(self, key: str = "") -> T | None:
        """An arm; None where there is none."""
        arms = self._arms
        if len(arms) < 2:
            return arms[0] if arms else None
        return self._by_key(key) if key else self._smoothly()

    def _smoothly(self) -> T:
        """Smooth weighted round robin, as nginx does it."""
        credit = self._credit
        for at, weight in enumerate(self._weights):
            credit[at] += weight
        best = credit.index(max(credit))
        credit[best] -= self._total
        return self._arms[best]

    def _by_key(self, key: str) -> T:
        """Arms stand in the order given; a growing first weight keeps its keys."""
        place = crc32(key.encode()) % self._total
        for arm, weight in zip(self._arms, self._weights, strict=True):
            if place < weight:
                return arm
            place -= weight
        return self._arms[-1]
