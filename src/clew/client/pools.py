"""The verbs for resource pools, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from clew.base.records.pools import PoolInfo
from clew.client.wire import Wire


class RemotePools:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def pools(self) -> list[PoolInfo]:
        """The resource pools, who has their slots, and what waits."""
        return self._wire.get("/pools", list[PoolInfo])

    def restore_slot(self, slot: str) -> list[PoolInfo]:
        """Give an excluded slot back; the pools then."""
        return self._wire.post("/pools/restore", list[PoolInfo], {"slot": slot})
