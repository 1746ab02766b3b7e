"""Tables of model versions, verdicts and the moves of aliases, with rows as records.

Knows nothing of how a model is made or judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Select,
    Table,
    Text,
    UniqueConstraint,
    Update,
    bindparam,
    func,
    select,
    update,
)

from clew.base.clock import from_us
from clew.base.records import Check, ModelVersion, Signature, Verdict
from clew.db import Json, metadata

Rows = Select[*tuple[Any, ...]]

model_versions = Table(
    "model_versions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("commit", Text, nullable=False, unique=True),
    Column("job", Text, nullable=False),
    Column("experiment", Text),
    Column("trial", Text),
    Column("params", Json, nullable=False),
    Column("signature", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("metrics", Json, nullable=False),
    Column("test_commit", Text),
    Column("verdict", Text),
    Column("created_us", BigInteger, nullable=False),
    UniqueConstraint("model", "version"),
    Index("model_versions_by_change", "global_id"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model_version", ForeignKey("model_versions.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("job", Text, nullable=False),  # '' for an override
    Column("global_id", Text, nullable=False),
    Column("blessed", Boolean, nullable=False),
    Column("checks", Json, nullable=False),
    Column("metrics", Json, nullable=False),
    Column("champion", Text),
    Column("champion_metrics", Json, nullable=False),
    Column("test_commit", Text, nullable=False),
    Column("commit", Text),
    Column("digest", Text, nullable=False),
    Column("overridden_by", Text, nullable=False),
    Column("override_reason", Text, nullable=False),
    Column("report", Text, nullable=False),  # digest; '' of one that was never judged
    Column("created_us", BigInteger, nullable=False),
    Index("verdicts_by_version", "model_version", "job"),
    Index("verdicts_by_change", "global_id"),
)

# Only ever added to: the last row of an alias is where it stands, the others are where it stood.
alias_moves = Table(
    "alias_moves",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("model", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("version", ForeignKey("model_versions.id"), nullable=False),
    Column("global_id", Text),
    Column("moved_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("moved_us", BigInteger, nullable=False),
    Column("back", Boolean, nullable=False),  # one step back, to where it stood before
    Index("alias_moves_by_alias", "model", "alias", "seq"),
    sqlite_autoincrement=True,
)

# Versions, newest first.
VERSIONS: Rows = select(model_versions).order_by(
    model_versions.c.created_us.desc(), model_versions.c.version.desc()
)

# The version that a commit holds.
VERSION_OF_COMMIT: Rows = select(model_versions).where(
    model_versions.c.commit == bindparam("commit")
)

# The number of the newest version of a model; NULL where it has none.
LAST_NUMBER: Select[*tuple[int | None]] = select(func.max(model_versions.c.version)).where(
    model_versions.c.model == bindparam("model")
)

# What a verdict changes of its version.
JUDGED: Update = (
    update(model_versions)
    .where(model_versions.c.id == bindparam("id_"))
    .values(
        state=bindparam("state_"),
        metrics=bindparam("metrics_"),
        test_commit=bindparam("test_commit_"),
        verdict=bindparam("verdict_"),
    )
)

# Verdicts, newest first.
VERDICTS: Rows = select(verdicts).order_by(verdicts.c.created_us.desc(), verdicts.c.id)

# The verdict that a job gave of a version.
VERDICT_OF_JOB: Rows = select(verdicts).where(
    verdicts.c.model_version == bindparam("model_version"), verdicts.c.job == bindparam("job")
)

# Where every alias stands now: the last move of each.
_LAST_MOVES = select(func.max(alias_moves.c.seq)).group_by(alias_moves.c.model, alias_moves.c.alias)
ALIASES: Rows = (
    select(alias_moves)
    .where(alias_moves.c.seq.in_(_LAST_MOVES))
    .order_by(alias_moves.c.model, alias_moves.c.alias)
)

# All moves of the aliases of a model, newest first.
ALIAS_HISTORY: Rows = (
    select(alias_moves, model_versions.c.version.label("number"))
    .join(model_versions, model_versions.c.id == alias_moves.c.version)
    .where(alias_moves.c.model == bindparam("model"))
    .order_by(alias_moves.c.seq.desc())
)


def version_of(row: Any, aliases: Mapping[str, list[str]]) -> ModelVersion:
    """The record of a row; ``aliases`` are names by the id of the version they stand on."""
    return ModelVersion(
        id=row.id,
        model=row.model,
        version=row.version,
        global_id=row.global_id,
        commit=row.commit,
        job=row.job,
        experiment=row.experiment,
        trial=row.trial,
        params=row.params,
        signature=msgspec.convert(row.signature, Signature),
        state=row.state,
        metrics=row.metrics,
        aliases=tuple(aliases.get(row.id, ())),
        test_commit=row.test_commit,
        verdict=row.verdict,
        created_at=from_us(row.created_us),
    )


def verdict_of(row: Any) -> Verdict:
    """The record of a row."""
    return Verdict(
        id=row.id,
        model_version=row.model_version,
        global_id=row.global_id,
        blessed=row.blessed,
        checks=msgspec.convert(row.checks, tuple[Check, ...]),
        metrics=row.metrics,
        champion=row.champion,
        champion_metrics=row.champion_metrics,
        test_commit=row.test_commit,
        commit=row.commit,
        digest=row.digest,
        created_at=from_us(row.created_us),
        overridden_by=row.overridden_by,
        override_reason=row.override_reason,
        report=row.report,
    )
