"""Triggers, as a user writes them and as the room of triggers gets them.

Knows shapes; what a condition and an action mean is for that room.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from clew.authoring.checks import check_name, invalid
from clew.base.durations import seconds
from clew.triggers import Action, Condition, Trigger


def trigger_of(
    pipeline: str,
    name: str,
    when: Condition,
    do: Action | Sequence[Action],
    cooldown: str | float,
    limit: str,
) -> Trigger:
    """A trigger of a pipeline.

    Raises:
        Invalid: ``pipeline.definition``, ``trigger.definition``, ``duration.invalid``.
    """
    check_name(name, "a trigger")
    if not isinstance(when, Condition):
        raise invalid(f"when={when!r} of {name} is no condition", "Give clew.on_commit(...), say.")
    actions = [do] if isinstance(do, Action) else list(do)
    if not actions or not all(isinstance(one, Action) for one in actions):
        raise invalid(f"do={do!r} of {name} is no action", "Give clew.run(...), say.")
    count, span_s = _limit(name, limit)
    return Trigger(
        name=name,
        when=when.placed(pipeline),
        do=tuple(_own(pipeline, one) for one in actions),
        cooldown_s=seconds(cooldown, "cooldown="),
        limit_count=count,
        limit_s=span_s,
    ).check()


def _own(pipeline: str, action: Action) -> Action:
    """An action that says nothing of a pipeline is about the trigger's own."""
    if action.kind != "run" or action.options["pipeline"]:
        return action
    return replace(action, options={**action.options, "pipeline": pipeline})


def _limit(name: str, limit: str) -> tuple[int, float]:
    if not limit:
        return 0, 0.0
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(.+)", limit) if isinstance(limit, str) else None
    if found is None or not int(found[1]):
        raise invalid(f"limit={limit!r} of {name} is no limit", 'Write such as "3/1d".')
    span = found[2] if found[2][0].isdigit() else f"1{found[2]}"
    return int(found[1]), seconds(span, "limit=")
