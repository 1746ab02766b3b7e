"""What a trigger is and what a firing is.

Plain values; they know no storage.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from clew.base.errors import Invalid
from clew.triggers.actions import Action
from clew.triggers.conditions import Condition


class Trigger(Struct, frozen=True, kw_only=True):
    """A condition that has actions.

    Within ``cooldown_s`` of the last firing no other follows, and no more than ``limit_count``
    within ``limit_s`` (0: any number).
    """

    name: str
    when: Condition
    do: tuple[Action, ...]
    cooldown_s: float = 0.0
    limit_count: int = 0
    limit_s: float = 0.0

    def check(self) -> Trigger:
        """The trigger itself, if it can ever fire and cannot feed on itself.

        Raises:
            Invalid: ``trigger.definition``.
        """
        if not self.name or not self.do or not list(self.when.leaves()):
            raise _invalid(self, "it needs a name, a condition and an action")
        events = [str(one.options.get("event", "")) for one in self.when.leaves()]
        if any(event.startswith("trigger.") for event in events):
            raise _invalid(self, "it would be set off by firings, and so by itself")
        if self.cooldown_s < 0 or self.limit_count < 0 or self.limit_s < 0:
            raise _invalid(self, "its cool-down or its limit is negative")
        return self


class Firing(Struct, frozen=True, kw_only=True):
    """One trigger set off. ``state``: pending, done, failed or skipped.

    ``id`` follows from the trigger and its causes, and is the idempotency key of its actions.
    ``causes`` name what set it off: each sets off a trigger once, ever. ``cause``, ``event``,
    ``subject`` and ``data`` are of the event that came last; ``global_id`` is of that event, so
    that what follows belongs to the same change. ``done`` counts the actions that are done.
    """

    id: str
    trigger: str
    pipeline: str
    causes: tuple[str, ...]
    cause: int
    event: str
    subject: str
    data: dict[str, object]
    global_id: str
    actions: tuple[Action, ...]
    done: int
    state: str
    reason: str
    attempts: int
    error: str
    effect: str
    change: str
    created_at: datetime
    finished_at: datetime | None
    at: datetime


def _invalid(trigger: Trigger, why: str) -> Invalid:
    return Invalid(
        "trigger.definition",
        f"The trigger {trigger.name!r} cannot be: {why}.",
        hint="Write p.trigger(name, when=clew.on_commit(...), do=clew.run(...)).",
    )
