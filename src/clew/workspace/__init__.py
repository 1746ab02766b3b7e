"""One installation: every verb, over rooms that are wired here and nowhere else.

Knows the doors of the rooms below; it is told where it is and never asks the environment.
"""

from clew.workspace.engine import Engine
from clew.workspace.rooms import serving_settings
from clew.workspace.workspace import LOCK_NAME, Workspace

__all__ = ["LOCK_NAME", "Engine", "Workspace", "serving_settings"]
