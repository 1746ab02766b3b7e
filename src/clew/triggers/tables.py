"""Tables of triggers, of their firings, and of the last event that was looked at.

Knows nothing of actions.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Select,
    Table,
    Text,
    UniqueConstraint,
    Update,
    bindparam,
    select,
    update,
)

from clew.base.clock import from_us
from clew.db import Json, metadata
from clew.triggers.records import Firing, Trigger

Rows = Select[*tuple[Any, ...]]

# ``since``: the last event before the trigger was defined; what came before does not count.
triggers = Table(
    "triggers",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("event", Text, nullable=False),
    Column("definition", Json, nullable=False),
    Column("since", Integer, nullable=False),
)

# One row for each event that met a trigger, whatever became of it.
firings = Table(
    "firings",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("pipeline", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("cause", Integer, nullable=False),
    Column("event", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("data", Json, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("arguments", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),  # of the event: cool-downs count from there
    Column("created_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),  # not to be tried before
    Column("finished_us", BigInteger),
    UniqueConstraint("pipeline", "trigger", "cause"),
    Index("firings_by_state", "state", "seq"),
    Index("firings_by_change", "global_id"),
)

# A single row: events up to ``seq`` have been looked at.
cursor = Table(
    "trigger_cursor",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
)

# Triggers by name.
ALL: Rows = select(triggers).order_by(triggers.c.pipeline, triggers.c.name)

# Firings whose action is to be run now, oldest first.
DUE: Rows = (
    select(firings)
    .where(firings.c.state == "pending", firings.c.due_us <= bindparam("now_us"))
    .order_by(firings.c.seq)
)

# Whether a firing is pending, due or not.
PENDING: Rows = select(firings.c.seq).where(firings.c.state == "pending").limit(1)

# Firings, newest first.
NEWEST: Rows = select(firings).order_by(firings.c.seq.desc())

# The last firing of a trigger that was not skipped.
LAST_FIRED: Rows = (
    select(firings)
    .where(
        firings.c.pipeline == bindparam("pipeline"),
        firings.c.trigger == bindparam("trigger"),
        firings.c.state != "skipped",
    )
    .order_by(firings.c.seq.desc())
    .limit(1)
)

# How an action went; only a pending firing can end.
ENDED: Update = (
    update(firings)
    .where(firings.c.id == bindparam("id_"), firings.c.state == "pending")
    .values(
        state=bindparam("state_"),
        attempts=firings.c.attempts + 1,
        error=bindparam("error_"),
        due_us=bindparam("due_us_"),
        finished_us=bindparam("finished_us_"),
    )
)


def trigger_of(row: Any) -> Trigger:
    """The record of a row."""
    return msgspec.convert(row.definition, Trigger)


def firing_of(row: Any) -> Firing:
    """The record of a row."""
    return Firing(
        id=row.id,
        trigger=row.trigger,
        pipeline=row.pipeline,
        cause=row.cause,
        event=row.event,
        subject=row.subject,
        data=row.data,
        global_id=row.global_id,
        action=row.action,
        arguments=row.arguments,
        state=row.state,
        reason=row.reason,
        attempts=row.attempts,
        error=row.error,
        created_at=from_us(row.created_us),
        finished_at=from_us(row.finished_us) if row.finished_us is not None else None,
    )
