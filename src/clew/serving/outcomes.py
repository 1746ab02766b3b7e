"""Sums of outcomes by revision, made from the rows of feedback and of answers.

Knows nothing of tests: rows in, sums out. Nothing is kept in memory, so that every process sees
the same, and a kill loses none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.sql.elements import ColumnElement

from clew.db import Tx
from clew.serving import accounts, tables
from clew.serving.sequential import Sums
from clew.serving.stats import Counts

ASKED = ("live", "canary", "arm")
"""Roles of predictions whose arm was drawn; one asked by version or as a shadow was not."""


def sums(tx: Tx, endpoint: str, metric: str, arms: Sequence[str], begun_us: int) -> dict[str, Sums]:
    """Revision → sums of the feedback on predictions made since a moment.

    ``metric``: reward, correct or error. A unit is all predictions of one key, or one without.
    """
    table = tables.feedback
    value: ColumnElement[Any] = table.c[metric] * 1.0
    units = (
        select(table.c.revision, func.avg(value).label("mean"), func.count().label("outcomes"))
        .where(
            and_(
                table.c.endpoint == endpoint,
                table.c.predicted_us >= begun_us,
                table.c.arm.in_(ASKED),
                table.c.revision.in_(list(arms)),
                table.c[metric].is_not(None),
            )
        )
        .group_by(table.c.revision, table.c.unit)
        .subquery()
    )
    rows = tx.execute(
        select(
            units.c.revision,
            func.count().label("units"),
            func.sum(units.c.outcomes).label("outcomes"),
            func.sum(units.c.mean).label("total"),
            func.sum(units.c.mean * units.c.mean).label("squares"),
            func.min(units.c.mean).label("low"),
            func.max(units.c.mean).label("high"),
        ).group_by(units.c.revision)
    )
    return {
        row.revision: Sums(
            units=int(row.units),
            outcomes=int(row.outcomes),
            total=float(row.total),
            squares=float(row.squares),
            low=float(row.low),
            high=float(row.high),
        )
        for row in rows
    }


def answered(tx: Tx, arms: Sequence[str], base: Mapping[str, Any]) -> dict[str, Counts]:
    """Revision → what it has answered since ``base`` was taken, or failed to answer in time."""
    found = {}
    for arm in arms:
        now = accounts.totals(tx, arm)
        since = now - accounts.from_base(base[arm]) if arm in base else now
        found[arm] = since.with_expired()
    return found


def failures(counts: Mapping[str, Counts]) -> dict[str, Sums]:
    """Revision → sums of failed requests, each request a unit."""
    return {
        arm: Sums(units=one.requests, outcomes=one.requests, total=one.errors, squares=one.errors)
        for arm, one in counts.items()
    }
