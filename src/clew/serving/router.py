"""Which revision answers: by share of traffic, by key, or by version.

Knows nothing of models or requests.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar
from zlib import crc32

from msgspec import Struct

T = TypeVar("T")
_MASK = (1 << 64) - 1
_log, _WHOLE = math.log, 53 * math.log(2)
_ODD_A, _ODD_B = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93


class Arm(Struct, Generic[T], frozen=True, eq=False):
    """One of those that answer. ``name`` stays when weights change; ``propensity``: its chance.

    ``role`` is what the log says of it: live, canary, arm, or pinned where it was asked by version.
    """

    value: T
    name: str
    weight: float
    role: str = "live"
    propensity: float = 1.0


class Router(Generic[T]):
    """Arms with weights.

    A request without a key is drawn at random, so that the propensity is exact. Requests of one key
    go to the same arm in every process; when weights change, only keys that must move do: weighted
    rendezvous hashing (Thaler and Ravishankar 1998; the logarithmic form of Schindelhauer and
    Schomaker, "Weighted distributed hash tables", 2005).
    """

    __slots__ = ("_bounds", "_first", "_last", "_places", "_seeds", "arms")

    def __init__(self, arms: Sequence[Arm[T]], *, seed: int | None = None) -> None:
        shared = [arm for arm in arms if arm.weight > 0]
        total = sum(arm.weight for arm in shared)
        self.arms = [
            Arm(arm.value, arm.name, arm.weight, arm.role, arm.weight / total) for arm in shared
        ]
        self._first = self.arms[0] if len(self.arms) == 1 else None
        self._bounds = list(accumulate(arm.propensity for arm in self.arms))[:-1]
        self._seeds = [(crc32(arm.name.encode()) << 32 | 1, 1 / arm.weight) for arm in self.arms]
        self._last = len(self.arms)
        self._places = random.Random(seed).random  # noqa: S311 - not a secret

    def choose(self, key: str = "") -> Arm[T] | None:
        """An arm; None where there is none."""
        if self._first is not None:
            return self._first
        if not self._last:
            return None
        if key:
            return self._by_key(key)
        return self.arms[bisect_right(self._bounds, self._places())]

    def _by_key(self, key: str) -> Arm[T]:
        """The arm with the smallest of exponential times, each with its weight as the rate."""
        place, best, longest = crc32(key.encode()), 0, -math.inf
        at = 0
        for seed, per_weight in self._seeds:
            mixed = (place ^ seed) * _ODD_A & _MASK
            mixed = (mixed ^ mixed >> 32) * _ODD_B & _MASK
            time = _log((mixed >> 11) + 1) - _WHOLE
            if time * per_weight > longest:
                best, longest = at, time * per_weight
            at += 1  # noqa: SIM113 - counting costs less than enumerate here
        return self.arms[best]
