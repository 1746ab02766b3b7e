"""The room of triggers: reads events, notes what they set off, and has it done.

Knows no action: who calls :meth:`Triggers.tick` says what each name does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import select

from clew.base import clock
from clew.base.errors import ClewError, Invalid, NotReady, Unavailable
from clew.base.ids import new_id
from clew.base.records import Event
from clew.db import Database, Tx
from clew.triggers import tables
from clew.triggers.records import Firing, Trigger

Action: TypeAlias = Callable[[Firing], None]

MAX_ATTEMPTS = 5
_BATCH = 1000


class Triggers:
    """Triggers and their firings. Thread-safe; one process ticks at a time (the engine)."""

    def __init__(self, db: Database, *, retry_s: float = 2.0) -> None:
        self._db = db
        self._retry_s = retry_s
        self._idle_at: int | None = None
        """The event up to which all is done, and no firing is pending."""

    def define(self, tx: Tx, pipeline: str, triggers: Sequence[Trigger]) -> None:
        """Make these the triggers of a pipeline: others of it go, equal ones stay as they are.

        A new or changed trigger is set off by events from this transaction on, never by earlier
        ones.

        Raises:
            Invalid: ``trigger.definition``, ``trigger.duplicate``.
        """
        names = [trigger.check().name for trigger in triggers]
        if len(set(names)) < len(names):
            raise Invalid(
                "trigger.duplicate",
                f"Two triggers of {pipeline} have the same name.",
                hint="Give each a name of its own.",
            )
        table = tables.triggers
        rows = tx.execute(tables.ALL.where(table.c.pipeline == pipeline))
        known = {row.name: tables.trigger_of(row) for row in rows}
        wanted = {trigger.name: trigger for trigger in triggers}
        for name in [name for name, old in known.items() if wanted.get(name) != old]:
            tx.execute(table.delete().where(table.c.pipeline == pipeline, table.c.name == name))
        since = self._db.events.last()
        for trigger in [one for one in triggers if known.get(one.name) != one]:
            row = {
                "pipeline": pipeline,
                "name": trigger.name,
                "event": trigger.event,
                "definition": msgspec.to_builtins(trigger),
                "since": since,
            }
            tx.execute(table.insert(), row)

    def list(self, pipeline: str | None = None) -> Sequence[Trigger]:
        """Triggers by name, of one pipeline or all."""
        query = tables.ALL
        if pipeline is not None:
            query = query.where(tables.triggers.c.pipeline == pipeline)
        with self._db.read() as tx:
            return [tables.trigger_of(row) for row in tx.execute(query)]

    def tick(self, actions: Mapping[str, Action]) -> bool:
        """Look at new events and do what they set off; whether anything was done.

        Each event sets off each trigger at most once, ever. The firing is a row before its action
        runs, so that after a crash the action runs again with the same ``firing.id``: actions must
        be idempotent by it. NotReady and Unavailable are tried again at later ticks, after 2, 4, 8
        and 16 seconds; any other error makes the firing failed, and so does an action that is not
        in ``actions``.
        """
        last = self._db.events.last()
        if last == self._idle_at:
            return False
        fired = self._take()
        with self._db.read() as tx:
            due = {"now_us": clock.to_us(clock.now())}
            pending = [tables.firing_of(row) for row in tx.execute(tables.DUE, due)]
            later = tx.execute(tables.PENDING).first() is not None
        self._idle_at = None if fired or later else last
        for firing in pending:
            self._do(firing, actions.get(firing.action))
        return fired or any(firing.attempts == 0 for firing in pending)

    def firings(
        self, *, trigger: str | None = None, global_id: str | None = None, limit: int = 100
    ) -> Sequence[Firing]:
        """Firings, newest first, skipped ones included."""
        query = tables.NEWEST.limit(limit)
        if trigger is not None:
            query = query.where(tables.firings.c.trigger == trigger)
        if global_id is not None:
            query = query.where(tables.firings.c.global_id == global_id)
        with self._db.read() as tx:
            return [tables.firing_of(row) for row in tx.execute(query)]

    # ----------------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Note the firings of all events since the cursor, and move it, batch by batch."""
        last = self._db.events.last()
        with self._db.read() as tx:
            seen = _cursor(tx)
            kinds = {row.event for row in tx.execute(tables.ALL)}
        fired = False
        while seen < last and kinds:
            found = self._db.events.after(seen, kinds, limit=_BATCH)
            reached = found[-1].seq if len(found) == _BATCH else last
            found = [event for event in found if event.seq <= reached]
            if found or reached - seen > _BATCH:  # an idle cursor moves now and then
                with self._db.begin() as tx:
                    if _cursor(tx) != seen:
                        return True  # another engine is at it
                    for event in found:
                        fired |= _noted(tx, event)
                    _move(tx, reached)
            seen = reached
        return fired

    def _do(self, firing: Firing, action: Action | None) -> None:
        """Run an action and note how it went."""
        state, error = "done", ""
        try:
            _known(firing, action)(firing)
        except (NotReady, Unavailable) as raised:
            state = "pending" if firing.attempts + 1 < MAX_ATTEMPTS else "failed"
            error = f"{raised.code}: {raised}"
        except ClewError as raised:
            state, error = "failed", f"{raised.code}: {raised}"
        except Exception as raised:  # an action must never stop the others
            logging.getLogger("clew.triggers").exception("trigger %s", firing.trigger)
            state, error = "failed", f"{type(raised).__name__}: {raised}"
        now_us = clock.to_us(clock.now())
        ended = {
            "id_": firing.id,
            "state_": state,
            "error_": error,
            "due_us_": now_us + round(self._retry_s * 2**firing.attempts * 1e6),
            "finished_us_": None if state == "pending" else now_us,
        }
        with self._db.begin() as tx:
            tx.execute(tables.ENDED, ended)


def _known(firing: Firing, action: Action | None) -> Action:
    if action is None:
        raise Invalid(
            "trigger.action",
            f"There is no action {firing.action!r}.",
            hint="Use one that this workspace knows, such as retrain.",
        )
    return action


def matches(trigger: Trigger, event: Event) -> bool:
    """Whether an event is one that sets off a trigger."""
    there = {**event.data, "subject": event.subject}
    return event.kind == trigger.event and all(
        name in there and there[name] == value for name, value in trigger.match.items()
    )


def _noted(tx: Tx, event: Event) -> bool:
    """Note the firings of one event; whether there is any to act on."""
    query = tables.ALL.where(tables.triggers.c.event == event.kind)
    met = [
        (row.pipeline, trigger)
        for row in tx.execute(query).all()
        if matches(trigger := tables.trigger_of(row), event) and event.seq > row.since
    ]
    acting = [_note(tx, pipeline, trigger, event) for pipeline, trigger in met]
    return any(acting)


def _note(tx: Tx, pipeline: str, trigger: Trigger, event: Event) -> bool:
    """A row for a firing, pending or (in the cool-down) skipped; whether it is to be acted on."""
    at_us = clock.to_us(event.at)
    key = {"pipeline": pipeline, "trigger": trigger.name}
    last = tx.execute(tables.LAST_FIRED, key).first()
    cooling = last is not None and at_us - last.at_us < trigger.cooldown_s * 1e6
    firing_id = new_id()
    reason = f"{trigger.name}: {event.kind} of {event.subject}"
    row: dict[str, Any] = {
        **key,
        "id": firing_id,
        "cause": event.seq,
        "event": event.kind,
        "subject": event.subject,
        "data": event.data,
        "global_id": event.global_id or new_id(),
        "action": trigger.action,
        "arguments": trigger.arguments,
        "state": "skipped" if cooling else "pending",
        "reason": f"{reason}, within {trigger.cooldown_s:g} s of the last" if cooling else reason,
        "attempts": 0,
        "error": "",
        "at_us": at_us,
        "created_us": clock.to_us(clock.now()),
        "due_us": 0,
        "finished_us": clock.to_us(clock.now()) if cooling else None,
    }
    tx.execute(tables.firings.insert(), row)
    if not cooling:
        data = {"trigger": trigger.name, "cause": event.seq, "action": trigger.action}
        data |= {"pipeline": pipeline, "event": event.kind, "subject": event.subject}
        tx.emit("trigger.fired", subject=firing_id, global_id=row["global_id"], data=data)
    return not cooling


def _cursor(tx: Tx) -> int:
    return int(tx.execute(select(tables.cursor.c.seq)).scalar() or 0)


def _move(tx: Tx, seq: int) -> None:
    tx.upsert(tables.cursor, [{"id": 1, "seq": seq}], key=["id"], refresh=["seq"])
