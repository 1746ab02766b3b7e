"""The verbs that name model versions, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from urllib.parse import quote

from clew.base.records import AliasMove
from clew.client.wire import Wire


class RemoteNaming:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def alias_history(self, model: str) -> list[AliasMove]:
        """All moves of the aliases of a model, newest first."""
        return self._wire.get(f"/aliases/{quote(model)}", list[AliasMove])

    def set_alias(
        self, model: str, alias: str, version: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Let an alias stand on a version of a model."""
        wish = {"model": model, "alias": alias, "version": version, "by": by, "reason": reason}
        return self._wire.post("/aliases", AliasMove, wish)

    def rollback_alias(
        self, model: str, alias: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Move an alias one step back."""
        wish = {"model": model, "alias": alias, "by": by, "reason": reason}
        return self._wire.post("/aliases/rollback", AliasMove, wish)
