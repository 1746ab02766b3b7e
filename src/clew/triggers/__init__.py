"""Triggers: a condition over what happens → actions, each once.

Knows no monitor and no pipeline: it reads events by their kind and data, and calls actions by name.
What a user writes stands in ``conditions`` and ``actions``; ``clew`` itself is the door to it.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.triggers.actions import Action, retrain
from clew.triggers.conditions import Condition, on_event
from clew.triggers.records import Firing, Trigger

if TYPE_CHECKING:
    from clew.triggers.replaying import replay
    from clew.triggers.tables import info_of
    from clew.triggers.triggers import Finish, Hands, Triggers

__all__ = [
    "Action",
    "Condition",
    "Finish",
    "Firing",
    "Hands",
    "Trigger",
    "Triggers",
    "info_of",
    "on_event",
    "replay",
    "retrain",
]

__getattr__ = on_demand(
    __name__,
    {
        "Finish": "triggers",
        "Hands": "triggers",
        "Triggers": "triggers",
        "replay": "replaying",
        "info_of": "tables",
    },
)
