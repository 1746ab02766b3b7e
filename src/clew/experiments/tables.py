"""Tables of experiments, trials and the points they reported, with rows as records.

Knows nothing of how a search goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Delete,
    Float,
    ForeignKey,
    Index,
    Integer,
    Select,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    delete,
    select,
)

from clew.base.clock import from_us
from clew.base.errors import from_wire
from clew.base.records import Experiment, MetricPoint, Trial
from clew.db import Json, metadata
from clew.experiments.definitions import SearchDefinition

Rows = Select[*tuple[Any, ...]]

experiments = Table(
    "experiments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, nullable=False, unique=True),
    Column("pipeline", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("definition", Json, nullable=False),
    Column("space", Json, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("best_trial", Text),
    Column("best_value", Float),
    Column("front", Json, nullable=False),  # ids of the trials that no other beats
    Column("prior", Text),  # the experiment that it was warm started from
    Column("spent_s", Float, nullable=False),  # how long it has been going on
    Column("ended_by", Text, nullable=False),  # time, cost, flat; '' where it came to its end
    Column("keep", Json, nullable=False),  # which checkpoints stay
    Column("initial", Text, nullable=False),  # the tree that its first trial begins with; ''
    Column("error", Json),  # of a failed one, as ClewError.to_wire()
    Column("created_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger),
    Index("experiments_by_change", "global_id"),
    Index("experiments_by_time", "created_us"),
)

trials = Table(
    "trials",
    metadata,
    Column("id", Text, primary_key=True),
    Column("experiment", ForeignKey("experiments.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("bracket", Integer, nullable=False),
    Column("params", Json, nullable=False),
    Column("noted", Json, nullable=False),  # by the sampler, for itself
    Column("busy_s", Float, nullable=False),  # seconds of workers
    Column("seed", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("target", Integer, nullable=False),  # the step that its run is going to, or went to
    Column("value", Float),
    Column("rungs", Json, nullable=False),  # the metric at each rung reached; null: not finite
    Column("breaches", Json, nullable=False),  # by how much each rule was broken, at each rung
    Column("checkpoint", Text),  # the commit
    Column("checkpoint_step", Integer, nullable=False),
    Column("tree", Text, nullable=False),  # of that commit
    Column("share", Float),  # how far it says it is
    Column("note", Text, nullable=False),
    Column("wish", Text, nullable=False),  # pause, cancel or '': what somebody wants of it
    Column("changed", Json, nullable=False),  # parameters that a rule over logs has changed
    Column("tries", Json, nullable=False),  # how often it was tried again, by what allowed it
    Column("error", Text, nullable=False),
    Column("log", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    UniqueConstraint("experiment", "number"),
    Index("trials_by_change", "global_id"),
)

# One row for each step of a trial that was reported, whatever was run twice in between.
points = Table(
    "trial_points",
    metadata,
    Column("trial", ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("metrics", Json, nullable=False),  # null: not finite
    Column("at_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

OF_JOB: Rows = select(experiments).where(experiments.c.job == bindparam("job"))

# By the whole id or a prefix of it.
BY_PREFIX: Rows = (
    select(experiments)
    .where(experiments.c.id >= bindparam("prefix"), experiments.c.id < bindparam("end"))
    .order_by(experiments.c.id)
    .limit(20)
)

# The last search of a step that came to its end.
DONE_BEFORE: Rows = (
    select(experiments)
    .where(
        experiments.c.pipeline == bindparam("pipeline"),
        experiments.c.step == bindparam("step"),
        experiments.c.state == "done",
    )
    .order_by(experiments.c.created_us.desc(), experiments.c.id.desc())
    .limit(1)
)

NEWEST: Rows = (
    select(experiments)
    .order_by(experiments.c.created_us.desc(), experiments.c.id)
    .limit(bindparam("limit"))
)
OF_CHANGE: Rows = (
    select(experiments)
    .where(experiments.c.global_id == bindparam("global_id"))
    .order_by(experiments.c.created_us, experiments.c.id)
)

TRIALS: Rows = (
    select(trials).where(trials.c.experiment == bindparam("experiment")).order_by(trials.c.number)
)
TRIAL_BY_PREFIX: Rows = (
    select(trials)
    .where(trials.c.id >= bindparam("prefix"), trials.c.id < bindparam("end"))
    .order_by(trials.c.id)
    .limit(20)
)
TRIALS_OF_CHANGE: Rows = (
    select(trials)
    .where(trials.c.global_id == bindparam("global_id"))
    .order_by(trials.c.experiment, trials.c.number)
)

WISHES: Rows = select(trials.c.number, trials.c.wish).where(
    trials.c.experiment == bindparam("experiment"), trials.c.wish != ""
)

POINTS_OF_TRIAL: Rows = (
    select(points).where(points.c.trial == bindparam("trial")).order_by(points.c.step)
)
POINTS_OF_EXPERIMENT: Rows = (
    select(points)
    .join(trials, trials.c.id == points.c.trial)
    .where(trials.c.experiment == bindparam("experiment"))
    .order_by(trials.c.number, points.c.step)
)

# What a trial reported after the checkpoint that it goes back to: it is about to report it again.
FORGET_POINTS: Delete = delete(points).where(
    points.c.trial == bindparam("of_trial"), points.c.step > bindparam("after_step")
)


def experiment_of(row: Any) -> Experiment:
    """The record of a row."""
    return Experiment(
        id=row.id,
        job=row.job,
        pipeline=row.pipeline,
        step=row.step,
        global_id=row.global_id,
        state=row.state,
        searcher=_name(row.definition),
        metric=row.definition["metric"],
        mode=row.definition["mode"],
        trials=row.trials,
        best_trial=row.best_trial,
        best_value=row.best_value,
        created_at=from_us(row.created_us),
        finished_at=None if row.finished_us is None else from_us(row.finished_us),
        error=str(from_wire(row.error)) if row.error else "",
        objectives=row.definition.get("objectives", {}),
        front=tuple(row.front),
        prior=row.prior,
        ended_by=row.ended_by,
        sampler=row.definition["sampler"],
        constraints=tuple(row.definition.get("constraints", ())),
    )


def _name(definition: Mapping[str, Any]) -> str:
    """As :attr:`SearchDefinition.name`."""
    searcher, sampler = definition["searcher"], definition["sampler"]
    return str(sampler if searcher == "sampled" else searcher)


def trial_of(row: Any) -> Trial:
    """The record of a row."""
    return Trial(
        id=row.id,
        experiment=row.experiment,
        number=row.number,
        global_id=row.global_id,
        params={**row.params, **row.changed},
        state=row.state,
        step=row.step,
        value=row.value,
        rung=max(0, len(row.rungs) - 1),
        checkpoint=row.checkpoint,
        seed=row.seed,
        error=row.error,
        target=0 if row.target == SearchDefinition.OPEN_END else row.target,
        progress=row.share,
        note=row.note,
        checkpoint_step=row.checkpoint_step,
        bracket=row.bracket,
        busy_s=row.busy_s,
        restarts=sum(row.tries.values()),
        breaches=_broken(row.breaches[-1]) if row.breaches else {},
    )


def _broken(found: Mapping[str, float | None]) -> dict[str, float | None]:
    return {rule: amount for rule, amount in found.items() if amount != 0}


def point_of(row: Any) -> MetricPoint:
    """The record of a row; a metric that was not finite leaves a gap."""
    metrics = {name: value for name, value in row.metrics.items() if value is not None}
    return MetricPoint(trial=row.trial, step=row.step, metrics=metrics, at=from_us(row.at_us))
