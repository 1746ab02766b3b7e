"""Counts of what a revision answered, and quantiles from buckets.

Knows nothing of requests or rows: numbers in, numbers out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct

BOUNDS_S = (
    0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075,
    0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
"""Upper bounds of the latency buckets; one more bucket holds what is above the last."""


class Counts(Struct, frozen=True, kw_only=True):
    """What was answered in a span of time.

    ``requests`` counts every answer, ``errors`` those that the model failed at, ``rejected`` those
    whose input was refused, ``nans`` those with a NaN among the outputs.
    """

    requests: int = 0
    errors: int = 0
    rejected: int = 0
    nans: int = 0
    latency_s: float = 0.0
    buckets: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)

    def __add__(self, other: Counts) -> Counts:
        return self._with(other, 1)

    def __sub__(self, other: Counts) -> Counts:
        return self._with(other, -1)

    def _with(self, other: Counts, sign: int) -> Counts:
        return Counts(
            requests=self.requests + sign * other.requests,
            errors=self.errors + sign * other.errors,
            rejected=self.rejected + sign * other.rejected,
            nans=self.nans + sign * other.nans,
            latency_s=self.latency_s + sign * other.latency_s,
            buckets=tuple(
                mine + sign * theirs
                for mine, theirs in zip(self.buckets, other.buckets, strict=True)
            ),
        )

    def rate(self, count: int) -> float:
        """``count`` as a share of the requests; 0 without any."""
        return count / self.requests if self.requests else 0.0


class Account:
    """Counts that grow. One thread adds, others may take a snapshot."""

    __slots__ = ("buckets", "errors", "latency_s", "nans", "rejected", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = self.rejected = self.nans = 0
        self.latency_s = 0.0
        self.buckets = [0] * (len(BOUNDS_S) + 1)

    def add(self, latency_s: float) -> None:
        """One answer that took so long."""
        self.requests += 1
        self.latency_s += latency_s
        self.buckets[bisect_left(BOUNDS_S, latency_s)] += 1

    def snapshot(self) -> Counts:
        """The counts so far."""
        return Counts(
            requests=self.requests,
            errors=self.errors,
            rejected=self.rejected,
            nans=self.nans,
            latency_s=self.latency_s,
            buckets=tuple(self.buckets),
        )


def quantile_s(buckets: Sequence[int], share: float) -> float | None:
    """The latency below which ``share`` of the answers lie, linear within its bucket, in seconds.

    None without any answer. What is above the last bound counts as the last bound.
    """
    total = sum(buckets)
    if total <= 0:
        return None
    rank, below = share * total, 0
    for at, count in enumerate(buckets[:-1]):
        if count and below + count >= rank:
            low = BOUNDS_S[at - 1] if at else 0.0
            return low + (BOUNDS_S[at] - low) * (rank - below) / count
        below += count
    return BOUNDS_S[-1]
