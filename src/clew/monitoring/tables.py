"""Tables of monitors, of what they have looked at, and of their reports, with rows as records.

Knows nothing of distances.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Delete,
    Index,
    Integer,
    Select,
    Table,
    Text,
    Update,
    bindparam,
    delete,
    select,
    update,
)

from clew.base.clock import from_us
from clew.base.records import ColumnDrift, DriftReport
from clew.db import Json, metadata

Rows = Select[*tuple[Any, ...]]

# ``cursor``: the last commit of the prediction log that was looked at; '' before the first.
monitors = Table(
    "monitors",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("definition", Json, nullable=False),
    Column("cursor", Text, nullable=False),
    Column("defined_us", BigInteger, nullable=False),
)

# Rows of one model version in one commit of the log; ``report`` is '' while they wait for more.
windows = Table(
    "monitor_windows",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("report", Text, nullable=False),
    Index("monitored_once", "endpoint", "commit", "model_version", unique=True),
    Index("monitor_windows_waiting", "endpoint", "report"),
)

reports = Table(
    "drift_reports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("drifted", Boolean, nullable=False),
    Column("columns", Json, nullable=False),
    Column("commit", Text),
    Column("action", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index("drift_reports_by_version", "endpoint", "model_version", "created_us"),
    Index("drift_reports_by_change", "global_id"),
)

# What waits for more rows, oldest first.
WAITING: Rows = (
    select(windows)
    .where(windows.c.endpoint == bindparam("endpoint"), windows.c.report == "")
    .order_by(windows.c.seq)
)

# Rows that a report has taken in: only those that were still waiting.
TAKEN: Update = (
    update(windows)
    .where(
        windows.c.endpoint == bindparam("endpoint_"),
        windows.c.model_version == bindparam("version_"),
        windows.c.commit == bindparam("commit_"),
        windows.c.report == "",
    )
    .values(report=bindparam("report_"))
)

# Rows that no report will take in: only those that are still waiting.
LET_GO: Delete = delete(windows).where(
    windows.c.endpoint == bindparam("endpoint_"),
    windows.c.model_version == bindparam("version_"),
    windows.c.commit == bindparam("commit_"),
    windows.c.report == "",
)

# The cursor moves only from where it was seen.
MOVE: Update = (
    update(monitors)
    .where(monitors.c.endpoint == bindparam("endpoint_"), monitors.c.cursor == bindparam("old_"))
    .values(cursor=bindparam("new_"))
)

# The last report on a version at an endpoint.
LAST_OF_VERSION: Rows = (
    select(reports)
    .where(
        reports.c.endpoint == bindparam("endpoint"),
        reports.c.model_version == bindparam("model_version"),
    )
    .order_by(reports.c.created_us.desc())
    .limit(1)
)

# The last report on an endpoint that began a training.
LAST_ALARM: Rows = (
    select(reports)
    .where(reports.c.endpoint == bindparam("endpoint"), reports.c.action == "retrain")
    .order_by(reports.c.created_us.desc())
    .limit(1)
)

# All reports on a version at an endpoint, the first of them first.
OF_VERSION: Rows = (
    select(reports)
    .where(
        reports.c.endpoint == bindparam("endpoint"),
        reports.c.model_version == bindparam("model_version"),
    )
    .order_by(reports.c.created_us)
)

# Reports, newest first.
REPORTS: Rows = select(reports).order_by(reports.c.created_us.desc(), reports.c.id)


def report_of(row: Any) -> DriftReport:
    """The record of a row."""
    return DriftReport(
        id=row.id,
        endpoint=row.endpoint,
        model_version=row.model_version,
        global_id=row.global_id,
        rows=row.rows,
        drifted=row.drifted,
        columns=msgspec.convert(row.columns, tuple[ColumnDrift, ...]),
        commit=row.commit,
        action=row.action,
        created_at=from_us(row.created_us),
    )
