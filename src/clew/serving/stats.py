"""Counts of what a revision answered, and quantiles from buckets.

Knows nothing of requests or rows: numbers in, numbers out.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct, field
from msgspec.structs import replace

BOUNDS_S = (
    0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075,
    0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
"""Upper bounds of the latency buckets; one more bucket holds what is above the last."""


EXACT_SIZES = 64
"""Batches of up to so many rows are counted by their size, larger ones by the next power of two."""


class Executions(Struct, frozen=True, array_like=True):
    """How often a batch size was executed, and how long each part of it took, in seconds."""

    count: int = 0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0

    def plus(self, other: Executions, sign: int = 1) -> Executions:
        """The sum (or, with -1, the difference)."""
        return Executions(
            self.count + sign * other.count,
            self.input_s + sign * other.input_s,
            self.infer_s + sign * other.infer_s,
            self.output_s + sign * other.output_s,
        )


class Work(Struct, frozen=True, kw_only=True):
    """What answering took, in seconds, summed over requests (a batch counts for each of its own).

    ``failed`` requests were answered with something else than 200. ``overloads`` were answered with
    429 and ``expired`` with 504 (no requests of the revision: it never saw them). ``rows`` is what
    the model predicted. ``queue_s``: from the last byte of a request to the beginning of its batch,
    reading and checking it included. ``input_s``: making one batch of several requests.
    ``infer_s``: the model. ``output_s``: from its outputs to the answers. ``last_us``: the last
    answer, in microseconds since the Unix epoch. ``batches``: rows of a batch → executions of that
    size.
    """

    failed: int = 0
    overloads: int = 0
    expired: int = 0
    failed_s: float = 0.0
    rows: int = 0
    queue_s: float = 0.0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0
    last_us: int = 0
    batches: dict[int, Executions] = field(default_factory=dict)

    @property
    def executions(self) -> int:
        """How often the model was asked and answered."""
        return sum(each.count for each in self.batches.values())

    def plus(self, other: Work, sign: int = 1) -> Work:
        """The sum; with -1 what came since ``other``."""
        sizes = sorted(self.batches.keys() | other.batches.keys())
        none = Executions()
        sums = {
            size: self.batches.get(size, none).plus(other.batches.get(size, none), sign)
            for size in sizes
        }
        return Work(
            **{name: getattr(self, name) + sign * getattr(other, name) for name in _SUMMED},
            last_us=max(self.last_us, other.last_us),
            batches={size: each for size, each in sums.items() if each.count},
        )


_SUMMED = (
    "failed", "overloads", "expired", "failed_s", "rows", "queue_s", "input_s", "infer_s",
    "output_s",
)  # fmt: skip
Bins = dict[str, dict[str, int]]
"""Output → bin → how many answers had a value in it (``sketches``)."""
_NUMBERS = (
    "requests", "errors", "rejected", "nans", "latency_s", "assigned", "compared", "disagreed",
    "dropped",
)  # fmt: skip


class Counts(Struct, frozen=True, kw_only=True):
    """What was answered in a span of time.

    ``requests`` counts every answer, ``errors`` those that the model failed at, ``rejected`` those
    whose input was refused, ``nans`` those with a NaN among the outputs. ``assigned``: those that
    were drawn among several arms. Of a shadow, ``compared``: copies that were compared with the
    live answer, ``disagreed``: those that differed, ``dropped``: copies left out under load.
    ``outputs`` are counted while an endpoint has several arms.
    """

    requests: int = 0
    errors: int = 0
    rejected: int = 0
    nans: int = 0
    latency_s: float = 0.0
    assigned: int = 0
    compared: int = 0
    disagreed: int = 0
    dropped: int = 0
    buckets: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    work: Work = Work()
    outputs: Bins = {}

    def __add__(self, other: Counts) -> Counts:
        return self._with(other, 1)

    def __sub__(self, other: Counts) -> Counts:
        return self._with(other, -1)

    def _with(self, other: Counts, sign: int) -> Counts:
        numbers = {name: getattr(self, name) + sign * getattr(other, name) for name in _NUMBERS}
        return Counts(
            **numbers,
            buckets=tuple(
                mine + sign * theirs
                for mine, theirs in zip(self.buckets, other.buckets, strict=True)
            ),
            work=self.work.plus(other.work, sign),
            outputs=added(self.outputs, other.outputs, sign),
        )

    def with_expired(self) -> Counts:
        """The same, where requests whose deadline passed (504) count as failed: whoever compares
        revisions asks what callers got, and these got nothing.
        """
        lost = self.work.expired
        return replace(self, requests=self.requests + lost, errors=self.errors + lost)

    def rate(self, count: int) -> float:
        """``count`` as a share of the requests; 0 without any."""
        return count / self.requests if self.requests else 0.0


def added(mine: Bins, theirs: Bins, sign: int = 1) -> Bins:
    """Bins of both together, or (``sign`` -1) those of the first without the second."""
    if not theirs:
        return mine
    total = {name: dict(bins) for name, bins in mine.items()}
    for name, bins in theirs.items():
        into = total.setdefault(name, {})
        for bin, count in bins.items():
            into[bin] = into.get(bin, 0) + sign * count
    return {name: {bin: n for bin, n in bins.items() if n} for name, bins in total.items()}


class Account:
    """Counts that grow. One thread adds, others may take a snapshot.

    ``outputs`` is replaced, never changed, by the thread that counts them.
    """

    __slots__ = (
        "assigned", "batches", "buckets", "compared", "disagreed", "dropped", "errors", "expired",
        "failed", "failed_s", "infer_s", "input_s", "last_us", "latency_s", "nans", "output_s",
        "outputs", "overloads", "queue_s", "rejected", "requests", "rows",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests = self.errors = self.rejected = self.nans = self.failed = self.rows = 0
        self.overloads = self.expired = 0
        self.latency_s = self.failed_s = 0.0
        self.queue_s = self.input_s = self.infer_s = self.output_s = 0.0
        self.last_us = 0
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.batches: dict[int, list[float]] = {}
        self.assigned = self.compared = self.disagreed = self.dropped = 0
        self.outputs: Bins = {}

    def add(self, latency_s: float) -> None:
        """One answer that took so long."""
        self.requests += 1
        self.latency_s += latency_s
        self.buckets[bisect_left(BOUNDS_S, latency_s)] += 1

    def fail(self, latency_s: float) -> None:
        """That answer was a refusal or an error."""
        self.failed += 1
        self.failed_s += latency_s

    def execute(
        self, requests: int, rows: int, queue_s: float, input_s: float, infer_s: float
    ) -> list[float]:
        """One batch that the model answered; where the time of its answers is to be added."""
        self.last_us = time.time_ns() // 1000
        self.rows += rows
        self.queue_s += queue_s
        self.input_s += requests * input_s
        self.infer_s += requests * infer_s
        size = rows if rows <= EXACT_SIZES else 1 << (rows - 1).bit_length()
        sums = self.batches.get(size)
        if sums is None:
            sums = self.batches[size] = [0, 0.0, 0.0, 0.0]
        sums[0] += 1
        sums[1] += input_s
        sums[2] += infer_s
        return sums

    def snapshot(self) -> Counts:
        """The counts so far."""
        return Counts(
            requests=self.requests,
            errors=self.errors,
            rejected=self.rejected,
            nans=self.nans,
            latency_s=self.latency_s,
            assigned=self.assigned,
            compared=self.compared,
            disagreed=self.disagreed,
            dropped=self.dropped,
            buckets=tuple(self.buckets),
            work=Work(
                **{name: getattr(self, name) for name in _SUMMED},
                last_us=self.last_us,
                batches={
                    size: Executions(int(count), *times)
                    for size, (count, *times) in self.batches.copy().items()
                },
            ),
            outputs=self.outputs,
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


def above(buckets: Sequence[int], bound_s: float) -> float:
    """How many answers took longer than a bound, linear within its bucket."""
    total = 0.0
    for at, count in enumerate(buckets):
        if not count:
            continue
        low = BOUNDS_S[at - 1] if at else 0.0
        if low >= bound_s:
            total += count
        elif at < len(BOUNDS_S) and BOUNDS_S[at] > bound_s:
            total += count * (BOUNDS_S[at] - bound_s) / (BOUNDS_S[at] - low)
    return total
