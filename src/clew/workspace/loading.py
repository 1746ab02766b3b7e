"""Where predictions that are made in another process of this machine are kept.

Knows the rooms; how a model is loaded and asked is for the sdk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.workspace.workspace import Workspace


def log_of(workspace: Workspace, endpoint: str) -> dict[str, Any]:
    """The spool, the share that is kept and the columns that are not. Raises NotFound
    ``endpoint.unknown``.
    """
    rooms = workspace.rooms
    definition = rooms.serving.definition(endpoint)
    return {
        "spool_dir": rooms.settings.home / "spool",
        "log": definition.log,
        "redact": definition.redact,
    }
