"""The verbs that name model versions: aliases with their history.

Knows the room of models.
"""

from __future__ import annotations

from clew.base.records import AliasMove
from clew.workspace.rooms import Rooms


class Naming:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms
    _author: str

    def alias_history(self, model: str) -> list[AliasMove]:
        """All moves of the aliases of a model, newest first."""
        self.rooms.models.versions(model, limit=1)  # says which are near
        return self.rooms.models.alias_history(model)

    def set_alias(
        self, model: str, alias: str, version: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Let an alias stand on a version of a model."""
        self.rooms.models.versions(model, limit=1)
        return self.rooms.models.set_alias(
            model, alias, version, by=by or self._author, reason=reason or "set by hand"
        )

    def rollback_alias(
        self, model: str, alias: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Move an alias one step back."""
        self.rooms.models.versions(model, limit=1)
        return self.rooms.models.rollback_alias(
            model, alias, by=by or self._author, reason=reason or "rolled back by hand"
        )
