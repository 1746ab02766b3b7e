"""Triggers: events → actions, each once.

Knows no monitor and no pipeline: it reads events by their kind and data, and calls actions by name.
"""

from clew.triggers.records import Firing, Trigger
from clew.triggers.triggers import Triggers

__all__ = ["Firing", "Trigger", "Triggers"]
