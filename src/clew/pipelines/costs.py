"""What a plan is likely to cost, from what the steps took before.

Reads rows; knows a plan's datums and definitions as values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from sqlalchemy import select

from clew.base.records import PlannedDatum, StepCost
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.definitions import PipelineDefinition, StepDefinition

_DATUMS = 500
_JOBS = 10


def costs_of(
    tx: Tx,
    definition: PipelineDefinition,
    planned: Sequence[PlannedDatum],
    unknown: Iterable[str],
    parallel: int,
) -> tuple[StepCost, ...]:
    """What each step would do; of those whose inputs are not known yet, a guess.

    A step that is cut by the files of one above runs about as many datums as that one; another one
    runs all that it had. A training or a gate runs once, whatever its job counted.
    """
    counts = Counter((one.step, one.action) for one in planned)
    running, found = dict[str, int](), list[StepCost]()
    for step in definition.in_order():
        jobs = _jobs(tx, definition.name, step.name)
        sure = step.name not in set(unknown)
        run, skip = counts[step.name, "run"], counts[step.name, "skip"]
        if not sure:
            total = jobs[0].total if jobs and step.kind == "step" else 1
            run = min(_above(step, running, total), max(total, 1))
            skip = max(total - run, 0)
        if run:
            running[step.output_repo] = run
        each_s = _each(tx, step, jobs)
        lanes = max(1, min(parallel, run)) if step.kind == "step" else 1
        found.append(
            StepCost(
                step=step.name,
                run=run,
                skip=skip,
                delete=counts[step.name, "delete"],
                sure=sure,
                each_s=each_s,
                total_s=0.0 if not run else None if each_s is None else each_s * run / lanes,
            )
        )
    return tuple(found)


def _above(step: StepDefinition, running: dict[str, int], total: int) -> int:
    changed = [one for one in step.inputs if one.repo in running]
    if step.kind == "step" and changed and all(one.per != "repo" for one in changed):
        return max(running[one.repo] for one in changed)
    return max(total, 1)


def _jobs(tx: Tx, pipeline: str, step: str) -> list[Any]:
    """The last good jobs of a step that did something."""
    jobs = tables.jobs
    query = (
        select(jobs.c.id, jobs.c.total, jobs.c.started_us, jobs.c.finished_us)
        .where(
            jobs.c.pipeline == pipeline,
            jobs.c.step == step,
            jobs.c.state == "done",
            jobs.c.skipped < jobs.c.total,
        )
        .order_by(jobs.c.number.desc())
        .limit(_JOBS)
    )
    return list(tx.execute(query))


def _each(tx: Tx, step: StepDefinition, jobs: Sequence[Any]) -> float | None:
    if not jobs:
        return None
    if step.kind != "step":
        took = [job.finished_us - job.started_us for job in jobs if job.started_us]
        return median(took) / 1e6 if took else None
    datums = tables.datums
    query = (
        select(datums.c.duration_us)
        .where(datums.c.job.in_([job.id for job in jobs]), datums.c.state == "done")
        .limit(_DATUMS)
    )
    took = [row.duration_us for row in tx.execute(query)]
    return median(took) / 1e6 if took else None
