"""What a trigger is and what a firing is.

Plain values; they know no storage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from clew.base.errors import Invalid


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """An event that has an action.

    ``event`` is a kind of event, such as ``drift.seen``. Every entry of ``match`` must equal the
    same entry of the event's data; the key ``subject`` means the event's subject. ``action`` names
    what is done with ``arguments``. Within ``cooldown_s`` of the last firing no other follows.
    """

    name: str
    event: str
    action: str
    match: dict[str, object] = field(default_factory=dict)
    arguments: dict[str, object] = field(default_factory=dict)
    cooldown_s: float = 0.0

    def check(self) -> Trigger:
        """The trigger itself, if it can ever fire and cannot feed on itself.

        Raises:
            Invalid: ``trigger.definition``.
        """
        if not self.name or not self.event or not self.action:
            raise _invalid(self, "it needs a name, an event and an action")
        if self.event.startswith("trigger."):
            raise _invalid(self, "it would be set off by firings, and so by itself")
        if self.cooldown_s < 0:
            raise _invalid(self, "its cool-down is negative")
        return self


@dataclass(frozen=True, kw_only=True)
class Firing:
    """One trigger set off by one event. ``state``: pending, done, failed or skipped.

    ``id`` is the idempotency key of the action, which may be called again after a crash;
    ``global_id`` is of the event, so that what follows belongs to the same change. ``cause`` is
    the number of the event and ``subject`` what it was about. ``reason`` is one sentence.
    """

    id: str
    trigger: str
    pipeline: str
    cause: int
    event: str
    subject: str
    data: dict[str, object]
    global_id: str
    action: str
    arguments: dict[str, object]
    state: str
    reason: str
    attempts: int
    error: str
    created_at: datetime
    finished_at: datetime | None


def _invalid(trigger: Trigger, why: str) -> Invalid:
    return Invalid(
        "trigger.definition",
        f"The trigger {trigger.name!r} cannot be: {why}.",
        hint="Write Trigger(name=..., event='drift.seen', action='retrain').",
    )
