"""Tables of pipelines, their versions, jobs and datums, and the statements over them.

Knows nothing of bytes and runs nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Delete,
    Index,
    Integer,
    Select,
    Table,
    Text,
    Update,
    bindparam,
    case,
    cast,
    exists,
    func,
    select,
)
from sqlalchemy.sql.dml import ReturningUpdate

from clew.db import Json, metadata

Rows = Select[*tuple[Any, ...]]

pipelines = Table(
    "pipelines",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, nullable=False),
)

pipeline_versions = Table(
    "pipeline_versions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("definition", Json, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

# ``number`` orders the jobs of a step. ``version`` (of the pipeline), ``inputs``, ``base`` and
# ``epoch`` are written when the job starts; ``key`` tells whether a train or gate job would repeat
# the last one. ``inputs`` maps a parameter to the id of a commit, '' where there was none.
# ``cancelled`` and ``pausing`` are wishes to a job that runs. ``anew`` maps keys of datums that run
# although they are done to [outputs, aside] of before.
jobs = Table(
    "jobs",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("pipeline", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("forced", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("pausing", Integer, nullable=False),
    Column("anew", Json, nullable=False),
    Column("output", Text, nullable=False, unique=True),
    Column("version", Integer),
    Column("inputs", Json, nullable=False),
    Column("base", Text),
    Column("epoch", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("recovered", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("finished_us", BigInteger),
    Column("error", Text, nullable=False),
    Column("extra", Json, nullable=False),
    Index("jobs_by_state", "state", "number"),
    Index("jobs_by_step", "pipeline", "step", "number"),
    Index("jobs_by_change", "global_id", "number"),
    sqlite_autoincrement=True,
)

# What was run. One row in state done for a key, ever (a forced run has keys of its own); beside it
# one row for each job in which the key failed, was refused or recovered. ``outputs`` and ``aside``
# (rows put in quarantine) are lists of [path, digest, size]; ``inputs`` of [repo, path, digest].
datums = Table(
    "datums",
    metadata,
    Column("key", Text, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("outputs", Json, nullable=False),
    Column("aside", Json, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("evidence", Json, nullable=False),
    Index("datums_by_job", "job"),
    sqlite_with_rowid=False,
)

# What is not to start: a step, or ('') a whole pipeline.
pauses = Table(
    "pauses",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("step", Text, primary_key=True),
)
PAUSED: Rows = select(pauses)

EVIDENCE_OF_JOB: Rows = select(datums.c.evidence).where(
    datums.c.job == bindparam("job"), datums.c.state == "done"
)

# pipelines ----------------------------------------------------------------------------------

VERSIONS: Rows = select(pipelines).order_by(pipelines.c.name)

# A pipeline in its current version; in a version.
CURRENT: Rows = (
    select(pipeline_versions)
    .join(
        pipelines,
        (pipelines.c.name == pipeline_versions.c.name)
        & (pipelines.c.version == pipeline_versions.c.version),
    )
    .where(pipelines.c.name == bindparam("name"))
)
CURRENT_OF_ALL: Rows = (
    select(pipeline_versions.c.definition)
    .join(
        pipelines,
        (pipelines.c.name == pipeline_versions.c.name)
        & (pipelines.c.version == pipeline_versions.c.version),
    )
    .order_by(pipelines.c.name)
)
VERSION: Rows = select(pipeline_versions).where(
    pipeline_versions.c.name == bindparam("name"),
    pipeline_versions.c.version == bindparam("version"),
)

# jobs ---------------------------------------------------------------------------------------

COUNTS: Rows = (
    select(
        jobs.c.pipeline,
        jobs.c.step,
        jobs.c.state,
        func.count().label("jobs"),
        func.sum(jobs.c.done).label("done"),
        func.sum(jobs.c.skipped).label("skipped"),
        func.sum(jobs.c.failed).label("failed"),
    )
    .group_by(jobs.c.pipeline, jobs.c.step, jobs.c.state)
    .order_by(jobs.c.pipeline, jobs.c.step, jobs.c.state)
)
JOB: Rows = select(jobs).where(jobs.c.id == bindparam("id"))
BY_PREFIX: Rows = (
    select(jobs)
    .where(jobs.c.id >= bindparam("prefix"), jobs.c.id < bindparam("end"))
    .order_by(jobs.c.number.desc())
    .limit(20)
)
BY_OUTPUT: Rows = select(jobs).where(jobs.c.output == bindparam("output"))
# Which jobs make commits, and how these jobs stand.
PRODUCERS: Rows = select(jobs.c.output, jobs.c.id, jobs.c.step, jobs.c.state, jobs.c.reason).where(
    jobs.c.output.in_(bindparam("outputs", expanding=True))
)
OF_CHANGE: Rows = (
    select(jobs).where(jobs.c.global_id == bindparam("global_id")).order_by(jobs.c.number)
)
STEPS_OF_CHANGE: Rows = select(jobs.c.pipeline, jobs.c.step, jobs.c.state).where(
    jobs.c.global_id == bindparam("global_id")
)

# The first waiting job of each step, in the order of their turns. A paused one keeps its place.
FIRST_WAITING: Rows = (
    select(jobs.c.id, jobs.c.pipeline, jobs.c.step, jobs.c.global_id, jobs.c.cancelled)
    .where(
        jobs.c.state == "waiting",
        jobs.c.number.in_(
            select(func.min(jobs.c.number))
            .where(jobs.c.state.in_(["waiting", "paused"]))
            .group_by(jobs.c.pipeline, jobs.c.step)
        ),
    )
    .order_by(jobs.c.priority.desc(), jobs.c.number)
)

# All jobs of a step that wait, newest first.
WAITING_OF_STEP: Rows = (
    select(jobs)
    .where(
        jobs.c.pipeline == bindparam("pipeline"),
        jobs.c.step == bindparam("step"),
        jobs.c.state == "waiting",
    )
    .order_by(jobs.c.number.desc())
)

# Moments at which jobs of a pipeline (of a step) were started since one, oldest first.
STARTS: Rows = (
    select(jobs.c.id, jobs.c.started_us)
    .where(jobs.c.pipeline == bindparam("pipeline"), jobs.c.started_us > bindparam("since_us"))
    .order_by(jobs.c.started_us)
)

# Jobs that have not ended, in the order of creation.
NOT_ENDED: Rows = (
    select(jobs).where(jobs.c.state.in_(["waiting", "running", "paused"])).order_by(jobs.c.number)
)
STATES_NOT_ENDED: Rows = (
    select(jobs.c.state).where(jobs.c.state.in_(["waiting", "running", "paused"])).distinct()
)
STATES_OF_CHANGE: Rows = (
    select(jobs.c.state).where(jobs.c.global_id == bindparam("global_id")).distinct()
)
ANY_PAUSED: Rows = select(jobs.c.id).where(jobs.c.state == "paused").limit(1)

# The next job of a step after one, that was not in vain.
LATER: Rows = (
    select(jobs)
    .where(
        jobs.c.pipeline == bindparam("pipeline"),
        jobs.c.step == bindparam("step"),
        jobs.c.number > bindparam("number"),
        jobs.c.state.in_(["waiting", "running", "paused", "done"]),
    )
    .order_by(jobs.c.number.desc())
    .limit(1)
)
CHANGES_BY_PREFIX: Rows = (
    select(jobs.c.global_id)
    .where(jobs.c.global_id >= bindparam("prefix"), jobs.c.global_id < bindparam("end"))
    .distinct()
    .limit(3)
)

# Jobs that run, and whether somebody wants them to end or to pause.
RUNNING: Rows = select(
    jobs.c.id, jobs.c.pipeline, jobs.c.step, jobs.c.cancelled, jobs.c.pausing
).where(jobs.c.state == "running")

# Steps that have a job which has not ended.
UNENDED_IDS: Rows = select(jobs.c.id).where(jobs.c.state.in_(["waiting", "running", "paused"]))
UNENDED: Rows = (
    select(jobs.c.pipeline, jobs.c.step)
    .where(jobs.c.state.in_(["waiting", "running", "paused"]))
    .distinct()
)

# The newest job of each step that failed, was refused or blocked, where none was good after it; the
# newest first.
BAD = ("failed", "refused", "blocked")
_later = jobs.alias("later")
BROKEN: Rows = (
    select(jobs)
    .where(
        jobs.c.number.in_(
            select(func.max(jobs.c.number))
            .where(jobs.c.state.in_(BAD))
            .group_by(jobs.c.pipeline, jobs.c.step)
        ),
        ~exists().where(
            _later.c.pipeline == jobs.c.pipeline,
            _later.c.step == jobs.c.step,
            _later.c.number > jobs.c.number,
            _later.c.state == "done",
        ),
    )
    .order_by(jobs.c.number.desc())
)
BAD_JOBS: Rows = select(func.count()).select_from(jobs).where(jobs.c.state.in_(BAD))

# The last job of a step that ended well.
LAST_DONE: Rows = (
    select(jobs)
    .where(
        jobs.c.pipeline == bindparam("pipeline"),
        jobs.c.step == bindparam("step"),
        jobs.c.state == "done",
    )
    .order_by(jobs.c.number.desc())
    .limit(1)
)
# The last job of a step that ended well and had this key.
# Keys hold the output repo, so that one key is one step, on whatever branch it ran.
LAST_DONE_OF_KEY: Rows = (
    select(jobs)
    .where(jobs.c.step == bindparam("step"), jobs.c.key == bindparam("key"))
    .where(jobs.c.state == "done")
    .order_by(jobs.c.number.desc())
    .limit(1)
)
FIRST_DONE_OF_KEY: Rows = (
    select(jobs)
    .where(jobs.c.step == bindparam("step"), jobs.c.key == bindparam("key"))
    .where(jobs.c.state == "done", jobs.c.skipped == 0)
    .order_by(jobs.c.number)
    .limit(1)
)
ADD_JOB = jobs.insert().returning(jobs)
UPDATE_JOB: ReturningUpdate[*tuple[Any, ...]] = (
    jobs.update().where(jobs.c.id == bindparam("job_id")).returning(jobs)
)
ADD_DATUMS = datums.insert()

# A crash leaves jobs in state running: they wait again, or are paused if that was the wish.
RECOVER: Update = (
    jobs.update()
    .where(jobs.c.state == "running")
    .values(
        state=case((jobs.c.pausing == 1, "paused"), else_="waiting"), pausing=0, started_us=None
    )
)

# datums -------------------------------------------------------------------------------------

DONE_AMONG: Rows = select(datums.c.key, datums.c.job, datums.c.outputs, datums.c.aside).where(
    datums.c.state == "done", datums.c.key.in_(bindparam("keys", expanding=True))
)
# The row of a key in state done, which is about to be written anew.
FORGET_DONE: Delete = datums.delete().where(
    datums.c.key == bindparam("of_key"), datums.c.state == "done"
)
# By what they read; a job may have 100,000 of them.
OF_JOB: Rows = (
    select(datums)
    .where(datums.c.job == bindparam("job"))
    .order_by(cast(datums.c.inputs, Text))
    .limit(bindparam("limit"))
)
DATUMS_BY_RANGE: Rows = (
    select(datums)
    .where(datums.c.key >= bindparam("low"), datums.c.key <= bindparam("high"))
    .limit(20)
)
