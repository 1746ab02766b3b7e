"""What triggers look at by themselves: schedules that tick, queries and metrics that are polled.

Knows rows and instants; what a query answers it is told. Everything it sees becomes an event, each
once: triggers know nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import delete, select, update

from clew.base import clock
from clew.base.errors import ClewError
from clew.db import Database, Tx
from clew.schedules import schedule
from clew.triggers import tables
from clew.triggers.conditions import Condition
from clew.triggers.folding import DUE, POLLED, TICKED, beyond
from clew.triggers.records import Trigger

NEVER_US = 2**62
Ask = Callable[[Condition, Mapping[str, Any] | None], Sequence[tuple[Any, ...]]]
"""The rows that a query or a reading answers now. That of a reading is its value, and what is given
to the next one (None: the first)."""
_KINDS = ("schedule", "query", "reading")
_MOST_SEEN = 2000


def define(tx: Tx, pipeline: str, trigger: Trigger, now: datetime) -> None:
    """Begin the clocks of a trigger; those of an earlier one of its name go."""
    forget(tx, pipeline, trigger.name)
    for at, leaf in enumerate(trigger.when.leaves()):
        if leaf.kind not in _KINDS:
            continue
        now_us = clock.to_us(now)
        row = {
            "pipeline": pipeline,
            "trigger": trigger.name,
            "leaf": at,
            "kind": leaf.kind,
            "next_us": _next_us(leaf, now) if leaf.kind == "schedule" else now_us,
            "last_us": now_us,
            "seen": {},
            "error": "",
        }
        tx.execute(tables.clocks.insert(), row)


def forget(tx: Tx, pipeline: str, name: str) -> None:
    """Let go of the clocks of a trigger."""
    table = tables.clocks
    tx.execute(delete(table).where(table.c.pipeline == pipeline, table.c.trigger == name))


def tick(db: Database, triggers: dict[tuple[str, str], Trigger], now: datetime) -> bool:
    """Emit an event for every schedule whose instant has come; whether there was one.

    Instants that were missed are one, the last. A clock that was set back brings no instant again:
    it is a cause that has been.
    """
    with db.read() as tx:
        rows = tx.execute(tables.SCHEDULES).all()
    moved = [_moved(row, triggers.get((row.pipeline, row.trigger)), now) for row in rows]
    due = [(row, one) for row, one in zip(rows, moved, strict=True) if one is not None]
    if not due:
        return False
    told = False
    with db.begin() as tx:
        for row, (tick_us, next_us) in due:
            values = {"next_us": next_us, "last_us": max(row.last_us, tick_us)}
            if not _set(tx, row, values) or not tick_us:
                continue
            instant = clock.from_us(tick_us).strftime("%Y-%m-%dT%H:%M:%SZ")
            if not _been(tx, row, f"tick/{row.leaf}/{instant}"):
                _tell(tx, TICKED, row, {"tick": instant, "missed": row.next_us < tick_us})
                told = True
    return told


def wake(db: Database, held: Sequence[tuple[str, str, int]], now: datetime) -> bool:
    """Emit an event for triggers whose cool-down is over and that wait for that."""
    now_us = clock.to_us(now)
    due = [one for one in held if one[2] <= now_us]
    if due:
        with db.begin() as tx:
            for pipeline, name, _ in due:
                data = {"pipeline": pipeline, "trigger": name}
                tx.emit(DUE, subject=f"{pipeline}/{name}", data=data)
    return bool(due)


def due_polls(
    db: Database, triggers: dict[tuple[str, str], Trigger], now: datetime
) -> list[tuple[Any, Condition]]:
    """Queries and readings that are to be asked now, each with its row."""
    with db.read() as tx:
        due = tx.execute(tables.DUE_CLOCKS, {"now_us": clock.to_us(now)}).all()
    found = []
    for row in due:
        leaf = _leaf(row, triggers.get((row.pipeline, row.trigger)))
        if row.kind != "schedule" and leaf is not None:
            found.append((row, leaf))
    return found


def poll(db: Database, row: Any, leaf: Condition, ask: Ask, now: datetime) -> bool:
    """Ask once, and emit an event where the answer meets the part; whether it did.

    What was seen moves with the event in one transaction, and only from what it was.
    """
    now_us = clock.to_us(now)
    next_us = now_us + round(leaf.options["every_s"] * 1e6)
    try:
        rows = ask(leaf, row.seen.get("since"))
    except ClewError as error:
        with db.begin() as tx:
            _set(tx, row, {"next_us": next_us, "error": f"{error.code}: {error}"})
        return False
    seen, text, data = _judged(leaf, rows, row.seen)
    with db.begin() as tx:
        moved = _set(tx, row, {"next_us": next_us, "last_us": now_us, "seen": seen, "error": ""})
        if moved and text:
            _tell(tx, POLLED, row, {"text": text, **data})
        return bool(moved and text)


def _judged(
    leaf: Condition, rows: Sequence[tuple[Any, ...]], seen: dict[str, Any]
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """What is to be remembered, and what there is to say: '' where the part is not met."""
    options, value = leaf.options, _plain(rows[0][0]) if rows and rows[0] else None
    name = options.get("name") or "the query"
    kept = {"since": rows[0][1]} if leaf.kind == "reading" else {}
    if kept and value is None:  # too little to tell, so what was told before holds
        return {**seen, **kept}, "", {}
    if options.get("above") is not None or options.get("below") is not None:
        over = beyond(options, value)
        met = over and not seen.get("over", False)
        text = f"{name} is {value}" if met else ""
        return {"over": over, "value": value, **kept}, text, {"value": value}
    if options.get("changes"):
        met = "value" in seen and seen["value"] != value
        text = f"{name} went from {seen.get('value')} to {value}" if met else ""
        return {"value": value}, text, {"value": value}
    marks = [_mark(row) for row in rows[:_MOST_SEEN]]
    known = set(seen.get("rows", ()))
    fresh = [row for row, mark in zip(rows, marks, strict=False) if mark not in known]
    text = f"{name} has {len(fresh)} new row{'' if len(fresh) == 1 else 's'}" if fresh else ""
    data = {"rows": len(fresh), "first": [_plain(one) for one in fresh[0]] if fresh else []}
    return {"rows": sorted(set(marks))}, text if "rows" in seen else "", data


def _moved(row: Any, trigger: Trigger | None, now: datetime) -> tuple[int, int] | None:
    """The instant that has come (0: none) and the next one; None where nothing is to be done."""
    leaf = _leaf(row, trigger)
    if leaf is None:
        return None
    found = schedule(leaf.options["text"], leaf.options["zone"])
    if row.next_us <= clock.to_us(now):
        last = found.last(now)
        tick_us = clock.to_us(last) if last is not None else 0
        return max(tick_us, row.next_us), _next_us(leaf, now)
    expected_us = _next_us(leaf, now)
    if expected_us < row.next_us:  # the clock was set back, or was wrong before
        return 0, expected_us
    return None


def _next_us(leaf: Condition, after: datetime) -> int:
    found = schedule(leaf.options["text"], leaf.options["zone"]).next(after)
    return NEVER_US if found is None else clock.to_us(found)


def _leaf(row: Any, trigger: Trigger | None) -> Condition | None:
    leaves = list(trigger.when.leaves()) if trigger is not None else []
    return leaves[row.leaf] if row.leaf < len(leaves) else None


def _set(tx: Tx, row: Any, values: dict[str, Any]) -> bool:
    """Move a clock, if nobody has moved it since it was read."""
    table = tables.clocks
    where = (
        table.c.pipeline == row.pipeline,
        table.c.trigger == row.trigger,
        table.c.leaf == row.leaf,
        table.c.next_us == row.next_us,
    )
    return bool(tx.execute(update(table).where(*where).values(**values)).rowcount)


def _been(tx: Tx, row: Any, cause: str) -> bool:
    table = tables.firing_causes
    where = (
        table.c.pipeline == row.pipeline,
        table.c.trigger == row.trigger,
        table.c.cause == cause,
    )
    return tx.execute(select(table.c.firing).where(*where)).first() is not None


def _tell(tx: Tx, kind: str, row: Any, data: dict[str, Any]) -> None:
    about = {"pipeline": row.pipeline, "trigger": row.trigger, "leaf": row.leaf}
    tx.emit(kind, subject=f"{row.pipeline}/{row.trigger}", data={**about, **data})


def _plain(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        return float(value)  # type: ignore[arg-type]  # a decimal, or what is none
    except (TypeError, ValueError):
        return str(value)


def _mark(row: tuple[Any, ...]) -> str:
    text = msgspec.json.encode([str(_plain(one)) for one in row])
    return hashlib.blake2b(text, digest_size=9).hexdigest()
