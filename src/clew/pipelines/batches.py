"""Datums on workers: in batches, with time limits, retries, and the blame put on the right datum.

Knows compute and the worker's messages; knows no rows and no jobs.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from clew.compute import Call, CallError, Compute, Handle
from clew.pipelines.cutting import Group
from clew.pipelines.datums import Unit
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.worker import Report, Task
from clew.store import Store

ENTRY = "clew.pipelines.worker:run_datums"
TARGET_S = 0.5
"""How long a batch should take: long enough to make its overhead small, short enough to share."""

MAX_BATCH = 1000
FIRST_BATCH = 8
OVERHEAD_S = 0.0003
DEATHS_ALLOWED = 2
"""A datum in whose run the worker process ends that often is to blame for it."""

PRIORITY = 1
"""Batches are short: they go before trials that wait for a worker too."""

PAUSE_S = 0.2
MAX_PAUSE_S = 30.0
LOOK_S = 0.1


class Interrupted(Exception):
    """The job was cancelled, or the engine closes."""


class Broken(Exception):
    """No datum can run: the user's file cannot be imported, or the workspace fails."""

    def __init__(self, error: CallError) -> None:
        super().__init__(f"{error.message} {error.hint}".strip())
        self.traceback = error.traceback


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how the datums of one job run."""

    compute: Compute
    store: Store
    step: StepDefinition
    snapshot_dir: Path
    label: str
    interrupted: Callable[[], bool]
    log: Callable[[str], None]
    keep: Callable[[bytes], object]
    """Takes a small output; durable before a row names it."""


@dataclass(frozen=True)
class Item:
    """A datum to run, and why."""

    unit: Unit
    reason: str


@dataclass(frozen=True)
class Result:
    """A datum that has ended."""

    item: Item
    report: Report


@dataclass(eq=False)
class _Batch:
    items: list[Item]
    left: set[int]
    at: int | None = None
    since: float = 0.0
    timed_out: bool = False
    handle: Handle | None = None


@dataclass
class Batches:
    """Runs items; one per job, used by its thread."""

    place: Place
    _pending: deque[Item] = field(default_factory=deque)
    _later: list[tuple[float, int, Item]] = field(default_factory=list)
    _running: list[_Batch] = field(default_factory=list)
    _queue: SimpleQueue[tuple[_Batch, dict[str, Any] | None]] = field(default_factory=SimpleQueue)
    _tries: Counter[str] = field(default_factory=Counter)
    _deaths: Counter[str] = field(default_factory=Counter)
    _numbers: Iterator[int] = field(default_factory=count)
    _mean_s: float | None = None

    def run(self, items: list[Item]) -> Iterator[list[Result]]:
        """Results as they become durable, in any order, each item once.

        An empty list comes now and then while nothing does, so that the caller can write.

        Raises:
            Interrupted: where ``place.interrupted()`` says so, or the pool is closed.
            Broken: where no datum can run.
        """
        self._pending.extend(items)
        try:
            while self._pending or self._later or self._running:
                if self.place.interrupted():
                    raise Interrupted
                self._fill()
                results = self._collect()
                self._check_time()
                yield results
        finally:
            for batch in self._running:
                if batch.handle is not None:
                    batch.handle.cancel()

    # out ------------------------------------------------------------------------------------

    def _fill(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._pending.append(heapq.heappop(self._later)[2])
        while self._pending and len(self._running) < 2 * self.place.compute.size:
            size = self._batch_size()
            self._submit([self._pending.popleft() for _ in range(size)])

    def _batch_size(self) -> int:
        share = -(-len(self._pending) // self.place.compute.size)
        if self._mean_s is None:
            return min(FIRST_BATCH, max(1, share // 2))
        wanted = int(TARGET_S / (self._mean_s + OVERHEAD_S))
        return max(1, min(wanted, MAX_BATCH, share))

    def _submit(self, items: list[Item]) -> None:
        place, step = self.place, self.place.step
        batch = _Batch(items=items, left=set(range(len(items))))
        call = Call(
            entry=ENTRY,
            payload=msgspec.to_builtins(self._task(items)),
            label=place.label,
            memory_bytes=step.memory_bytes,
            snapshot_dir=str(place.snapshot_dir),
            priority=PRIORITY,
        )

        def listen(message: dict[str, Any]) -> None:
            self._queue.put((batch, message))

        batch.handle = place.compute.submit(call, listen)
        self._running.append(batch)
        batch.handle.when_done(lambda: self._queue.put((batch, None)))

    def _task(self, items: list[Item]) -> Task:
        numbers: dict[int, int] = {}
        groups: list[tuple[str, str, list[str], bool]] = []
        datums: list[tuple[str, list[int]]] = []
        for item in items:
            for group in item.unit.groups:
                if id(group) not in numbers:
                    numbers[id(group)] = len(groups)
                    groups.append(_group(group))
            datums.append((item.unit.name, [numbers[id(group)] for group in item.unit.groups]))
        step = self.place.step
        return Task(
            store=self.place.store.address,
            snapshot_dir=str(self.place.snapshot_dir),
            file=step.function.file,
            name=step.function.name,
            parameters=step.parameters,
            expectations=list(step.expectations),
            groups=groups,
            datums=datums,
        )

    # in -------------------------------------------------------------------------------------

    def _collect(self) -> list[Result]:
        """Wait for something to happen, then take all that has."""
        results: list[Result] = []
        wait_s = LOOK_S
        while True:
            try:
                batch, message = (
                    self._queue.get(timeout=wait_s) if wait_s else self._queue.get(False)
                )
            except Empty:
                return results
            wait_s = 0.0
            results += self._ended(batch) if message is None else self._heard(batch, message)

    def _heard(self, batch: _Batch, message: dict[str, Any]) -> Iterator[Result]:
        if "at" in message:
            batch.at, batch.since = message["at"], time.monotonic()
            return
        for file in message["files"]:
            self.place.keep(file)
        for plain in message["done"]:
            report = msgspec.convert(plain, Report)
            batch.left.discard(report.at)
            item = batch.items[report.at]
            self._learn(report.duration_s)
            if report.state != "failed" or not self._again(item):
                yield Result(item, report)

    def _learn(self, duration_s: float) -> None:
        known = self._mean_s
        self._mean_s = duration_s if known is None else 0.9 * known + 0.1 * duration_s

    def _again(self, item: Item) -> bool:
        """Whether a datum that failed is tried once more, after a pause that grows."""
        tries = self._tries[item.unit.key]
        if tries >= self.place.step.retries:
            return False
        self._tries[item.unit.key] += 1
        pause_s = min(PAUSE_S * 2**tries, MAX_PAUSE_S)
        heapq.heappush(self._later, (time.monotonic() + pause_s, next(self._numbers), item))
        return True

    def _ended(self, batch: _Batch) -> Iterator[Result]:
        assert batch.handle is not None
        self._running.remove(batch)
        outcome = batch.handle.result()
        if outcome.log:
            self.place.log(outcome.log)
        error = outcome.error
        if error is not None and error.kind in {"raised", "clew"}:
            raise Broken(error)
        if error is not None and error.kind == "cancelled" and not batch.timed_out:
            raise Interrupted
        if error is not None:
            yield from self._blame(batch, error)

    def _blame(self, batch: _Batch, error: CallError) -> Iterator[Result]:
        """The datum that ran when the worker ended has to answer for it; the rest run again."""
        at = batch.at if batch.at in batch.left else min(batch.left, default=None)
        rest = [batch.items[number] for number in sorted(batch.left) if number != at]
        self._pending.extendleft(reversed(rest))
        if at is None:
            return
        item = batch.items[at]
        if error.kind == "died":
            self._deaths[item.unit.key] += 1
            if self._deaths[item.unit.key] < DEATHS_ALLOWED:
                self._pending.appendleft(item)
                return
        if not self._again(item):
            duration_s = time.monotonic() - batch.since if batch.since else 0.0
            text = self._sentence(batch, error)
            code = f"step.{'timeout' if batch.timed_out else error.kind}"
            report = Report(at, "failed", duration_s, error=text, evidence={"code": code})
            yield Result(item, report)

    def _sentence(self, batch: _Batch, error: CallError) -> str:
        if batch.timed_out:
            return f"It took longer than {self.place.step.timeout_s:g} s and was stopped."
        return f"{error.message} {error.hint}".strip()

    def _check_time(self) -> None:
        limit_s = self.place.step.timeout_s
        if limit_s is None:
            return
        now = time.monotonic()
        for batch in self._running:
            late = batch.at is not None and now - batch.since > limit_s
            if late and not batch.timed_out and batch.handle is not None:
                batch.timed_out = True
                batch.handle.cancel()


def _group(group: Group) -> tuple[str, str, list[str], bool]:
    paths = [path for path, _ in group.files]
    return group.input.parameter, group.tree, paths, group.directory
