"""Tables of what a trial keeps besides metrics: files that it logged, what it used of the machine.

Knows nothing of how a search goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Delete,
    Float,
    ForeignKey,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    select,
)

from clew.base.clock import from_us
from clew.base.records.trials import CheckpointInfo, TrialFile, UsageSample
from clew.db import Json, Tx, metadata
from clew.experiments.tables import trials

Rows = Select[*tuple[Any, ...]]

# One row for each name and step: a trial that begins again writes the same ones once more.
files = Table(
    "trial_files",
    metadata,
    Column("trial", ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),  # name/STEP.suffix
    Column("type", Text, nullable=False),  # text, table, figure or image
    Column("step", Integer, nullable=False),
    Column("digest", Text, nullable=False),  # of the content in the store
    Column("size_bytes", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

usage = Table(
    "trial_usage",
    metadata,
    Column("trial", ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True),
    Column("at_us", BigInteger, primary_key=True),
    Column("values", Json, nullable=False),
    sqlite_with_rowid=False,
)

# Of commits that are there; what is known of those that are gone, lineage keeps.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("commit", Text, primary_key=True),
    Column("trial", ForeignKey("trials.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("number", Integer, nullable=False),  # of the trial
    Column("step", Integer, nullable=False),
    Column("value", Float),  # the metric after so many steps; null: none, or not finite
    Column("tree", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

# What the job of a fork searches, in place of what its step says.
forks = Table(
    "forks",
    metadata,
    Column("job", Text, primary_key=True),
    Column("source", Text, nullable=False),  # the experiment or the trial that it is made of
    Column("definition", Json, nullable=False),
    Column("space", Json, nullable=False),
    Column("tree", Text, nullable=False),  # what its first trial begins with; ''
    Column("step", Integer, nullable=False),  # steps behind that
    Column("seed", BigInteger),  # of the trial that goes on
)

FORK: Rows = select(forks).where(forks.c.job == bindparam("job"))

CHECKPOINTS: Rows = (
    select(checkpoints)
    .join(trials, trials.c.id == checkpoints.c.trial)
    .where(trials.c.experiment == bindparam("experiment"))
    .order_by(checkpoints.c.number, checkpoints.c.step, checkpoints.c.at_us)
)

FILES_OF_TRIAL: Rows = (
    select(files).where(files.c.trial == bindparam("trial")).order_by(files.c.path)
)
FILE: Rows = select(files).where(
    files.c.trial == bindparam("trial"), files.c.path == bindparam("path")
)
USAGE_OF_TRIAL: Rows = (
    select(usage).where(usage.c.trial == bindparam("trial")).order_by(usage.c.at_us)
)

# What a trial logged after the checkpoint that it goes back to: it is about to be logged again.
FORGET_FILES: Delete = delete(files).where(
    files.c.trial == bindparam("of_trial"), files.c.step > bindparam("after_step")
)


def write(tx: Tx, logged: Sequence[dict[str, Any]], samples: Sequence[dict[str, Any]]) -> None:
    """Keep rows of files and of usage; those that are there are replaced."""
    if logged:
        refresh = ["type", "step", "digest", "size_bytes", "at_us"]
        tx.upsert(files, list(logged), key=["trial", "path"], refresh=refresh)
    if samples:
        rows = {(row["trial"], row["at_us"]): row for row in samples}
        tx.upsert(usage, list(rows.values()), key=["trial", "at_us"], refresh=["values"])


def file_of(row: Any) -> TrialFile:
    """The record of a row."""
    return TrialFile(
        trial=row.trial,
        path=row.path,
        kind=row.type,
        step=row.step,
        size_bytes=row.size_bytes,
        digest=row.digest,
        at=from_us(row.at_us),
    )


def sample_of(row: Any) -> UsageSample:
    """The record of a row."""
    return UsageSample(at=from_us(row.at_us), values=row.values)


def checkpoint_of(row: Any, kept_for: Sequence[str]) -> CheckpointInfo:
    """The record of a row."""
    return CheckpointInfo(
        commit=row.commit,
        trial=row.trial,
        number=row.number,
        step=row.step,
        value=row.value,
        size_bytes=row.size_bytes,
        at=from_us(row.at_us),
        kept_for=tuple(kept_for),
    )
