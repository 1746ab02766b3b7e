"""A trigger over history: when it would have fired, and why.

Takes the steps that are taken live (``folding``) over events of the past; knows no rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from heapq import merge

from clew.base import clock
from clew.base.records import Event
from clew.base.records.feeds import Replayed
from clew.schedules import schedule
from clew.triggers.folding import (
    COMMITTED,
    DUE,
    OWN,
    POLLED,
    TICKED,
    Outcome,
    State,
    concerns,
    firing_id,
    step,
)
from clew.triggers.records import Firing, Trigger
from clew.triggers.triggers import Measure

_MOST_TICKS = 100_000


def replay(
    pipeline: str,
    trigger: Trigger,
    events: Iterable[Event],
    *,
    since: datetime,
    until: datetime,
    measure: Measure,
    fired: Sequence[Firing] = (),
) -> list[Replayed]:
    """What a trigger would have made of ``events``, beside what was ``fired``; by time.

    The instants of schedules are those between ``since`` and ``until``. What queries and live
    metrics said in the past is known only as far as this trigger was there to ask.
    """
    state = State()
    amounts: dict[str, Mapping[str, int]] = {}
    outcomes: list[Outcome] = []
    stream = merge(
        _past(pipeline, trigger, events), _ticks(pipeline, trigger, since, until), key=_order
    )
    for event in stream:
        leaves = concerns(trigger, pipeline, event)
        if not leaves:
            continue
        outcomes += _woken(pipeline, trigger, state, event)
        counted = _counted(trigger, event, leaves, measure, amounts)
        found = step(trigger, state, event, clock.to_us(event.at), leaves, counted)
        outcomes += [found] if found is not None else []
    last = Event(seq=0, at=until, kind="end", global_id=None, subject="", data={})
    outcomes += _woken(pipeline, trigger, state, last)
    return _beside(pipeline, trigger, [one for one in outcomes if one.act == "fire"], fired)


def kinds(trigger: Trigger) -> set[str]:
    """The kinds of events that a replay needs."""
    found = {POLLED}
    for leaf in trigger.when.leaves():
        if leaf.kind == "event":
            found.add(str(leaf.options["event"]))
        if leaf.kind == "amount":
            found.add(COMMITTED)
    return found


def _past(pipeline: str, trigger: Trigger, events: Iterable[Event]) -> Iterator[Event]:
    """Events of the past, in order; its own ticks are made anew."""
    for event in events:
        if event.kind not in (TICKED, DUE) and concerns(trigger, pipeline, event):
            yield event


def _ticks(pipeline: str, trigger: Trigger, since: datetime, until: datetime) -> Iterator[Event]:
    """The instants of the schedules of a trigger, in order."""
    streams = [
        _instants(pipeline, trigger, at, leaf.options, since, until)
        for at, leaf in enumerate(trigger.when.leaves())
        if leaf.kind == "schedule"
    ]
    return iter(merge(*streams, key=_order))


def _instants(
    pipeline: str,
    trigger: Trigger,
    leaf: int,
    options: Mapping[str, object],
    since: datetime,
    until: datetime,
) -> Iterator[Event]:
    found = schedule(str(options["text"]), str(options["zone"]))
    at = found.next(since - timedelta(microseconds=1))
    for _ in range(_MOST_TICKS):
        if at is None or at > until:
            return
        tick = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        data = {"pipeline": pipeline, "trigger": trigger.name, "leaf": leaf, "tick": tick}
        yield Event(
            seq=0,
            at=at,
            kind=TICKED,
            global_id=None,
            subject=f"{pipeline}/{trigger.name}",
            data=dict(data),
        )
        at = found.next(at)


def _woken(pipeline: str, trigger: Trigger, state: State, event: Event) -> list[Outcome]:
    """What a trigger that was held back did when its time was over, before ``event``."""
    if not state.held_us or clock.to_us(event.at) < state.held_us:
        return []
    at_us, state.held_us = state.held_us, 0
    data: dict[str, object] = {"pipeline": pipeline, "trigger": trigger.name}
    due = Event(
        seq=0, at=clock.from_us(at_us), kind=DUE, global_id=None, subject=trigger.name, data=data
    )
    found = step(trigger, state, due, at_us, [-1], {})
    return [found] if found is not None else []


def _counted(
    trigger: Trigger,
    event: Event,
    leaves: list[int],
    measure: Measure,
    known: dict[str, Mapping[str, int]],
) -> Mapping[str, int]:
    parts = list(trigger.when.leaves())
    names = {
        name
        for at in leaves
        if 0 <= at < len(parts) and parts[at].kind == "amount"
        for name in parts[at].options["bounds"]
    }
    if not names or event.kind in OWN:
        return {}
    if event.subject not in known:
        known[event.subject] = measure(event.subject, frozenset(names))
    return known[event.subject]


def _beside(
    pipeline: str, trigger: Trigger, outcomes: Sequence[Outcome], fired: Sequence[Firing]
) -> list[Replayed]:
    """Replayed firings beside real ones; those of the same causes are one."""
    real = {one.id: one for one in fired if one.state != "skipped"}
    found = []
    for one in outcomes:
        identifier = firing_id(pipeline, trigger.name, one.ids)
        was = real.pop(identifier, None)
        found.append(
            Replayed(
                trigger=trigger.name,
                pipeline=pipeline,
                at=clock.from_us(one.last.at_us),
                kind="both" if was else "only_replayed",
                reason=one.reason,
                causes=one.ids,
                firing=was.id if was else "",
            )
        )
    found += [
        Replayed(
            trigger=trigger.name,
            pipeline=pipeline,
            at=one.at,
            kind="only_fired",
            reason=one.reason,
            causes=one.causes,
            firing=one.id,
        )
        for one in real.values()
    ]
    return sorted(found, key=lambda one: one.at)


def _order(event: Event) -> tuple[datetime, int]:
    return event.at, event.seq
