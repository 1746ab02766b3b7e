"""Tables of triggers: how far each is, its clocks, its firings, and which causes have set it off.

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
    Update,
    bindparam,
    func,
    select,
    update,
)

from clew.base.clock import from_us
from clew.base.records.feeds import FiringInfo
from clew.db import Json, metadata
from clew.triggers.records import Firing, Trigger

Rows = Select[*tuple[Any, ...]]

# ``since``: the last event before the trigger was defined; what came before does not count.
# ``state`` is how far its condition is, moved in the transaction that moves the cursor.
triggers = Table(
    "triggers",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("definition", Json, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("state", Json, nullable=False),
    Column("paused", Integer, nullable=False),
)

# What has to be looked at by itself: the instants of schedules, queries and live metrics.
clocks = Table(
    "trigger_clocks",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("trigger", Text, primary_key=True),
    Column("leaf", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("next_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),
    Column("seen", Json, nullable=False),
    Column("error", Text, nullable=False),
)

# One row for each firing, whatever became of it. ``id`` follows from its causes.
firings = Table(
    "firings",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("pipeline", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("causes", Json, nullable=False),
    Column("cause", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("data", Json, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("actions", Json, nullable=False),
    Column("done", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("change", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),  # of the last cause
    Column("created_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),  # not to be tried before
    Column("finished_us", BigInteger),
    Index("firings_by_state", "state", "seq"),
    Index("firings_by_change", "global_id"),
    Index("firings_by_trigger", "pipeline", "trigger", "seq"),
)

# Each cause sets off each trigger at most once, ever: that is this key.
firing_causes = Table(
    "firing_causes",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("trigger", Text, primary_key=True),
    Column("cause", Text, primary_key=True),
    Column("firing", Text, nullable=False),
)

# A single row: events up to ``seq`` have been looked at.
cursor = Table(
    "trigger_cursor",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
)

# Triggers by name.
ALL: Rows = select(triggers).order_by(triggers.c.pipeline, triggers.c.name)
SEEN: Rows = select(cursor.c.seq)
ACTIVE: Rows = ALL.where(triggers.c.paused == 0)

# Clocks that are due, and all of them.
CLOCKS: Rows = select(clocks).order_by(clocks.c.next_us)
DUE_CLOCKS: Rows = CLOCKS.where(clocks.c.next_us <= bindparam("now_us"))
SCHEDULES: Rows = CLOCKS.where(clocks.c.kind == "schedule")
DUE_SCHEDULE: Rows = DUE_CLOCKS.where(clocks.c.kind == "schedule").limit(1)

# Firings whose action is to be run now, oldest first.
DUE: Rows = (
    select(firings)
    .where(firings.c.state == "pending", firings.c.due_us <= bindparam("now_us"))
    .order_by(firings.c.seq)
)
FIRST_DUE: Rows = DUE.limit(1)

# When the next firing that waits is due, if one does.
NEXT_DUE: Rows = select(func.min(firings.c.due_us)).where(firings.c.state == "pending")

# Firings, newest first.
NEWEST: Rows = select(firings).order_by(firings.c.seq.desc())

# How often and when each trigger has fired.
FIRED: Rows = (
    select(
        firings.c.pipeline,
        firings.c.trigger,
        func.count().label("fired"),
        func.max(firings.c.created_us).label("fired_us"),
    )
    .where(firings.c.state != "skipped")
    .group_by(firings.c.pipeline, firings.c.trigger)
)

# One action of a firing is done; only by whoever sees it undone.
ADVANCED: Update = (
    update(firings)
    .where(
        firings.c.id == bindparam("id_"),
        firings.c.state == "pending",
        firings.c.done == bindparam("done_"),
    )
    .values(
        done=firings.c.done + 1,
        effect=bindparam("effect_"),
        change=bindparam("change_"),
        attempts=bindparam("attempts_"),
        state=bindparam("state_"),
        error="",
        due_us=0,
        finished_us=bindparam("finished_us_"),
    )
)

# A try that failed; only a pending firing can end.
FAILED: Update = (
    update(firings)
    .where(
        firings.c.id == bindparam("id_"),
        firings.c.state == "pending",
        firings.c.done == bindparam("done_"),
    )
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
    plain = {name: getattr(row, name) for name in _SAME}
    return msgspec.convert(
        {
            **plain,
            "created_at": from_us(row.created_us),
            "at": from_us(row.at_us),
            "finished_at": None if row.finished_us is None else from_us(row.finished_us),
        },
        Firing,
    )


def info_of(firing: Firing) -> FiringInfo:
    """A firing as others see it."""
    return FiringInfo(
        id=firing.id,
        trigger=firing.trigger,
        pipeline=firing.pipeline,
        causes=firing.causes,
        global_id=firing.global_id,
        action=", ".join(action.words() for action in firing.actions),
        state=firing.state,
        reason=firing.reason,
        attempts=firing.attempts,
        error=firing.error,
        effect=firing.effect,
        change=firing.change,
        created_at=firing.created_at,
        finished_at=firing.finished_at,
    )


_SAME = (
    *("id", "trigger", "pipeline", "causes", "cause", "event", "subject", "data", "global_id"),
    *("actions", "done", "state", "reason", "attempts", "error", "effect", "change"),
)
