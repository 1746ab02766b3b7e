"""Warm worker processes behind one queue, with timeouts, memory limits and replacement.

Knows nothing of what calls do. One thread owns all state of the workers; others leave it commands.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import selectors
import shutil
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from clew.base.errors import ClewError, Unavailable
from clew.base.pools import PoolSize, with_default
from clew.base.records.pools import PoolInfo
from clew.compute.call import Call, Listener
from clew.compute.endings import cut_off, how, refused, without_value
from clew.compute.frames import Answer, Done, Ready, Said, ToWorker, encode_or_refuse
from clew.compute.handles import Couriers, Submitted
from clew.compute.process import Worker, environment_of_workers
from clew.compute.scratch import ScratchSpace
from clew.compute.slots import Ledger

_LOOK_AHEAD = 8
"""So many calls deep a worker looks for one it is warm for, and so often a call is overtaken."""
_MEMORY_EVERY_S = 0.05
_LOG_EVERY_S = 1.0
_FAREWELL_S = 0.5
_AGAIN_S = 0.2
"""How often it is looked whether a GPU is free that others on this machine have."""

Queue = list[tuple[int, int, Submitted]]


class ProcessPool:
    """Calls in up to ``size`` worker processes, which start when they are first needed.

    ``scratch`` is a directory for the calls' own directories, ``log_dir`` one for the output of
    each worker while it runs. ``environment`` is that of this process unless given; libraries with
    thread pools get an equal share of the cores, unless it says otherwise. A new worker imports
    the modules ``preload`` before its first call. Workers end with this process, however it ends.
    ``pools`` share the slots of this machine; without them there is one, with ``size`` processes
    and all GPUs. See :class:`clew.compute.Compute` for the law.
    """

    def __init__(
        self,
        size: int,
        scratch: Path,
        log_dir: Path,
        *,
        environment: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
        pools: Sequence[PoolSize] = (),
    ) -> None:
        self._ledger = Ledger(with_default(pools, max(1, size)))
        self._size = self._ledger.size
        self._places = (scratch, log_dir)
        self._environment = environment_of_workers(environment, self._size)
        self._preload = tuple(preload)
        self._lock = threading.Lock()
        self._dispatcher: _Dispatcher | None = None
        self._closed = False

    @property
    def size(self) -> int:
        """How many calls run at a time."""
        return self._size

    def start(self) -> None:
        """Start a first worker ahead of the first call. Raises Unavailable ``pool.closed``."""
        dispatcher = self._running()
        dispatcher.tell(dispatcher.start_ahead)

    def submit(
        self, call: Call, on_message: Listener | None = None, affinity: str = ""
    ) -> Submitted:
        """Queue a call. Raises Unavailable ``pool.closed``, Invalid ``call.payload``."""
        payload = encode_or_refuse(call.payload, "call.payload", f"The payload of {call.label!r}")
        dispatcher = self._running()
        submitted = Submitted(call, payload, on_message, dispatcher.couriers, dispatcher.cancel)
        submitted.affinity = affinity
        self.carry(submitted)
        return submitted

    def carry(self, submitted: Submitted) -> None:
        """Queue a call whose messages and end go where ``submitted`` takes them.

        Raises Unavailable ``pool.closed``.
        """
        dispatcher = self._running()
        if not dispatcher.tell(partial(dispatcher.enqueue, submitted)):
            raise _closed()

    def cancel(self, submitted: Submitted) -> None:
        """End a call of :meth:`carry` as cancelled, if it has not ended."""
        self._running().cancel(submitted)

    def check(self, pool: str, resources: Mapping[str, float]) -> None:
        """Refuse what a pool could never hold. Raises Invalid."""
        self._ledger.check(pool, resources)

    @property
    def keeps_off(self) -> Mapping[str, str]:
        """It is one machine."""
        return {}

    @property
    def spreads(self) -> bool:
        """It is one machine."""
        return False

    def room(self, pool: str, resources: Mapping[str, float], ranks: int = 1) -> int:
        """How many such calls a pool holds at a time. Raises Invalid ``pool.unknown``."""
        del ranks
        return self._ledger.room(pool, resources)

    def pools(self) -> list[PoolInfo]:
        """The pools with their slots, who has them, and what waits."""
        dispatcher = self._dispatcher
        return self._ledger.look([] if dispatcher is None else dispatcher.waiting())

    def exclude(self, slots: Mapping[str, str]) -> None:
        """Give these slots to no call from now on, and all others again."""
        dispatcher = self._dispatcher
        if self._ledger.exclude(slots) and dispatcher is not None:
            dispatcher.tell(lambda: None)  # it looks at its queue again

    def close(self) -> None:
        """End all calls as cancelled and all workers; returns when they are gone. Idempotent."""
        with self._lock:
            self._closed = True
            dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is not None:
            dispatcher.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _running(self) -> _Dispatcher:
        with self._lock:
            if self._closed:
                raise _closed()
            if self._dispatcher is None:
                space = ScratchSpace(*self._places)
                self._dispatcher = _Dispatcher(
                    self._ledger, space, self._environment, self._preload
                )
                self._dispatcher.thread.start()
            return self._dispatcher


class _Dispatcher:
    """The one thread that owns the workers and the queue.

    ``tell`` and ``cancel`` may be called from anywhere, everything else runs on the thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: ScratchSpace,
        environment: Mapping[str, str],
        preload: tuple[str, ...],
    ) -> None:
        self.thread = threading.Thread(target=self._run, name="clew-dispatcher", daemon=True)
        self.couriers = Couriers(ledger.size)
        self._size = ledger.size
        self._ledger = ledger
        self._space = space
        self._environment = environment
        self._preload = preload
        self._commands: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._ended = False
        self._awake = False
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._hear_commands)
        self._workers: list[Worker] = []
        self._queues: dict[tuple[str, bool], Queue] = defaultdict(list)
        self._numbers = itertools.count()
        self._next_look = 0.0
        self._stopping = False

    # from any thread ------------------------------------------------------------------------

    def tell(self, command: Callable[[], None]) -> bool:
        """Have ``command`` run on the thread; False where the thread has ended."""
        with self._lock:
            if self._ended:
                return False
            self._commands.append(command)
            if not self._awake:
                self._awake = True
                self._wake_out.send(b"!")
            return True

    def cancel(self, submitted: Submitted) -> None:
        """End a call as cancelled."""
        self.tell(partial(self._cancel, submitted))

    def stop(self) -> None:
        """End everything and wait for it."""
        self.tell(self._stop)
        self.thread.join()
        self.couriers.close()
        self._space.close()

    # the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                for key, events in self._selector.select(self._patience()):
                    key.data(events)
                self._enforce_limits()
                self._assign()
        finally:  # also on a fault of ours: nobody may wait for ever
            self._end_all()

    def _patience(self) -> float | None:
        """How long the thread may sleep, at most."""
        running = [w for w in self._workers if w.started is not None]
        if self._ledger.contended and any(self._queues.values()):
            return _AGAIN_S
        if not running:
            return None
        wait = _MEMORY_EVERY_S if any(w.gauge for w in running) else _LOG_EVERY_S
        deadlines = [w.deadline for w in running if w.deadline is not None]
        if deadlines:
            wait = min(wait, max(0.0, min(deadlines) - time.monotonic()))
        return wait

    def _hear_commands(self, _events: int) -> None:
        self._wake_in.recv(4096)
        self._awake = False
        while self._commands:
            self._commands.popleft()()

    def enqueue(self, submitted: Submitted) -> None:
        """Put a call in the queue of its pool, behind those of its priority."""
        need = self._ledger.need(submitted.call)
        queue = self._queues[need.pool, need.gpus > 0]
        bisect.insort(queue, (-submitted.call.priority, next(self._numbers), submitted))

    def waiting(self) -> list[Call]:
        """What waits, in the order in which it will begin; from any thread."""
        queues = [list(queue) for queue in list(self._queues.values())]
        return [entry[2].call for entry in heapq.merge(*queues, key=lambda one: one[:2])]

    def start_ahead(self) -> None:
        """Have a worker, if there is none; where it cannot start, the first call says so."""
        if not self._workers:
            with suppress(OSError):
                self._start_worker()

    def _cancel(self, submitted: Submitted) -> None:
        label = submitted.call.label
        for worker in self._workers:
            if worker.call is submitted:
                self._end_call(worker, "cancelled", f"{label} was cancelled while it ran.")
                return
        for queue in self._queues.values():
            for entry in [entry for entry in queue if entry[2] is submitted]:
                queue.remove(entry)
                message = f"{label} was cancelled in the queue."
                submitted.finish(without_value("cancelled", message))

    def _stop(self) -> None:
        self._stopping = True

    # workers --------------------------------------------------------------------------------

    def _assign(self) -> None:
        for pool in {name for name, _ in self._queues}:
            queues = [self._queues[key] for key in ((pool, False), (pool, True))]
            while queues := [queue for queue in queues if queue]:
                queue = min(queues, key=lambda one: one[0][:2])
                lack = self._begin_first(queue)
                if lack == "cpu":
                    break  # nobody behind the first may take what it waits for
                if lack:
                    queues.remove(queue)  # who needs no GPU need not wait for one
        for worker in [one for one in self._workers if one.devices and one.call is None]:
            self._remove(worker)  # what it has touched of its GPUs it holds until it ends

    def _begin_first(self, queue: Queue) -> str:
        """Begin a call of a queue, the first or one near it; else what the first waits for."""
        first = queue[0][2]
        try:
            lack = self._ledger.lack(self._ledger.need(first.call))
        except ClewError as error:
            queue.pop(0)
            first.finish(refused(error, first.call.label))
            return ""
        if lack:
            return lack
        idle = [one for one in self._workers if one.call is None and not one.devices]
        index, worker = self._match(queue, idle)
        submitted = queue[index][2]
        grant = self._ledger.take(self._ledger.need(submitted.call), submitted.call.label)
        if grant is None:
            return "gpu"
        submitted.grant, submitted.slots = grant, grant.slots
        if grant.gpus:
            worker = self._warm_on(grant.devices, submitted)
        del queue[index]
        for _, _, overtaken in queue[:index]:
            overtaken.overtaken += 1
        self._give(submitted, worker)
        return ""

    def _warm_on(self, devices: str, submitted: Submitted) -> Worker | None:
        """A process that has done another part of the same work on these GPUs, and was kept."""
        call = submitted.call
        wanted = (devices, call.label, call.snapshot_dir, call.program)
        kept = [one for one in self._workers if one.call is None and one.devices]
        same = [w for w in kept if (w.devices, w.label, w.snapshot, w.program) == wanted]
        return same[0] if same else None

    def _match(self, queue: Queue, idle: list[Worker]) -> tuple[int, Worker | None]:
        """Which call of a queue, the first of which can begin, goes to which worker (None: a new
        one).
        """
        first = queue[0][2].call
        if first.resources.get("GPU"):
            return 0, None  # the grant decides
        for index, (priority, _, submitted) in enumerate(queue[:_LOOK_AHEAD]):
            if priority != queue[0][0]:
                break
            if submitted.call.resources != first.resources:
                continue
            program = submitted.call.program
            able = [w for w in idle if w.program == program]
            fitting = [w for w in able if w.snapshot in {None, submitted.call.snapshot_dir}]
            if fitting:
                return index, max(fitting, key=partial(_warmth, submitted))
            can_start = self._can_start(program)
            if can_start or submitted.overtaken >= _LOOK_AHEAD:
                return index, None if can_start else min(able, key=lambda w: w.used)
        program = first.program
        return 0, min((w for w in idle if w.program == program), key=lambda w: w.used)

    def _can_start(self, program: tuple[str, ...]) -> bool:
        """Whether one more may be started; as many of each program stay warm as may run."""
        return sum(worker.program == program for worker in self._workers) < self._size

    def _give(self, submitted: Submitted, worker: Worker | None) -> None:
        if worker is None:
            try:
                worker = self._start_worker(submitted.call.program)
            except OSError as error:
                message = f"No worker process could be started for {submitted.call.label}: {error}."
                self._finish(submitted, without_value("died", message))
                return
        worker.call = submitted
        worker.snapshot = submitted.call.snapshot_dir
        worker.affinity = submitted.affinity
        worker.used = next(self._numbers)
        if worker.ready:
            worker.begin_clock()
        self._write(worker, submitted.run_frame())

    def _start_worker(self, program: tuple[str, ...] = ()) -> Worker:
        self._make_room()
        number = next(self._numbers)
        scratch = self._space.directory(number)
        log = self._space.log(number)
        preload = () if program else self._preload  # another environment may lack it
        mark = f"{self._space.name}.{number}"
        worker = Worker(number, scratch, log, self._environment, preload, program, mark)
        self._workers.append(worker)
        self._selector.register(worker, selectors.EVENT_READ, partial(self._serve, worker))
        if worker.pidfd is not None:
            act = partial(self._serve, worker, selectors.EVENT_READ, gone=True)
            self._selector.register(worker.pidfd, selectors.EVENT_READ, lambda _events: act())
        return worker

    def _make_room(self) -> None:
        """At most twice as many workers live as run: those that idle longest go."""
        idle = sorted((w for w in self._workers if w.call is None), key=lambda w: w.used)
        for worker in idle[: max(0, len(self._workers) + 1 - 2 * self._size)]:
            self._remove(worker)

    def _write(self, worker: Worker, frame: ToWorker) -> None:
        if worker.write(frame):
            self._watch(worker, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _watch(self, worker: Worker, events: int) -> None:
        if not worker.paused:
            self._selector.modify(worker, events, partial(self._serve, worker))

    def _serve(self, worker: Worker, events: int, gone: bool = False) -> None:
        """The pipe of a worker can be read or written, or its process has ended."""
        if worker not in self._workers:
            return  # killed in the same turn
        if events & selectors.EVENT_WRITE and not worker.flush():
            self._watch(worker, selectors.EVENT_READ)
        if not events & selectors.EVENT_READ:
            return
        frames, still_open = worker.read()
        for frame in frames:
            if isinstance(frame, Done):
                self._done(worker, frame)
            elif isinstance(frame, Said):
                self._said(worker, frame)
            elif isinstance(frame, Ready):
                worker.ready = True
                if worker.call is not None:
                    worker.begin_clock()
        if gone or not still_open:
            self._died(worker)

    def _done(self, worker: Worker, done: Done) -> None:
        call, worker.call = worker.call, None
        worker.end_clock()
        if call is None:
            return
        if call.grant is not None and call.grant.gpus:
            worker.devices, worker.label = call.grant.devices, call.call.label
            if done.error is not None:
                self._remove(worker)  # who knows what it has left there
        self._finish(call, done)

    def _finish(self, call: Submitted, done: Done) -> None:
        """A call that was begun has ended: its slots are for others."""
        grant, call.grant = call.grant, None
        if grant is not None:
            self._ledger.give_back(grant)
        call.finish(done)

    def _said(self, worker: Worker, said: Said) -> None:
        call = worker.call
        if call is None:
            return

        def reply(answer: Answer) -> None:
            if worker.call is call:
                self._write(worker, answer)

        call.heard(said, lambda answer: self.tell(partial(reply, answer)))
        if not worker.paused and call.behind(lambda: self.tell(partial(self._resume, worker))):
            worker.paused = True
            self._selector.unregister(worker)

    def _resume(self, worker: Worker) -> None:
        """Hear a worker again whose messages had piled up."""
        if worker in self._workers and worker.paused:
            worker.paused = False
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.flush() else 0)
            self._selector.register(worker, events, partial(self._serve, worker))

    # ends -----------------------------------------------------------------------------------

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        look = now >= self._next_look
        for worker in [w for w in self._workers if w.started is not None]:
            call = worker.call
            assert call is not None
            if worker.deadline is not None and now >= worker.deadline:
                message = f"{call.call.label} did not end within {call.call.timeout_s:g} s."
                self._end_call(worker, "timeout", message, "Give it more time, or less to do.")
            elif look and worker.gauge is not None:
                self._check_memory(worker, call.call)
            elif look:
                worker.trim_log()
        if look:
            self._next_look = now + _MEMORY_EVERY_S

    def _check_memory(self, worker: Worker, call: Call) -> None:
        gauge, limit = worker.gauge, call.memory_bytes
        assert gauge is not None
        assert limit is not None
        if gauge.read() <= limit:
            return
        message = (
            f"{call.label} used {_mib(gauge.peak_bytes)} of memory (its peak), "
            f"and {_mib(limit)} is the limit."
        )
        self._end_call(worker, "memory", message, "Raise the limit, or work on smaller pieces.")

    def _end_call(self, worker: Worker, kind: str, message: str, hint: str = "") -> None:
        call, duration_s = worker.call, worker.end_clock()
        assert call is not None
        _, log = self._remove(worker)
        done = without_value(kind, message, hint=hint, duration_s=duration_s, log=log)
        self._finish(call, done)

    def _died(self, worker: Worker) -> None:
        call, duration_s = worker.call, worker.end_clock()
        ended = worker.ended_within(_FAREWELL_S)  # the pipe ends a moment before the process
        status, log = self._remove(worker)
        if call is not None:
            message, hint = how(status, call.call.label) if ended else cut_off(call.call.label)
            done = without_value("died", message, hint=hint, duration_s=duration_s, log=log)
            self._finish(call, done)

    def _remove(self, worker: Worker) -> tuple[int, str]:
        self._workers.remove(worker)
        self._forget(worker)
        if worker.pidfd is not None:
            self._selector.unregister(worker.pidfd)
        end = worker.kill()
        self.couriers.run(partial(_remove_all, worker.scratch))
        return end

    def _end_all(self) -> None:
        with self._lock:
            self._ended = True
        while self._commands:  # calls that were submitted in the last moment are in the queue too
            self._commands.popleft()()
        for _, _, submitted in itertools.chain(*self._queues.values()):
            submitted.finish(without_value("cancelled", f"{submitted.call.label}: pool closed."))
        for worker in [w for w in self._workers if w.call is not None]:
            label = worker.call.call.label if worker.call else ""
            self._end_call(worker, "cancelled", f"{label} ran when the pool was closed.")
        self._dismiss()
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def _dismiss(self) -> None:
        """Let idle workers end by themselves, and then with force."""
        until = time.monotonic() + _FAREWELL_S
        for worker in self._workers:
            self._forget(worker)
            worker.hang_up()
        for worker in self._workers:
            worker.ended_within(until - time.monotonic())
            if worker.pidfd is not None:
                self._selector.unregister(worker.pidfd)
            worker.kill(thorough=False)  # closing the space sees to the rest, for all at once
        self._workers.clear()

    def _forget(self, worker: Worker) -> None:
        if not worker.paused:
            self._selector.unregister(worker)


def _remove_all(scratch: Path) -> None:
    """What a worker had on disk: its scratch, and what it kept beside it from call to call."""
    for place in scratch.parent.glob(f"{scratch.name}*"):
        if place.name.partition(".")[0] == scratch.name:
            shutil.rmtree(place, ignore_errors=True)


def _warmth(submitted: Submitted, worker: Worker) -> tuple[bool, bool, int]:
    """How much of what a call needs a worker has loaded; a fresh one has nothing."""
    return worker.snapshot is not None, worker.affinity == submitted.affinity, worker.used


def _closed() -> Unavailable:
    return Unavailable(
        "pool.closed",
        "This pool of workers is closed.",
        hint="Submit before the workspace is closed.",
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
