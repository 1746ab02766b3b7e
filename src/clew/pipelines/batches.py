"""Datums on workers: in batches, with time limits, retries, and the blame put on the right datum.

Knows compute and the worker's messages; knows no rows and no jobs.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from clew.base.records import CodeRef
from clew.compute import Call, CallError, Compute, Handle
from clew.pipelines.cutting import Group
from clew.pipelines.datums import Unit, datum_id
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.logs import rest_of
from clew.pipelines.programs import ProgramTask
from clew.pipelines.signals import Live, Signals
from clew.pipelines.tries import Tries
from clew.pipelines.turns import Slots
from clew.pipelines.worker import ASK_S, FEW_DATUMS, SMALL_BYTES, Report, Task
from clew.store import Store

ENTRY = "clew.pipelines.worker:run_datums"
TARGET_S = 0.5
"""How long a batch should take: long enough to make its overhead small, short enough to share."""

MAX_BATCH = 1000
STRAGGLES_S = 5 * ASK_S
"""A datum that runs for so long loses what is behind it to workers that have nothing to do."""

FIRST_BATCH = 8
OVERHEAD_S = 0.0003
DEATHS_ALLOWED = 2
"""A datum in whose run the worker process ends that often is to blame for it."""

LOSSES_ALLOWED = 20
"""So often a datum is run again whose machine went away: one may be too much for every machine."""

PRIORITY = 1
"""Batches are short: they go before trials that wait for a worker too."""

AHEAD = 2
"""So many batches for each worker are handed over at most: the rest waits here, not in the pool."""

LOOK_S = 0.1


class Interrupted(Exception):
    """The job was cancelled, paused or is late, or the engine closes."""


class Broken(Exception):
    """No datum can run: the user's file cannot be imported, or the workspace fails."""

    def __init__(self, error: CallError) -> None:
        super().__init__(f"{error.message} {error.hint}".strip())
        self.traceback = error.traceback


class Place(Struct, frozen=True, kw_only=True):
    """Where and how the datums of one job run. ``log`` takes (id of a datum or '', text)."""

    compute: Compute
    store: Store
    step: StepDefinition
    snapshot_dir: Path
    label: str
    signals: Signals
    log: Callable[[Sequence[tuple[str, str]]], None]
    keep: Callable[[bytes], object]
    """Takes a small output; durable before a row names it."""
    pipeline: str = ""
    priority: int = 0
    slots: Slots = field(default_factory=Slots)
    slots_limit: int | None = None
    variables: dict[str, str] = field(default_factory=dict)
    """What a program is told of its job."""
    environment: dict[str, str] = field(default_factory=dict)
    """What user code finds in its environment."""
    program: tuple[str, ...] = ()
    """How workers are started, where not as usual."""
    programs: str = ""
    """Where the programs of the step's own environment are."""


class Item(Struct, frozen=True):
    """A datum to run, and why. ``failed`` is its report where it is for the handler of errors."""

    unit: Unit
    reason: str
    failed: Report | None = None


class Result(Struct, frozen=True):
    """A datum that has ended."""

    item: Item
    report: Report


class _Batch(Struct, eq=False):
    items: list[Item]
    left: set[int]
    at: int | None = None
    since: float = 0.0
    ended_as: str = ""
    """Why we ended it: ``timeout``, ``restart`` or ``drained``."""
    last: int | None = None
    """The datum that ran when the draining began."""
    told: int = 0
    handle: Handle | None = None
    until: int = 0
    """Where the items that are its own end: those behind went to others."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.until = len(self.items)

    def grant(self, at: int) -> dict[str, object]:
        """The worker asks, before datum ``at``, how far it may go. On any thread."""
        with self.lock:
            if at < self.until:
                self.at, self.since = at, time.monotonic()
            return {"until": self.until}

    def give_up(self, older_than_s: float) -> list[Item]:
        """What is behind a datum that has run for so long: it is not its own any more.

        A worker asks at least every ``ASK_S``, so it cannot have gone on meanwhile; where it has
        (its message was late), what it then reports of these counts for nothing.
        """
        with self.lock:
            behind = [] if self.at is None else [at for at in self.left if at > (self.at or 0)]
            if not behind or time.monotonic() - self.since < older_than_s or self.ended_as:
                return []
            self.until = (self.at or 0) + 1
            self.left.difference_update(behind)
            return [self.items[at] for at in sorted(behind)]

    def end(self, why: str) -> None:
        """End the call; nobody is to blame but for a timeout."""
        if not self.ended_as and self.handle is not None:
            self.ended_as = why
            self.handle.cancel()


class Batches:
    """Runs items; one per job, used by its thread."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._source: Iterator[list[Item]] = iter(())
        self._coming = 0
        """How many items the source has yet, at most."""
        self._more = True
        self._pending = deque[Item]()
        self._running: list[_Batch] = []
        self._queue = SimpleQueue[tuple[_Batch, dict[str, Any] | None]]()
        self._deaths = Counter[str]()
        self._mean_s: float | None = None
        self._tries: Tries[Item] = Tries(place.step.retries, place.step.policy)

    def run(self, items: Iterable[list[Item]], most: int) -> Iterator[list[Result]]:
        """Results as they become durable, in any order, each item once.

        ``items`` come some at a time, as they are needed; ``most`` is how many there may be. An
        empty list of results comes now and then, so that the caller can write.

        Raises:
            Interrupted: where the signals say so, or the pool is closed.
            Broken: where no datum can run.
        """
        signals = self.place.signals
        self._source, self._coming = iter(items), most
        try:
            while self._more or self._pending or self._tries.later or self._running:
                if signals.interrupted() or (signals.draining.is_set() and not self._running):
                    raise Interrupted
                waits = True
                if signals.draining.is_set():
                    self._drain()
                else:
                    waits = self._fill()
                waits = waits and bool(self._running or self._pending or self._tries.later)
                results = self._collect(LOOK_S if waits else 0.0)
                self._check_time()
                self._restart()
                yield results
        finally:
            for batch in self._running:
                self._give_back()
                if batch.handle is not None:
                    batch.handle.cancel()

    def live(self) -> list[Live]:
        """The datums that run now. May be asked from any thread."""
        now, found = time.monotonic(), list[Live]()
        for batch in list(self._running):
            if (at := batch.at) is not None and at in batch.left:
                item = batch.items[at]
                found.append(Live(item.unit, item.reason, now - batch.since))
        return found

    # out ------------------------------------------------------------------------------------

    def _fill(self) -> bool:
        """Hand over what there is room for; False where more is to be looked at at once."""
        self._pending.extend(self._tries.due())
        while len(self._running) < self._at_once():
            size = self._batch_size()
            while self._more and len(self._pending) < size:
                if not self._pull() and self._more:
                    return False
            if not self._pending:
                self._rebalance()
            if not self._pending:
                return True
            if not self.place.slots.take(self.place.pipeline, self.place.slots_limit):
                return True
            self._submit(self._next(size))
        return True

    def _rebalance(self) -> None:
        """Where a worker would idle, take what waits behind a slow datum."""
        if len(self._running) < self.place.compute.size:
            for batch in self._running:
                self._pending.extend(batch.give_up(STRAGGLES_S))

    def _pull(self) -> bool:
        """Take some items from the source; whether there were any."""
        some = next(self._source, None)
        self._more = some is not None
        self._pending.extend(some or ())
        self._coming = max(0, self._coming - len(some or ())) if self._more else 0
        return bool(some)

    def _at_once(self) -> int:
        """How many calls at most: where the datums of the step are limited, each runs one."""
        limit = self.place.step.policy.parallel
        ahead = AHEAD * self.place.compute.size
        return ahead if limit is None else min(limit, ahead)

    def _next(self, size: int) -> list[Item]:
        """The next batch, of so many at most. One for the handler of errors is by itself."""
        if self._pending[0].failed is not None:
            return [self._pending.popleft()]
        items = list[Item]()
        while self._pending and len(items) < size:
            if self._pending[0].failed is not None:
                break
            items.append(self._pending.popleft())
        return items

    def _batch_size(self) -> int:
        left = len(self._pending) + self._coming
        share = max(1, -(-left // self.place.compute.size))
        if self._mean_s is None:
            return min(FIRST_BATCH, max(1, share // 2))
        wanted = int(TARGET_S / (self._mean_s + OVERHEAD_S))
        return max(1, min(wanted, MAX_BATCH, share))

    def _submit(self, items: list[Item]) -> None:
        place, step = self.place, self.place.step
        batch = _Batch(items=items, left=set(range(len(items))))
        call = Call(
            entry=ENTRY,
            payload=msgspec.to_builtins(self._task(items), builtin_types=(bytes,)),
            label=place.label,
            memory_bytes=step.memory_bytes,
            snapshot_dir=str(place.snapshot_dir),
            environment=place.environment,
            program=place.program,
            priority=PRIORITY + place.priority,
            resources=step.demand(),
            placement=dict(step.policy.placement),
            pool=step.policy.pool,
            prompt=True,
        )

        def listen(message: dict[str, Any]) -> dict[str, object] | None:
            if "may" in message:
                return batch.grant(message["may"])
            self._queue.put((batch, message))
            return None

        self._running.append(batch)
        batch.handle = place.compute.submit(call, listen)
        batch.handle.when_done(lambda: self._queue.put((batch, None)))

    def _task(self, items: list[Item]) -> Task:
        numbers: dict[int, int] = {}
        groups: list[tuple[str, str, list[str], bool]] = []
        datums: list[tuple[str, list[int]]] = []
        for item in items:
            passed = [group for group in item.unit.groups if group.input.is_passed]
            for group in passed:
                if id(group) not in numbers:
                    numbers[id(group)] = len(groups)
                    groups.append(_group(group))
            datums.append((item.unit.name, [numbers[id(group)] for group in passed]))
        step = self.place.step
        failed = items[0].failed
        function = step.function if failed is None else step.policy.on_error
        assert isinstance(function, CodeRef)
        return Task(
            store=self.place.store.address,
            snapshot_dir=str(self.place.snapshot_dir),
            file=function.file,
            name=function.name,
            parameters=step.parameters,
            expectations=list(step.expectations) if failed is None else [],
            groups=groups,
            datums=datums,
            objects=self._objects(groups) if len(items) <= FEW_DATUMS else {},
            error={} if failed is None else _failure(failed),
            program=self._program(items) if failed is None else None,
            allow=step.allow,
            declared=tuple(step.depends),
            cpus=step.runtime.cpus,
            spark=step.policy.spark,
        )

    def _objects(self, groups: Sequence[tuple[str, str, list[str], bool]]) -> dict[str, bytes]:
        """What small inputs consist of: a worker would have to learn first where it is kept."""
        found: dict[str, bytes] = {}
        for _, tree, paths, _ in groups:
            if tree:
                found |= self.place.store.gather(tree, paths, SMALL_BYTES // len(groups))
        return found

    def _program(self, items: list[Item]) -> ProgramTask | None:
        step, place = self.place.step, self.place
        if step.command is None:
            return None
        return ProgramTask(
            command=step.command,
            runtime=step.runtime,
            programs=place.programs,
            variables=place.variables,
            ids=[datum_id(item.unit.key) for item in items],
        )

    # in -------------------------------------------------------------------------------------

    def _collect(self, wait_s: float) -> list[Result]:
        """Wait for something to happen, then take all that has."""
        results: list[Result] = []
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
        if "said" in message:
            batch.told = message["told"]
            self.place.log([(_id(batch, at), text) for at, text in message["said"]])
            return
        for file in message["files"]:
            self.place.keep(file)
        for plain in message["done"]:
            report = msgspec.convert(plain, Report)
            if report.at not in batch.left:
                continue  # another worker has it
            batch.left.discard(report.at)
            item = batch.items[report.at]
            if item.failed is None:
                self._learn(report.duration_s)
            yield from self._judged(item, report)

    def _judged(self, item: Item, report: Report) -> Iterator[Result]:
        """A datum has ended: for good, to be tried again, or for the handler of errors."""
        if item.failed is not None:
            yield Result(replace(item, failed=None), _handled(item.failed, report))
        elif report.state not in {"failed", "refused"}:
            yield Result(item, report)
        elif (pause_s := self._pause_s(item, report)) is not None:
            self._note(item, f"It failed and is tried again in {pause_s:.1f} s", report)
        elif self.place.step.policy.on_error is not None:
            what = "was refused" if report.state == "refused" else "failed"
            self._note(item, f"It {what} and its error is handled", report)
            self._pending.appendleft(replace(item, failed=report))
        else:
            yield Result(item, report)

    def _pause_s(self, item: Item, report: Report) -> float | None:
        """How long to wait for another try; None for none: what is refused would be again."""
        return None if report.state == "refused" else self._tries.again(item, report.evidence)

    def _note(self, item: Item, what: str, report: Report) -> None:
        line = report.error.strip().splitlines()[0] if report.error.strip() else "no message"
        self.place.log([(datum_id(item.unit.key), f"[{what}: {line}]\n")])

    def _learn(self, duration_s: float) -> None:
        known = self._mean_s
        self._mean_s = duration_s if known is None else 0.9 * known + 0.1 * duration_s

    def _ended(self, batch: _Batch) -> Iterator[Result]:
        assert batch.handle is not None
        self._running.remove(batch)
        self._give_back()
        outcome = batch.handle.result()
        if rest := rest_of(outcome.log, batch.told):
            at = batch.at if batch.at is not None else 0
            self.place.log([(_id(batch, at), rest)])
        error = outcome.error
        if error is not None and error.kind in {"raised", "clew"}:
            if batch.items[0].failed is None:
                raise Broken(error)
            error = replace(error, kind="raised")  # the handler cannot be imported
        if error is not None and error.kind == "cancelled" and batch.ended_as != "timeout":
            if not batch.ended_as:
                raise Interrupted
            rest_items = [batch.items[number] for number in sorted(batch.left)]
            self._pending.extendleft(reversed(rest_items))
            return
        if error is not None:
            yield from self._blame(batch, error)

    def _give_back(self) -> None:
        self.place.slots.give(self.place.pipeline, self.place.slots_limit)

    def _blame(self, batch: _Batch, error: CallError) -> Iterator[Result]:
        """The datum that ran when the worker ended has to answer for it; the rest run again."""
        at = batch.at if batch.at in batch.left else min(batch.left, default=None)
        rest = [batch.items[number] for number in sorted(batch.left) if number != at]
        self._pending.extendleft(reversed(rest))
        if at is None:
            return
        item = batch.items[at]
        if error.kind in _ALLOWED:
            self._deaths[item.unit.key] += 1
            if self._deaths[item.unit.key] < _ALLOWED[error.kind]:
                self._pending.appendleft(item)
                return
        duration_s = time.monotonic() - batch.since if batch.since else 0.0
        text = self._sentence(batch, error)
        evidence = {"code": f"step.{batch.ended_as or error.kind}"}
        yield from self._judged(
            item, Report(at, "failed", duration_s, error=text, evidence=evidence)
        )

    def _sentence(self, batch: _Batch, error: CallError) -> str:
        if batch.ended_as == "timeout":
            return f"It took longer than {self.place.step.timeout_s:g} s and was stopped."
        return f"{error.message} {error.hint}".strip()

    # ends -----------------------------------------------------------------------------------

    def _check_time(self) -> None:
        limit_s = self.place.step.timeout_s
        if limit_s is None:
            return
        now = time.monotonic()
        for batch in self._running:
            if batch.at in batch.left and now - batch.since > limit_s:
                batch.end("timeout")

    def _restart(self) -> None:
        """Begin datums anew whose run somebody takes for stuck."""
        while not self.place.signals.restarts.empty():
            key = self.place.signals.restarts.get()
            for batch in self._running:
                if batch.at in batch.left and batch.items[batch.at or 0].unit.key == key:
                    self._note(batch.items[batch.at or 0], "Its restart was asked for", _NO_REPORT)
                    batch.end("restart")

    def _drain(self) -> None:
        """Let each datum that runs come to its end, and no other begin."""
        for batch in self._running:
            if batch.at is None:
                batch.end("drained")
            elif batch.last is None:
                batch.last = batch.at
            elif batch.last not in batch.left:
                batch.end("drained")


_ALLOWED = {"died": DEATHS_ALLOWED, "lost": LOSSES_ALLOWED}
_NO_REPORT = Report(0, "failed", 0.0, error="it had not ended")


def _id(batch: _Batch, at: int) -> str:
    return datum_id(batch.items[at].unit.key)


def _failure(report: Report) -> dict[str, str]:
    """What the handler of errors is told."""
    line, _, traceback = report.error.partition("\n\n")
    code = "step.refused" if report.state == "refused" else str(report.evidence.get("code", ""))
    return {"code": code, "message": line, "traceback": traceback}


def _handled(failed: Report, handled: Report) -> Report:
    """The report of a datum whose error was handled, or whose handler failed too."""
    if handled.state == "recovered":
        return msgspec.structs.replace(failed, state="recovered")
    both = f"{failed.error}\n\non_error failed: {handled.error}"
    return msgspec.structs.replace(failed, error=both)


def _group(group: Group) -> tuple[str, str, list[str], bool]:
    paths = [path for path, _ in group.files]
    return group.input.parameter, group.tree, paths, group.directory
