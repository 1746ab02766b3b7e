"""A job of a kind that is plugged in: skipped where it would repeat the last, else its runner runs.

Knows what a runner may ask of its job; what runners do is theirs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

from clew.base.errors import NotFound
from clew.base.records import ENDED_STATES, Commit
from clew.pipelines import tables
from clew.pipelines.batches import Interrupted
from clew.pipelines.cutting import matching
from clew.pipelines.datums import Cut
from clew.pipelines.jobs import Counts
from clew.pipelines.logs import append_log
from clew.pipelines.pinning import Pinned, Tools
from clew.pipelines.runner import Read
from clew.pipelines.signals import Signals
from clew.pipelines.undeclared import Undeclared
from clew.pipelines.work import unchanged_since

WRITE_S = 0.2
"""How long what a runner says of its progress may wait to be written."""


class _Run:
    """A :class:`clew.pipelines.StepRun`."""

    def __init__(self, tools: Tools, pinned: Pinned, signals: Signals) -> None:
        self._tools = tools
        self._pinned = pinned
        self._signals = signals
        self._lock = threading.Lock()
        self._told_at = 0.0
        self.undeclared = Undeclared()
        self.undeclared.take(pinned.row.extra)  # an engine that died has begun with it
        self.job = pinned.job
        self.definition = pinned.step
        self.inputs: Mapping[str, Commit] = pinned.inputs
        self.output = pinned.row.output
        self.parent = pinned.head
        self.snapshot_dir = tools.code_dir(pinned.step.function.snapshot)

    def paths(self, parameter: str) -> list[str]:
        one = next(one for one in self.definition.inputs if one.name == parameter)
        tree = self.inputs[parameter].tree
        return [entry.path for entry in matching(self._tools.store, one, tree)]

    def progress(self, done: int, total: int) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._told_at < WRITE_S and done < total:
                return
            self._told_at = now
        with self._tools.db.begin() as tx:
            self._tools.jobs.progress(tx, self.job.id, Counts(total=total, done=done))

    def heard(self, reads: Iterable[Read]) -> None:
        with self._lock:
            self.undeclared.add({"undeclared": list(reads)})
            extra = self.undeclared.extra()
        with self._tools.db.begin() as tx:
            self._tools.jobs.note(tx, self.job.id, extra)

    def log(self, text: str) -> None:
        append_log(self._tools.log_dir, self.job.id, [("", text)])

    def cancelled(self) -> bool:
        return self._signals.ending()


def run_plugged(tools: Tools, pinned: Pinned, signals: Signals) -> None:
    """Run a job whose step is no function of datums, to its end."""
    runner = tools.runners.get(pinned.step.kind)
    if runner is None:
        raise NotFound("runner.unknown", f"Nothing here runs steps of kind {pinned.step.kind!r}.")
    trees = {name: commit.tree for name, commit in pinned.inputs.items()}
    key = Cut(tools.store, pinned.step, trees, pinned.epoch).identity()
    name = {"pipeline": pinned.job.pipeline, "step": pinned.job.step}
    with tools.db.read() as tx:
        if pinned.step.kind in tools.remembered:
            last = tx.execute(
                tables.LAST_DONE_OF_KEY, {"step": pinned.job.step, "key": key}
            ).first()
        else:
            last = tx.execute(tables.LAST_DONE, name).first()
    if last is not None and last.key == key:
        tree = tools.repos.commit_by_id(last.output).tree
        reason = f"Nothing to do: {unchanged_since(last.id)}."
        with tools.db.begin() as tx:
            counts = Counts(total=1, skipped=1)
            tools.jobs.finish(tx, pinned.job.id, tree, counts=counts, reason=reason, key=key)
        return
    run = _Run(tools, pinned, signals)
    result = runner.run(run)
    if signals.ending():
        raise Interrupted
    done = result.state == "done"
    with tools.db.begin() as tx:
        row = tx.execute(tables.JOB, {"id": pinned.job.id}).one()
        if row.state in ENDED_STATES:
            return
        told = Counts(total=row.total, done=row.done, failed=row.failed)
        tools.jobs.finish(
            tx,
            pinned.job.id,
            result.tree,
            counts=told if told.total else Counts(total=1, done=int(done), failed=int(not done)),
            state=result.state,
            reason=result.reason,
            key=key,
            extra={**result.extra, **run.undeclared.extra()},
            then=result.on_finish,
        )
