"""Firings as rows: written with their causes, each of which counts once.

Knows rows and events; who fires is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import select

from clew.base import clock
from clew.base.records import Node
from clew.db import Tx
from clew.lineage import Lineage
from clew.triggers import tables
from clew.triggers.records import Firing, Trigger

_TIME = "%Y-%m-%d %H:%M:%S"


def tell_end(tx: Tx, firing: Firing, state: str, text: str) -> None:
    """Emit how a firing ended."""
    data = {"pipeline": firing.pipeline, "trigger": firing.trigger, "state": state, "text": text}
    tx.emit("trigger.ended", subject=firing.id, global_id=firing.global_id, data=data)


def firing_row(pipeline: str, trigger: Trigger, identifier: str, now: datetime) -> dict[str, Any]:
    """A row of ``firings`` for a firing that begins now; its causes are for the caller."""
    now_us = clock.to_us(now)
    return {
        "id": identifier,
        "pipeline": pipeline,
        "trigger": trigger.name,
        "cause": 0,
        "data": {},
        "actions": msgspec.to_builtins(trigger.do),
        "done": 0,
        "state": "pending",
        "attempts": 0,
        "error": "",
        "effect": "",
        "change": "",
        "at_us": now_us,
        "created_us": now_us,
        "due_us": 0,
        "finished_us": None,
    }


SET_OFF = "set off"
"""How lineage says that something set off a firing, and that a firing set off something."""


def keep(tx: Tx, lineage: Lineage, row: dict[str, Any], subjects: Sequence[str] = ()) -> bool:
    """Write a firing with its causes, unless one of them has set off this trigger before.

    ``subjects`` are what the causes happened to (commits, reports, …): lineage leads to them.
    """
    key = {"pipeline": row["pipeline"], "trigger": row["trigger"]}
    causes = tables.firing_causes
    known = select(causes.c.cause).where(
        causes.c.pipeline == row["pipeline"],
        causes.c.trigger == row["trigger"],
        causes.c.cause.in_(row["causes"]),
    )
    if tx.execute(known.limit(1)).first() is not None:
        return False
    tx.execute(tables.firings.insert(), row)
    tx.execute(
        causes.insert(), [{**key, "cause": one, "firing": row["id"]} for one in row["causes"]]
    )
    at = clock.from_us(row["at_us"]).strftime(_TIME)
    node = Node(
        kind="firing",
        id=row["id"],
        title=f"{row['pipeline']}/{row['trigger']} fired at {at} UTC",
        global_id=row["global_id"],
        detail={
            "reason": row["reason"],
            "trigger": f"{row['pipeline']}/{row['trigger']}",
            "event": row["event"],
            "causes": list(row["causes"]),
            **({"state": row["state"]} if row["state"] == "skipped" else {}),
        },
    )
    lineage.add(tx, node, [(subject, SET_OFF) for subject in dict.fromkeys(subjects)])
    if row["state"] == "pending":
        data = {**key, "cause": row["cause"], "event": row["event"], "subject": row["subject"]}
        data |= {"action": ", ".join(one["kind"] for one in row["actions"])}
        tx.emit("trigger.fired", subject=row["id"], global_id=row["global_id"], data=data)
    return True
