"""The verbs about sources that commit by themselves, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from urllib.parse import quote

from clew.base.records import Commit
from clew.base.records.feeds import SourceInfo
from clew.client.wire import Wire


class RemoteFeeds:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def sources(self) -> list[SourceInfo]:
        """All sources that commit by themselves, by name."""
        return self._wire.get("/sources", list[SourceInfo])

    def source(self, name: str) -> SourceInfo:
        """One of them."""
        return self._wire.get(f"/sources/{quote(name)}", SourceInfo)

    def pause_source(self, name: str, *, paused: bool = True) -> SourceInfo:
        """Read it no more, until it is resumed."""
        return self._wire.post("/sources/pause", SourceInfo, {"name": name, "paused": paused})

    def poll_source(self, name: str) -> list[Commit]:
        """Read it now, until nothing more is there."""
        return self._wire.post("/sources/poll", list[Commit], {"name": name})
