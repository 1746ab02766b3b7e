"""The scheduler: which waiting job may start now, one thread for each that runs.

Knows rows and threads; what a job does is in ``running``. One engine works on a workspace at a
time; who may run it is for the caller to see.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clew.base.errors import ClewError, NotFound
from clew.base.ids import short
from clew.base.records import Commit
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.definitions import InputDefinition
from clew.pipelines.jobs import Jobs, producers
from clew.pipelines.registry import Branch, Graph, StepName
from clew.pipelines.running import Signals, Tools, run_job

MAX_JOBS = 16
LOOK_S = 0.25
"""How late at most a wish to cancel from another process, or to stop, is seen."""


POLL_S = 0.02
"""How late at most a commit of another process is seen while there is work."""


@dataclass(frozen=True)
class _Verdict:
    """What to do with a waiting job: ``start``, ``wait``, or end it as ``state``."""

    act: str
    reason: str = ""


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
        with self._tools.db.read() as tx:
            waiting = list(tx.execute(tables.FIRST_WAITING))
            to_cancel = [row.id for row in tx.execute(tables.TO_CANCEL)]
            graph = self._tools.registry.graph(tx) if waiting else None
            verdicts = [(row, self._judge(tx, graph, row)) for row in waiting if graph]
        for job_id in to_cancel:
            self.cancel(job_id)
        moved = False
        for row, verdict in verdicts:
            if verdict.act == "start":
                moved |= self._start(row)
            elif verdict.act != "wait":
                with self._tools.db.begin() as tx:
                    self._tools.jobs.fail(tx, row.id, verdict.act, verdict.reason)
                moved = True
        return moved

    def _take_up(self) -> None:
        """Let jobs wait again whose threads could not write how they ended."""
        with self._lock:
            left = set(self._left)
        if left:
            with self._tools.db.begin() as tx:
                tx.execute(tables.RECOVER.where(tables.jobs.c.id.in_(sorted(left))))
            with self._lock:
                self._left -= left

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

    def cancel(self, job_id: str) -> None:
        """Tell a running job to stop."""
        with self._lock:
            for running, signals, _ in self._running.values():
                if running == job_id:
                    signals.cancelled.set()

    def interrupt(self) -> None:
        """Take running jobs back to wait; returns when their threads have ended."""
        with self._lock:
            self._halted = True  # a thread that is at its end may not start another job
            threads = list(self._threads)
            for _, signals, _ in self._running.values():
                signals.closing.set()
        for thread in threads:
            thread.join()
        with self._lock:
            self._halted = False

    def close(self) -> None:
        """Interrupt, and start no more."""
        with self._lock:
            self._closed = True
        self.interrupt()

    # ----------------------------------------------------------------------------------------

    def _start(self, row: Any) -> bool:
        step = (row.pipeline, row.step)
        signals = Signals()
        thread = threading.Thread(
            target=self._work, args=(step, row.id, signals), name=f"job {row.id}", daemon=True
        )
        with self._lock:
            full = step in self._running or len(self._running) >= self._max_jobs
            if self._closed or self._halted or full:
                return False
            self._running[step] = (row.id, signals, thread)
            self._threads.add(thread)
        thread.start()
        return True

    def _work(self, step: StepName, job_id: str, signals: Signals) -> None:
        try:
            try:
                run_job(self._tools, job_id, signals)
            finally:
                with self._lock:  # together: who sees that nothing runs sees that it has ended
                    del self._running[step]
                    self._changed.set()
            if not self._halted:
                self.tick()
        except ClewError as error:  # something could not be written: who ticks next has to hear it
            with self._lock:
                self._left.add(job_id)
            self._broken = error
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _judge(self, tx: Tx, graph: Graph, row: Any) -> _Verdict:
        """Whether the first waiting job of a step may start."""
        step = graph.step((row.pipeline, row.step))
        if step is None:
            return _Verdict("cancelled", f"{row.pipeline} has no step {row.step} any more.")
        if row.cancelled:
            return _Verdict("cancelled", "It was cancelled.")
        if tx.execute(tables.RUNS, {"pipeline": row.pipeline, "step": row.step}).first():
            return _Verdict("wait")
        own = _latest(self._tools.repos.of_change(row.global_id, tx=tx))
        verdicts = [
            self._judge_input(tx, graph, one, own) for one in step.inputs if one.kind == "data"
        ]
        ended = next((one for one in verdicts if one.act not in {"start", "wait"}), None)
        if ended is not None:
            return ended
        waits = any(one.act == "wait" for one in verdicts)
        return _Verdict("wait" if waits else "start")

    def _judge_input(
        self, tx: Tx, graph: Graph, one: InputDefinition, own: Mapping[Branch, Commit]
    ) -> _Verdict:
        commit = own.get((one.repo, one.branch))
        if commit is not None:
            return _judge_commit(tx, commit)
        if self._has_head(tx, one):
            return _Verdict("start")
        if (one.repo, one.branch) in Jobs.pending(tx, graph):
            return _Verdict("wait")
        return _Verdict("blocked", f"There is no data in {one.repo}@{one.branch}.")

    def _has_head(self, tx: Tx, one: InputDefinition) -> bool:
        try:
            return self._tools.repos.head(one.repo, one.branch, tx=tx) is not None
        except NotFound:
            return False


def _latest(commits: list[Commit]) -> dict[Branch, Commit]:
    """The last commit of a change on each branch."""
    return {(commit.repo, commit.branch): commit for commit in commits}


def _judge_commit(tx: Tx, commit: Commit) -> _Verdict:
    """Whether a commit of the same change may be read, must be waited for, or stops the reader."""
    job = producers(tx, [commit.id]).get(commit.id)
    if job is not None and job.state in {"failed", "refused", "blocked", "cancelled"}:
        if job.state == "blocked":
            return _Verdict("blocked", job.reason)
        how = "failed" if job.state == "failed" else f"was {job.state}"
        return _Verdict("blocked", f"{job.step} {how} (job {short(job.id)}).")
    if commit.state == "open":
        return _Verdict("wait")
    if commit.state == "aborted":
        return _Verdict("blocked", f"The commit {short(commit.id)} of {commit.repo} was aborted.")
    return _Verdict("start")
