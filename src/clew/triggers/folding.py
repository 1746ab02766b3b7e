"""How a condition is met over time: a fold over causes, with nothing but values.

Knows no rows and no clock: the same steps are taken live and when history is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from clew.base.durations import said
from clew.base.ids import derived_id
from clew.base.records import Event
from clew.triggers.conditions import Condition
from clew.triggers.records import Trigger

TICKED = "trigger.ticked"
POLLED = "trigger.polled"
DUE = "trigger.due"
COMMITTED = "commit.finished"
OWN = (TICKED, POLLED, DUE)


class Cause(Struct, kw_only=True):
    """Something that happened once. ``id`` names it for ever; ``text`` is for people."""

    id: str
    at_us: int
    seq: int
    event: str
    subject: str
    global_id: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


class Leaf(Struct, kw_only=True):
    """How far one part of a condition is: the cause that met it, or what has been counted."""

    cause: Cause | None = None
    amounts: dict[str, int] = field(default_factory=dict)


class State(Struct, kw_only=True):
    """How far a trigger is. ``fired`` are the times of its last firings, newest last.

    ``held_us``: it waits until then, for its cool-down or its limit.
    """

    leaves: dict[str, Leaf] = field(default_factory=dict)
    fired: list[int] = field(default_factory=list)
    held_us: int = 0


class Outcome(Struct, frozen=True, kw_only=True):
    """What a step came to: ``fire`` or ``skip``, for these causes and this reason."""

    act: str
    causes: tuple[Cause, ...]
    reason: str

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the causes."""
        return tuple(sorted({cause.id for cause in self.causes}))

    @property
    def last(self) -> Cause:
        """The cause that came last."""
        return max(self.causes, key=lambda cause: (cause.at_us, cause.seq))


def read_state(plain: Mapping[str, Any]) -> State:
    """The state that a row holds."""
    return msgspec.convert(plain, State)


def firing_id(pipeline: str, trigger: str, ids: tuple[str, ...]) -> str:
    """The id of the firing that these causes make."""
    return derived_id("firing", pipeline, trigger, *ids)


def kinds_of(trigger: Trigger) -> set[str]:
    """The kinds of events that a trigger looks at, but its own."""
    found = set()
    for leaf in trigger.when.leaves():
        if leaf.kind == "event":
            found.add(str(leaf.options["event"]))
        if leaf.kind == "amount":
            found.add(COMMITTED)
    return found


def concerns(trigger: Trigger, pipeline: str, event: Event) -> list[int]:
    """The leaves of a trigger that an event is for; [-1] where it only wakes the trigger."""
    if event.kind in OWN:
        if (event.data.get("pipeline"), event.data.get("trigger")) != (pipeline, trigger.name):
            return []
        return [-1] if event.kind == DUE else [int(str(event.data.get("leaf", 0)))]
    return [at for at, leaf in enumerate(trigger.when.leaves()) if _meets(leaf, event)]


def step(
    trigger: Trigger,
    state: State,
    event: Event,
    at_us: int,
    leaves: list[int],
    amounts: Mapping[str, int],
) -> Outcome | None:
    """Take in one event for some leaves, changing ``state``; what it comes to, if anything.

    ``amounts`` are those of the commit that the event tells of. A firing takes with it all that
    has been counted and met. In a cool-down, or beyond the limit, what was met is skipped; an
    amount is kept, and fires when the time is over.
    """
    parts = list(trigger.when.leaves())
    cause = cause_of(event, at_us)
    for at in leaves:
        if at < 0 or at >= len(parts):
            continue
        leaf = state.leaves.setdefault(str(at), Leaf())
        if parts[at].kind == "amount":
            for name in parts[at].options["bounds"]:
                leaf.amounts[name] = leaf.amounts.get(name, 0) + amounts.get(name, 0)
        leaf.cause = cause
    found = _met(trigger.when, state, 0, at_us)
    if found is None:
        return None
    reason = f"{trigger.name}: {' and '.join(dict.fromkeys(one.text for one in found))}"
    until_us, why = _blocked(trigger, state, at_us)
    if not until_us:
        state.leaves.clear()
        state.held_us = 0
        state.fired = [*state.fired, at_us][-max(trigger.limit_count, 1) :]
        return Outcome(act="fire", causes=tuple(found), reason=_counted(reason, found))
    kept = {
        str(at): state.leaves[str(at)]
        for at, part in enumerate(parts)
        if part.kind == "amount" and str(at) in state.leaves
    }
    state.leaves = kept
    if _met(trigger.when, state, 0, at_us) is not None:
        state.held_us = until_us
        return None
    return Outcome(act="skip", causes=tuple(found), reason=f"{reason}, {why}")


def cause_of(event: Event, at_us: int) -> Cause:
    """An event as a cause: commits and ticks are named by what they are."""
    name, text = f"event/{event.seq}", f"{event.kind} of {event.subject}"
    if event.kind == COMMITTED:
        name = f"commit/{event.subject}"
        text = f"commit {event.subject[:8]} on {event.data.get('repo')}@{event.data.get('branch')}"
    elif event.kind == TICKED:
        name = f"tick/{event.data.get('leaf')}/{event.data.get('tick')}"
        text = f"the schedule's {event.data.get('tick')}"
    elif event.kind == POLLED:
        text = str(event.data.get("text", text))
    return Cause(
        id=name,
        at_us=at_us,
        seq=event.seq,
        event=event.kind,
        subject=event.subject,
        global_id=event.global_id or "",
        text=text,
        data={} if event.kind in OWN else dict(event.data),
    )


def progress(trigger: Trigger, state: State) -> Iterator[str]:
    """How far each part of a condition is, in words."""
    for at, part in enumerate(trigger.when.leaves()):
        leaf = state.leaves.get(str(at), Leaf())
        if part.kind == "amount":
            for name, bound in part.options["bounds"].items():
                yield f"{leaf.amounts.get(name, 0):,} of {bound:,} {name} in {part.options['repo']}"
        else:
            yield f"{'met' if leaf.cause else 'waits'}: {part.words()}"


def beyond(options: Mapping[str, Any], value: object) -> bool:
    """Whether a value is beyond the bound of a leaf."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    above, below = options.get("above"), options.get("below")
    return (above is not None and value > above) or (below is not None and value < below)


# ------------------------------------------------------------------------------------------------


def _meets(leaf: Condition, event: Event) -> bool:
    options = leaf.options
    if leaf.kind == "amount":
        place = (event.data.get("repo"), event.data.get("branch"))
        return event.kind == COMMITTED and place == (options["repo"], options["branch"])
    if leaf.kind != "event" or options["event"] != event.kind:
        return False
    there = {**event.data, "subject": event.subject}
    if any(name not in there or there[name] != one for name, one in options["match"].items()):
        return False
    return not options.get("path") or beyond(options, _at(there, str(options["path"])))


def _at(data: object, path: str) -> object:
    for name in path.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data


def _met(condition: Condition, state: State, first: int, now_us: int) -> list[Cause] | None:
    """The causes that meet a condition whose leaves begin at ``first``, or None.

    What is too old for its window is forgotten.
    """
    if not condition.parts:
        leaf = state.leaves.get(str(first))
        if leaf is None or leaf.cause is None:
            return None
        reached = condition.kind != "amount" or _reached(condition, leaf)
        return [leaf.cause] if reached else None
    if condition.within_s:
        _expire(condition, state, first, now_us)
    results = []
    for part in condition.parts:
        results.append(_met(part, state, first, now_us))
        first += sum(1 for _ in part.leaves())
    found = [one for one in results if one is not None]
    if not found or (condition.kind == "all" and len(found) < len(results)):
        return None
    return [cause for one in found for cause in one]


def _expire(condition: Condition, state: State, first: int, now_us: int) -> None:
    """Forget what was met longer ago than the window; an amount is met as long as it is."""
    for at, part in enumerate(condition.leaves(), first):
        leaf = state.leaves.get(str(at))
        if leaf is None or leaf.cause is None or part.kind == "amount":
            continue
        if now_us - leaf.cause.at_us > condition.within_s * 1e6:
            leaf.cause = None


def _reached(condition: Condition, leaf: Leaf) -> bool:
    bounds = condition.options["bounds"].items()
    return any(leaf.amounts.get(name, 0) >= bound for name, bound in bounds)


def _blocked(trigger: Trigger, state: State, at_us: int) -> tuple[int, str]:
    """Until when a trigger may not fire, and why; 0 where it may.

    A clock that was set back ends a cool-down: what lies in the future was never waited for.
    """
    past = [one for one in state.fired if one <= at_us]
    if past and trigger.cooldown_s and at_us - past[-1] < trigger.cooldown_s * 1e6:
        until = past[-1] + round(trigger.cooldown_s * 1e6)
        return until, f"within {trigger.cooldown_s:g} s of the last"
    span_us = round(trigger.limit_s * 1e6)
    recent = [one for one in past if at_us - one < span_us]
    if trigger.limit_count and len(recent) >= trigger.limit_count:
        until = recent[-trigger.limit_count] + span_us
        return until, f"after {trigger.limit_count} within {said(trigger.limit_s)}"
    return 0, ""


def _counted(reason: str, causes: list[Cause]) -> str:
    return reason if len(causes) < 20 else f"{reason[:200]}… ({len(causes)} causes)"
