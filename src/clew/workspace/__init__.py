"""One installation: every verb, over rooms that are wired here and nowhere else.

Knows the doors of the rooms below; it is told where it is and never asks the environment.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.workspace.opening import open_workspace

if TYPE_CHECKING:
    from clew.workspace.engine import Engine
    from clew.workspace.rooms import serving_settings
    from clew.workspace.workspace import LOCK_NAME, Workspace

__all__ = ["LOCK_NAME", "Engine", "Workspace", "open_workspace", "serving_settings"]

__getattr__ = on_demand(
    __name__,
    {
        "LOCK_NAME": "workspace",
        "Workspace": "workspace",
        "Engine": "engine",
        "serving_settings": "rooms",
    },
)
