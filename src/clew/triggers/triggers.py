"""The room of triggers: reads events, notes what they set off, and has it done.

Knows no action: who calls :meth:`Triggers.tick` says what each kind does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace
from sqlalchemy import select, update

from clew.base import clock
from clew.base.errors import ClewError, Conflict, Invalid, NotFound, NotReady, Unavailable
from clew.base.ids import new_id
from clew.base.records import Event
from clew.base.records.feeds import TriggerInfo
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.triggers import clocks, tables
from clew.triggers.actions import Action
from clew.triggers.folding import (
    COMMITTED,
    OWN,
    Outcome,
    State,
    concerns,
    firing_id,
    kinds_of,
    progress,
    read_state,
    step,
)
from clew.triggers.noting import firing_row, keep, tell_end
from clew.triggers.records import Firing, Trigger

Finish: TypeAlias = Callable[[Tx, str, str], None]
"""Notes, in the transaction that did it, that an action is done: what was done, and the global id
of the change that it started ('' for none). Raises Conflict ``trigger.taken``."""

Act: TypeAlias = Callable[[Firing, Action, Finish], None]
"""Does one action, and calls ``finish`` once. Where it does so in the transaction of its effect,
the effect is there once whatever happens; else it may be called again with the same firing."""

Measure: TypeAlias = Callable[[str, frozenset[str]], Mapping[str, int]]
"""How much a commit has added: id, names of amounts → amounts."""

MAX_ATTEMPTS = 5
_BATCH = 1000


class Hands(Struct, frozen=True, kw_only=True):
    """What triggers cannot do themselves."""

    actions: Mapping[str, Act] = field(default_factory=dict)
    measure: Measure = lambda _id, names: dict.fromkeys(names, 0)
    ask: clocks.Ask = lambda _leaf, _since: ()


class Triggers:
    """Triggers and their firings. Thread-safe; one process ticks at a time (the engine).

    Events are taken in order, each once: the state of every condition, the firings and the cursor
    move in one transaction. A cause that has set off a trigger is a row with a unique key, and the
    id of a firing follows from its causes: no trigger fires twice for one cause.
    """

    def __init__(
        self, db: Database, *, retry_s: float = 2.0, now: Callable[[], datetime] = clock.now
    ) -> None:
        self._db = db
        self._lineage = Lineage(db)
        self._retry_s = retry_s
        self._now = now
        self._idle: tuple[int, int] | None = None
        """The event up to which all is done, and when something is due without another."""

    # definitions ----------------------------------------------------------------------------

    def define(self, tx: Tx, pipeline: str, triggers: Sequence[Trigger]) -> None:
        """Make these the triggers of a pipeline: others of it go, equal ones stay as they are.

        A new trigger is set off by events from this transaction on, never by earlier ones; so is
        one whose condition has changed.

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
        rows = tx.execute(tables.ALL.where(table.c.pipeline == pipeline)).all()
        known = {row.name: tables.trigger_of(row) for row in rows}
        wanted = {trigger.name: trigger for trigger in triggers}
        for name in [name for name in known if name not in wanted]:
            tx.execute(table.delete().where(table.c.pipeline == pipeline, table.c.name == name))
            clocks.forget(tx, pipeline, name)
        for name, trigger in wanted.items():
            if known.get(name) != trigger:
                self._put(tx, pipeline, trigger, known.get(name))
        self._idle = None

    def _put(self, tx: Tx, pipeline: str, trigger: Trigger, old: Trigger | None) -> None:
        table = tables.triggers
        definition = msgspec.to_builtins(trigger)
        if old is not None and old.when == trigger.when:
            where = (table.c.pipeline == pipeline, table.c.name == trigger.name)
            tx.execute(update(table).where(*where).values(definition=definition))
            return
        row = {
            "pipeline": pipeline,
            "name": trigger.name,
            "definition": definition,
            "since": self._db.events.last(),
            "state": State(),
            "paused": 0,
        }
        tx.upsert(table, [row], key=["pipeline", "name"], refresh=["definition", "since", "state"])
        clocks.define(tx, pipeline, trigger, self._now())

    def list(self, pipeline: str | None = None) -> Sequence[Trigger]:
        """Triggers by name, of one pipeline or all."""
        query = tables.ALL
        if pipeline is not None:
            query = query.where(tables.triggers.c.pipeline == pipeline)
        with self._db.read() as tx:
            return [tables.trigger_of(row) for row in tx.execute(query)]

    def infos(self) -> Sequence[TriggerInfo]:
        """All triggers, with how far each is."""
        with self._db.read() as tx:
            rows = tx.execute(tables.ALL).all()
            fired = {(row.pipeline, row.trigger): row for row in tx.execute(tables.FIRED)}
            ticks = tx.execute(tables.CLOCKS).all()
        return [_info(row, fired.get((row.pipeline, row.name)), ticks) for row in rows]

    def info(self, name: str) -> TriggerInfo:
        """One trigger, ``pipeline/name``, or its name where that is clear.

        Raises NotFound ``trigger.unknown``.
        """
        pipeline, found = self.find(name)
        return next(
            one for one in self.infos() if (one.pipeline, one.name) == (pipeline, found.name)
        )

    def find(self, name: str) -> tuple[str, Trigger]:
        """The pipeline and the definition of one trigger. Raises NotFound ``trigger.unknown``."""
        with self._db.read() as tx:
            row = _row(tx, name)
            return row.pipeline, tables.trigger_of(row)

    def pause(self, name: str, *, paused: bool = True) -> None:
        """Let a trigger look at nothing, until it is resumed; what happens meanwhile is not seen.

        What it had counted before stays.
        """
        with self._db.begin() as tx:
            row = _row(tx, name)
            if bool(row.paused) == paused:
                return
            values: dict[str, Any] = {"paused": int(paused)}
            if not paused:
                values["since"] = self._db.events.last()
                self._skip_ticks(tx, row)
            table = tables.triggers
            where = (table.c.pipeline == row.pipeline, table.c.name == row.name)
            tx.execute(update(table).where(*where).values(**values))
            tx.emit(
                "trigger.paused" if paused else "trigger.resumed",
                subject=f"{row.pipeline}/{row.name}",
                data={"pipeline": row.pipeline, "trigger": row.name},
            )
        self._idle = None

    def fire(self, name: str, *, reason: str = "") -> Firing:
        """Set a trigger off by hand, whatever its condition, its cool-down and its limit are."""
        with self._db.begin() as tx:
            row = _row(tx, name)
            trigger = tables.trigger_of(row)
            cause = f"hand/{new_id()}"
            identifier = firing_id(row.pipeline, trigger.name, (cause,))
            note = {
                **firing_row(row.pipeline, trigger, identifier, self._now()),
                "causes": [cause],
                "event": "trigger.asked",
                "subject": f"{row.pipeline}/{trigger.name}",
                "reason": f"{trigger.name}: {reason or 'asked for by hand'}",
                "global_id": new_id(),
            }
            keep(tx, self._lineage, note)
        self._idle = None
        return self.firings(trigger=trigger.name, pipeline=row.pipeline, limit=1)[0]

    # the engine's part ----------------------------------------------------------------------

    def tick(self, hands: Hands) -> bool:
        """Look at new events and instants, and do what they set off; whether anything was done.

        A firing is a row before its action runs, so that after a crash the action runs again with
        the same ``firing.id``. NotReady and Unavailable are tried again at later ticks, after 2, 4,
        8 and 16 seconds; any other error makes the firing failed, and so does an action that is not
        in ``hands``.
        """
        now = self._now()
        now_us = clock.to_us(now)
        last = self._db.events.last()
        if self._idle is not None and self._idle[0] == last and now_us < self._idle[1]:
            return False
        moved = self._look(now)
        moved |= self._take(hands.measure)
        with self._db.read() as tx:
            pending = [tables.firing_of(row) for row in tx.execute(tables.DUE, {"now_us": now_us})]
        acted = [self._do(firing, hands.actions) for firing in pending]
        self._idle = None if moved or pending else (last, self._next_look(now_us))
        return moved or any(acted)

    def poll(self, ask: clocks.Ask) -> bool:
        """Ask the queries and readings that are due; whether one was met.

        Takes as long as they take: not for the thread that ticks.
        """
        triggers = self._active()
        due = clocks.due_polls(self._db, triggers, self._now())
        met = [clocks.poll(self._db, row, leaf, ask, self._now()) for row, leaf in due]
        return any(met)

    def polls(self) -> bool:
        """Whether a query or a reading is due."""
        return bool(clocks.due_polls(self._db, self._active(), self._now()))

    def waits(self) -> bool:
        """Whether a turn would find something: events not looked at, an instant, a firing."""
        now_us = clock.to_us(self._now())
        with self._db.read() as tx:
            if tx.execute(tables.FIRST_DUE, {"now_us": now_us}).first() is not None:
                return True
            rows = tx.execute(tables.ACTIVE).all()
            if not rows:
                return False
            if tx.execute(tables.DUE_SCHEDULE, {"now_us": now_us}).first() is not None:
                return True
            seen = _cursor(tx)
        kinds = {kind for row in rows for kind in kinds_of(tables.trigger_of(row))} | set(OWN)
        since = max(seen, min(row.since for row in rows))
        return bool(self._db.events.after(since, kinds, limit=1))

    def firings(
        self,
        *,
        trigger: str | None = None,
        pipeline: str | None = None,
        global_id: str | None = None,
        limit: int = 100,
    ) -> Sequence[Firing]:
        """Firings, newest first, skipped ones included."""
        query = tables.NEWEST.limit(limit)
        table = tables.firings
        for column, value in (
            (table.c.trigger, trigger),
            (table.c.pipeline, pipeline),
            (table.c.global_id, global_id),
        ):
            if value is not None:
                query = query.where(column == value)
        with self._db.read() as tx:
            return [tables.firing_of(row) for row in tx.execute(query)]

    def of_start(self, change: str) -> Firing | None:
        """The firing that started a change, if one did."""
        with self._db.read() as tx:
            row = tx.execute(tables.NEWEST.where(tables.firings.c.change == change)).first()
            return None if row is None else tables.firing_of(row)

    def warm(self, change: str) -> bool:
        """Whether a firing started a change whose trainings are to begin warm."""
        found = self.of_start(change)
        actions = found.actions if found is not None else ()
        return any(one.kind == "retrain" and bool(one.options.get("warm")) for one in actions)

    # ----------------------------------------------------------------------------------------

    def _active(self) -> dict[tuple[str, str], Trigger]:
        with self._db.read() as tx:
            rows = tx.execute(tables.ACTIVE)
            return {(row.pipeline, row.name): tables.trigger_of(row) for row in rows}

    def _look(self, now: datetime) -> bool:
        """Make events of instants that have come."""
        with self._db.read() as tx:
            rows = tx.execute(tables.ACTIVE).all()
        active = {(row.pipeline, row.name): tables.trigger_of(row) for row in rows}
        held = [
            (row.pipeline, row.name, row.state["held_us"])
            for row in rows
            if row.state.get("held_us")
        ]
        return clocks.tick(self._db, active, now) | clocks.wake(self._db, held, now)

    def _next_look(self, now_us: int) -> int:
        """When something is due without another event, in microseconds since the epoch."""
        with self._db.read() as tx:
            ticks = tx.execute(tables.SCHEDULES).all()
            due_us = tx.execute(tables.NEXT_DUE).scalar()
            held = [row.state.get("held_us", 0) for row in tx.execute(tables.ALL)]
        found = [row.next_us for row in ticks] + [one for one in held if one]
        soonest: int = min([*found, due_us if due_us is not None else clocks.NEVER_US])
        return min(soonest, now_us + 1_000_000)  # the clock may be set

    def _skip_ticks(self, tx: Tx, row: Any) -> None:
        """A trigger that was paused does not make up for what it missed."""
        clocks.define(tx, row.pipeline, tables.trigger_of(row), self._now())

    def _take(self, measure: Measure) -> bool:
        """Fold all events since the cursor into the triggers, and move it, batch by batch."""
        last = self._db.events.last()
        with self._db.read() as tx:
            seen = _cursor(tx)
            known = [tables.trigger_of(row) for row in tx.execute(tables.ALL)]
        kinds = {kind for trigger in known for kind in kinds_of(trigger)} | set(OWN)
        fired = False
        while seen < last and known:
            found = self._db.events.after(seen, kinds, limit=_BATCH)
            reached = found[-1].seq if len(found) == _BATCH else last
            found = [event for event in found if event.seq <= reached]
            if found or reached - seen > _BATCH:  # an idle cursor moves now and then
                amounts = self._measured(found, known, measure)
                with self._db.begin() as tx:
                    if _cursor(tx) != seen:
                        return True  # another engine is at it
                    fired |= self._fold(tx, found, amounts)
                    _move(tx, reached)
            seen = reached
        return fired

    def _measured(
        self, events: Sequence[Event], triggers: Sequence[Trigger], measure: Measure
    ) -> dict[str, Mapping[str, int]]:
        """How much each commit has added that a trigger counts; outside of any transaction."""
        wanted: dict[tuple[object, object], set[str]] = {}
        for trigger in triggers:
            for leaf in trigger.when.leaves():
                if leaf.kind == "amount":
                    place = (leaf.options["repo"], leaf.options["branch"])
                    wanted.setdefault(place, set()).update(leaf.options["bounds"])
        found: dict[str, Mapping[str, int]] = {}
        for event in events if wanted else ():
            names = wanted.get((event.data.get("repo"), event.data.get("branch")))
            if event.kind == COMMITTED and names:
                found[event.subject] = measure(event.subject, frozenset(names))
        return found

    def _fold(
        self, tx: Tx, events: Sequence[Event], amounts: Mapping[str, Mapping[str, int]]
    ) -> bool:
        """Take events into every trigger, in order; whether there is anything to act on."""
        fired = False
        for row in tx.execute(tables.ALL).all():
            trigger, state = tables.trigger_of(row), read_state(row.state)
            before = msgspec.json.encode(state)
            for event in events:
                leaves = concerns(trigger, row.pipeline, event)
                if not leaves or event.seq <= row.since or row.paused:
                    continue
                at_us = clock.to_us(event.at)
                if event.kind in OWN and state.held_us and at_us >= state.held_us:
                    state.held_us = 0
                outcome = step(trigger, state, event, at_us, leaves, amounts.get(event.subject, {}))
                if outcome is not None:
                    fired |= self._note(tx, row.pipeline, trigger, outcome)
            if msgspec.json.encode(state) != before:
                table = tables.triggers
                where = (table.c.pipeline == row.pipeline, table.c.name == row.name)
                tx.execute(update(table).where(*where).values(state=state))
        return fired

    def _note(self, tx: Tx, pipeline: str, trigger: Trigger, outcome: Outcome) -> bool:
        """A row for a firing, pending or skipped; whether it is to be acted on."""
        identifier = firing_id(pipeline, trigger.name, outcome.ids)
        last = outcome.last
        skipped = outcome.act == "skip"
        now_us = clock.to_us(self._now())
        row = {
            **firing_row(pipeline, trigger, identifier, self._now()),
            "causes": list(outcome.ids),
            "cause": last.seq,
            "event": last.event,
            "subject": last.subject,
            "data": last.data,
            "global_id": next((one.global_id for one in [last, *outcome.causes] if one.global_id),
                              "") or new_id(),
            "reason": outcome.reason,
            "at_us": last.at_us,
            "state": "skipped" if skipped else "pending",
            "finished_us": now_us if skipped else None,
        }  # fmt: skip
        subjects = [one.subject for one in outcome.causes]
        return keep(tx, self._lineage, row, subjects) and not skipped

    def _do(self, firing: Firing, actions: Mapping[str, Act]) -> bool:
        """Run what is left of the actions of a firing, and note how it went; whether it moved."""
        moved = False
        try:
            for at, action in enumerate(firing.actions[firing.done :], firing.done):
                finish = self._finish(firing, at)
                _known(action, actions)(replace(firing, done=at), action, finish)
                if self._stands(firing.id) == at:
                    return moved  # it is still at it
                moved = True
        except (NotReady, Unavailable) as raised:
            tried = firing.attempts + 1 < MAX_ATTEMPTS
            self._failed(firing, f"{raised.code}: {raised}", "pending" if tried else "failed")
        except Conflict as raised:
            if raised.code != "trigger.taken":  # else another engine has done it
                self._failed(firing, f"{raised.code}: {raised}", "failed")
        except ClewError as raised:
            self._failed(firing, f"{raised.code}: {raised}", "failed")
        except Exception as raised:  # an action must never stop the others
            logging.getLogger("clew.triggers").exception("trigger %s", firing.trigger)
            self._failed(firing, f"{type(raised).__name__}: {raised}", "failed")
        return True

    def _stands(self, firing_id: str) -> int:
        """How many actions of a firing are done."""
        with self._db.read() as tx:
            query = select(tables.firings.c.done).where(tables.firings.c.id == firing_id)
            done: int = tx.execute(query).scalar_one()
            return done

    def _finish(self, firing: Firing, at: int) -> Finish:
        def finish(tx: Tx, effect: str, change: str) -> None:
            whole = at + 1 == len(firing.actions)
            now_us = clock.to_us(self._now())
            kept = select(tables.firings.c.effect, tables.firings.c.change)
            before = tx.execute(kept.where(tables.firings.c.id == firing.id)).one()
            said = "; ".join(one for one in (before.effect, effect) if one)
            values = {
                "id_": firing.id,
                "done_": at,
                "effect_": said,
                "change_": change or before.change,
                "attempts_": firing.attempts + 1,
                "state_": "done" if whole else "pending",
                "finished_us_": now_us if whole else None,
            }
            if tx.execute(tables.ADVANCED, values).rowcount != 1:
                raise Conflict("trigger.taken", f"The firing {firing.id} is done already.")
            if whole:
                tell_end(tx, firing, "done", said)

        return finish

    def _failed(self, firing: Firing, error: str, state: str) -> None:
        now_us = clock.to_us(self._now())
        with self._db.begin() as tx:
            done = tx.execute(
                select(tables.firings.c.done).where(tables.firings.c.id == firing.id)
            ).scalar_one()
            ended = {
                "id_": firing.id,
                "done_": done,
                "state_": state,
                "error_": error,
                "due_us_": now_us + round(self._retry_s * 2**firing.attempts * 1e6),
                "finished_us_": None if state == "pending" else now_us,
            }
            if tx.execute(tables.FAILED, ended).rowcount and state == "failed":
                tell_end(tx, firing, "failed", error)


def _known(action: Action, actions: Mapping[str, Act]) -> Act:
    found = actions.get(action.kind)
    if found is None:
        raise Invalid(
            "trigger.action",
            f"There is no action {action.kind!r}.",
            hint="Use one that this workspace knows, such as retrain.",
        )
    return found


def _info(row: Any, fired: Any, ticks: Sequence[Any]) -> TriggerInfo:
    trigger, state = tables.trigger_of(row), read_state(row.state)
    mine = [one for one in ticks if (one.pipeline, one.trigger) == (row.pipeline, row.name)]
    next_us = min([one.next_us for one in mine], default=clocks.NEVER_US)
    errors = tuple(f"error: {one.error}" for one in mine if one.error)
    limit = f"{trigger.limit_count} in {trigger.limit_s:g} s" if trigger.limit_count else ""
    return TriggerInfo(
        name=trigger.name,
        pipeline=row.pipeline,
        state="paused" if row.paused else "active",
        when=trigger.when.words(),
        action=", ".join(action.words() for action in trigger.do),
        cooldown_s=trigger.cooldown_s,
        limit=limit,
        progress=(*progress(trigger, state), *errors),
        fired=fired.fired if fired else 0,
        fired_at=clock.from_us(fired.fired_us) if fired else None,
        next_at=clock.from_us(next_us) if next_us < clocks.NEVER_US and not row.paused else None,
        held=f"until {clock.from_us(state.held_us):%Y-%m-%d %H:%M:%S} UTC" if state.held_us else "",
    )


def _row(tx: Tx, name: str) -> Any:
    rows = tx.execute(tables.ALL).all()
    exact = [row for row in rows if f"{row.pipeline}/{row.name}" == name]
    found = exact or [row for row in rows if row.name == name]
    if len(found) == 1:
        return found[0]
    names = [f"{row.pipeline}/{row.name}" for row in found or rows]
    near = names if found else get_close_matches(name, names, 3, 0.4)
    raise NotFound(
        "trigger.unknown",
        f"{name!r} is the name of {'several triggers' if found else 'no trigger'}.",
        hint=f"Did you mean {' or '.join(near[:3])}?" if near else "List them: clew triggers",
    )


def _cursor(tx: Tx) -> int:
    return int(tx.execute(tables.SEEN).scalar() or 0)


def _move(tx: Tx, seq: int) -> None:
    tx.upsert(tables.cursor, [{"id": 1, "seq": seq}], key=["id"], refresh=["seq"])
