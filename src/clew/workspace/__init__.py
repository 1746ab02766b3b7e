"""One installation: every verb, over rooms that are wired here and nowhere else.

Knows the doors of the rooms below; it is told where it is and never asks the environment.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.workspace.opening import open_workspace

if TYPE_CHECKING:
    from clew.workspace.engine import Engine
    from clew.workspace.loading import log_of
    from clew.workspace.making import make_workspace, upgrade_workspace
    from clew.workspace.rebuilding import rebuild_workspace
    from clew.workspace.rooms import serving_settings
    from clew.workspace.workspace import Workspace

__all__ = [
    "Engine",
    "Workspace",
    "log_of",
    "make_workspace",
    "open_workspace",
    "rebuild_workspace",
    "serving_settings",
    "upgrade_workspace",
]

__getattr__ = on_demand(
    __name__,
    {
        "Workspace": "workspace",
        "Engine": "engine",
        "log_of": "loading",
        "make_workspace": "making",
        "upgrade_workspace": "making",
        "rebuild_workspace": "rebuilding",
        "serving_settings": "rooms",
    },
)
