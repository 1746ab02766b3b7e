"""The scheduler: which waiting job may start now, one thread for each that runs.

Knows rows and threads; what a job does is in ``running``. One engine works on a workspace at a
time; who may run it is for the caller to see.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

from msgspec.structs import replace

from clew.base.errors import ClewError
from clew.base.ids import short
from clew.base.records import Job
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.looking import Look
from clew.pipelines.pinning import Tools
from clew.pipelines.registry import Graph, StepName
from clew.pipelines.running import run_job
from clew.pipelines.signals import Signals
from clew.pipelines.starting import Handed, Heir
from clew.pipelines.turns import Turns, is_limited, superseded_by

MAX_JOBS = 16
LOOK_S = 0.25
"""How late at most a wish to cancel from another process, or to stop, is seen."""
MOVES_NOTHING = frozenset({"job.started", "job.progress"})
"""Events after which nothing can start or end that could not before."""


POLL_S = 0.02
"""How late at most a commit of another process is seen while there is work."""


class Engine:
    """Starts jobs and sees them through. Thread-safe."""

    def __init__(self, tools: Tools, *, max_jobs: int = MAX_JOBS) -> None:
        self._tools = tools
        self._max_jobs = max_jobs
        self._lock = threading.Lock()
        self._running: dict[StepName, tuple[str, Signals, threading.Thread]] = {}
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._halted = False
        self._turn = threading.Lock()
        self._changed = threading.Event()
        self._broken: ClewError | None = None
        self._left: set[str] = set()
        self._dirty = threading.Event()
        """Set where a look may find what the last one did not, whatever the events say."""
        self._looked: tuple[int, float] = (0, 0.0)
        self._dirty.set()
        self._turns = Turns()
        tools.jobs.listeners.append(self._changed.set)

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        with self._lock:
            return bool(self._running)

    def recover(self) -> int:
        """Let jobs that a dead engine left running wait again; how many. Call before any tick."""
        with self._tools.db.begin() as tx:
            recovered = tx.execute(tables.RECOVER).rowcount
        with self._lock:
            self._left.clear()
        self._dirty.set()
        return recovered

    def tick(self) -> bool:
        """Start what can start, end what cannot; whether anything moved. Never waits for a job.

        Raises what kept a job from ending in the rows, such as Unavailable ``disk.full``.
        """
        broken, self._broken = self._broken, None
        if broken is not None:
            raise broken
        with self._turn:
            return self._tick()

    def _tick(self) -> bool:
        self._take_up()
        if not self._is_news():
            return False
        with self._tools.db.read() as tx:
            waiting = list(tx.execute(tables.FIRST_WAITING))
            running = list(tx.execute(tables.RUNNING))
            graph = self._tools.registry.graph(tx) if waiting else None
            steps = {(row.pipeline, row.step) for row in running}
            look = Look(tx, self._tools.repos, graph, steps) if graph else None
            verdicts = [(row, look.judge(row)) for row in waiting] if look else []
        for row in running:
            if row.cancelled:
                self.cancel(row.id)
            elif row.pausing:
                self.pause(row.id)
        moved = False
        for row, verdict in verdicts:
            if verdict.act == "start" and graph is not None:
                moved |= self._start_if_in_turn(graph, row)
            elif verdict.act != "wait":
                with self._tools.db.begin() as tx:
                    self._tools.jobs.fail(tx, row.id, verdict.act, verdict.reason)
                moved = True
        return moved

    def _is_news(self) -> bool:
        """Whether a look may find something; remembers that it is about to be taken.

        What is told by no event (a wish to cancel of another process) is found ``LOOK_S`` later.
        """
        events = self._tools.db.events
        now, last, (seen, looked_at) = time.monotonic(), events.last(), self._looked
        if not self._dirty.is_set() and now - looked_at < LOOK_S:
            if last == seen:
                return False
            if not events.any_after(seen, but=MOVES_NOTHING):
                self._looked = (last, looked_at)
                return False
        self._dirty.clear()
        self._looked = (last, now)
        return True

    def _take_up(self) -> None:
        """Let jobs wait again whose threads could not write how they ended."""
        with self._lock:
            left = set(self._left)
        if left:
            with self._tools.db.begin() as tx:
                tx.execute(tables.RECOVER.where(tables.jobs.c.id.in_(sorted(left))))
            with self._lock:
                self._left -= left
            self._dirty.set()

    def run_until_idle(self, stop: threading.Event | None = None, timeout_s: float = 0) -> bool:
        """Work until nothing runs and nothing can start; False after ``timeout_s`` or on ``stop``.

        On ``stop`` running jobs are taken back to wait; after a timeout they go on.
        """
        deadline = time.monotonic() + timeout_s if timeout_s else None
        events = self._tools.db.events
        while True:
            self._changed.clear()
            seen = events.last()
            if stop is not None and stop.is_set():
                self.interrupt()
                return False
            if self.tick():
                continue
            if not self.busy and not self._changed.is_set():  # else the tick saw it running still
                return True
            if deadline is not None and time.monotonic() > deadline:
                return False
            self._wait(seen)

    def _wait(self, seen: int) -> None:
        """Until something changed here (at once), elsewhere (soon), or it is time to look."""
        deadline = time.monotonic() + LOOK_S
        while time.monotonic() < deadline:
            if self._changed.wait(POLL_S) or self._tools.db.events.wait(seen, 0):
                return

    def signals(self, job_id: str) -> Signals | None:
        """How to speak to a job that runs in this process; None where it does not."""
        with self._lock:
            found = (one for running, one, _ in self._running.values() if running == job_id)
            return next(found, None)

    def cancel(self, job_id: str) -> None:
        """Tell a running job to stop."""
        if (signals := self.signals(job_id)) is not None:
            signals.cancelled.set()

    def pause(self, job_id: str) -> None:
        """Tell a running job to begin no more, and to wait paused."""
        if (signals := self.signals(job_id)) is not None:
            signals.pausing.set()
            signals.draining.set()

    def interrupt(self, grace_s: float = 0.0) -> None:
        """Take running jobs back to wait; returns when their threads have ended.

        They begin nothing more, and what runs may end within ``grace_s``.
        """
        with self._lock:
            self._halted = True  # a thread that is at its end may not start another job
            threads = list(self._threads)
            told = [signals for _, signals, _ in self._running.values()]
        for signals in told:
            signals.draining.set()
        end = time.monotonic() + grace_s
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        for signals in told:
            signals.closing.set()
        for thread in threads:
            thread.join()
        with self._lock:
            self._halted = False
        self._dirty.set()

    def close(self, grace_s: float = 0.0) -> None:
        """Interrupt, and start no more."""
        with self._lock:
            self._closed = True
        self.interrupt(grace_s)

    # ----------------------------------------------------------------------------------------

    def _start_if_in_turn(self, graph: Graph, row: Any) -> bool:
        name = (row.pipeline, row.step)
        if not is_limited(graph, name):
            return self._start(row)
        with self._lock:
            running = set(self._running)
        step = graph.step(name)
        if step is None or name in running or len(running) >= self._max_jobs:
            return False
        with self._tools.db.read() as tx:
            if not self._turns.may_start(tx, graph, name, running):
                return False
            look = Look(tx, self._tools.repos, graph, running)
            chosen, passed = superseded_by(
                tx, step, row, lambda one: look.judge(one).act == "start"
            )
        if passed:
            reason = f"Job {short(chosen.id)} of a newer change runs in its place."
            with self._tools.db.begin() as tx:
                for one in passed:
                    self._tools.jobs.fail(tx, one.id, "superseded", reason)
        started = self._start(chosen)
        if started:
            self._turns.started(graph, name, chosen.id)
        return started or bool(passed)

    def _start(self, row: Any) -> bool:
        step = (row.pipeline, row.step)
        signals = Signals()
        thread = threading.Thread(
            target=self._work, args=(step, row.id, signals), name=f"job {row.id}", daemon=True
        )
        with self._lock:
            full = step in self._running or len(self._running) >= self._max_jobs
            if self._closed or self._halted or full:
                self._dirty.set()
                return False
            thread.start()  # with the lock: whoever ends us joins threads that have begun
            self._running[step] = (row.id, signals, thread)
            self._threads.add(thread)
        return True

    def _work(self, step: StepName, job_id: str, signals: Signals) -> None:
        handed: Handed | None = None
        try:
            while True:
                try:
                    begun = handed.begun if handed else None
                    handed = run_job(self._tools, job_id, signals, begun, self._heir)
                finally:
                    with self._lock:  # together: who sees that nothing runs sees it has ended
                        del self._running[step]
                        if handed is None or not handed.alone:
                            self._dirty.set()
                        self._changed.set()
                if handed is None:
                    break
                step, job_id, signals = handed.step, handed.job, handed.signals
            if not self._halted:
                self.tick()
        except ClewError as error:  # something could not be written: who ticks next has to hear it
            with self._lock:
                self._left.add(job_id)
            self._broken = error
        finally:
            self._leave()

    def _leave(self) -> None:
        """This thread runs no more: what it was handed and has not run waits again."""
        here = threading.current_thread()
        with self._lock:
            self._threads.discard(here)
            for name, (job_id, _, thread) in list(self._running.items()):
                if thread is here:
                    del self._running[name]
                    self._left.add(job_id)
                    self._changed.set()

    def _heir(self, tx: Tx, ended: Job, step: StepDefinition) -> Heir | None:
        """A job that waited for one that ends in ``tx``, if it may start at once.

        Where as many run as may, or limits decide, all that wait are to be looked at in their
        order: that is for :meth:`tick`. So are those that could start besides the heir; where there
        are none, this was the look that the events of ``tx`` would call for.
        """
        graph = self._tools.registry.graph(tx)
        readers = graph.readers.get((step.output_repo, step.output_branch), ())
        if not readers:
            return None
        with self._lock:
            running = self._running.keys() - {(ended.pipeline, ended.step)}
        look = Look(tx, self._tools.repos, graph, running)
        heir: Heir | None = None
        alone = True
        for row in tx.execute(tables.FIRST_WAITING).all():
            act = look.judge(row).act
            if act == "wait":
                continue
            name = (row.pipeline, row.step)
            signals = Signals()
            if (
                heir is None
                and act == "start"
                and row.global_id == ended.global_id
                and name in readers
                and not is_limited(graph, name)
                and self._takes_place(name, row.id, signals)
            ):
                heir = Heir(
                    step=name,
                    job=row.id,
                    graph=graph,
                    own=look.of_change(row.global_id)[0],
                    signals=signals,
                    let_go=partial(self._give_place, name),
                )
            else:
                alone = False
        if heir is None or not alone:
            return heir
        tx.after_commit(partial(self._has_looked, tx.last_event()))
        return replace(heir, alone=True)

    def _has_looked(self, last: int) -> None:
        """A look has been taken that knew all events up to ``last``."""
        seen, looked_at = self._looked
        self._looked = (max(seen, last), looked_at)

    def _takes_place(self, name: StepName, job_id: str, signals: Signals) -> bool:
        """Take a place among those that run, for this thread to run it next."""
        with self._lock:
            full = name in self._running or len(self._running) >= self._max_jobs
            if self._closed or self._halted or full:
                return False
            self._running[name] = (job_id, signals, threading.current_thread())
            return True

    def _give_place(self, name: StepName) -> None:
        with self._lock:
            del self._running[name]
            self._dirty.set()
            self._changed.set()
