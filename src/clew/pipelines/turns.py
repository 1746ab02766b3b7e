"""Whose turn it is among jobs that could start: limits on how many and how often, and coalescing.

Knows rows and policies; what stops a job from starting at all is for ``engine``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from clew.base import clock
from clew.base.records.policy import Rate
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.registry import Graph, StepName


class Turns:
    """The limits of pipelines and steps. Used by one thread at a time.

    Rows are asked only where a limit is set, and not again before it can have changed.
    """

    def __init__(self) -> None:
        self._not_before: dict[StepName, float] = {}
        self._started: dict[str, tuple[StepName, int]] = {}

    def may_start(
        self, tx: Tx, graph: Graph, name: StepName, running: Collection[StepName]
    ) -> bool:
        """Whether the limits of a step and of its pipeline let one more job of it start now."""
        pipeline, step = graph.pipelines[name[0]], graph.step(name)
        assert step is not None
        limit = pipeline.policy.max_jobs
        if limit is not None and sum(one[0] == name[0] for one in running) >= limit:
            return False
        of_pipeline, of_step = (name[0], ""), name
        return self._has_slot(tx, of_pipeline, pipeline.policy.rate) and self._has_slot(
            tx, of_step, step.policy.rate
        )

    def _has_slot(self, tx: Tx, name: StepName, rate: Rate | None) -> bool:
        if rate is None:
            return True
        now = time.monotonic()
        if now < self._not_before.get(name, 0.0):
            return False
        self._not_before[name] = now + self._pause_s(tx, name, rate)
        return self._not_before[name] <= now

    def started(self, graph: Graph, name: StepName, job_id: str) -> None:
        """Note a start: its thread has yet to write it down."""
        pipeline, step = graph.pipelines[name[0]], graph.step(name)
        if pipeline.policy.rate or (step and step.policy.rate):
            self._started[job_id] = (name, clock.to_us(clock.now()))

    def _pause_s(self, tx: Tx, name: StepName, rate: Rate) -> float:
        """Seconds until a start would be within the rate; 0 where it is."""
        since_us = clock.to_us(clock.now()) - int(rate.per_s * 1e6)
        query = tables.STARTS
        if name[1]:
            query = query.where(tables.jobs.c.step == name[1])
        rows = tx.execute(query, {"pipeline": name[0], "since_us": since_us})
        found = {row.id: row.started_us for row in rows}
        for job_id, (of, at_us) in list(self._started.items()):
            if at_us > since_us and name in {of, (of[0], "")}:
                found.setdefault(job_id, at_us)
            elif at_us <= since_us and name == of:
                del self._started[job_id]
        starts = sorted(found.values())
        if len(starts) < rate.starts:
            return 0.0
        return max(0.0, float(starts[-rate.starts] - since_us) / 1e6)


def is_limited(graph: Graph, name: StepName) -> bool:
    """Whether more than its inputs decides when a job of a step starts."""
    step, policy = graph.step(name), graph.pipelines[name[0]].policy
    own = step is not None and (step.policy.rate is not None or not step.policy.every_commit)
    return own or policy.rate is not None or policy.max_jobs is not None


def superseded_by(
    tx: Tx, step: StepDefinition, row: Any, startable: Callable[[Any], bool]
) -> tuple[Any, list[Any]]:
    """The job that runs in the place of ``row``, and those (``row`` among them) whose place it is.

    Where every commit is wanted that is ``row`` itself, in the place of none. Else it is the newest
    job of the step that could start too; what was asked for by hand is never passed over.
    """
    if step.policy.every_commit:
        return row, []
    name = {"pipeline": row.pipeline, "step": row.step}
    waiting = list(tx.execute(tables.WAITING_OF_STEP, name))
    at_row = next((one for one in waiting if one.id == row.id), None)
    if at_row is None:
        return row, []
    for at, newer in enumerate(waiting):
        older = waiting[at + 1 :]
        passes = any(one.forced or one.anew or one.cancelled for one in older)
        if newer.number > at_row.number and not passes and startable(newer):
            return newer, older
    return row, []


class Slots:
    """How many datums of each pipeline run now, over all its jobs. Thread-safe."""

    def __init__(self) -> None:
        self._taken = Counter[str]()
        self._lock = threading.Lock()

    def take(self, pipeline: str, limit: int | None) -> bool:
        """Take one; False where all are taken."""
        if limit is None:
            return True
        with self._lock:
            if self._taken[pipeline] >= limit:
                return False
            self._taken[pipeline] += 1
            return True

    def give(self, pipeline: str, limit: int | None) -> None:
        """Give one back."""
        if limit is not None:
            with self._lock:
                self._taken[pipeline] -= 1
