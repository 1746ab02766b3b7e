"""The verbs about sources that commit by themselves, on the files of one directory.

Knows the room of sources.
"""

from __future__ import annotations

from collections.abc import Mapping

from clew.base.records import Commit
from clew.base.records.feeds import Received, SourceInfo
from clew.workspace.rooms import Rooms


class Feeds:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms

    def sources(self) -> list[SourceInfo]:
        """All sources that commit by themselves, by name."""
        return list(self.rooms.sources.list())

    def source(self, name: str) -> SourceInfo:
        """One of them."""
        return self.rooms.sources.get(name)

    def pause_source(self, name: str, *, paused: bool = True) -> SourceInfo:
        """Poll it no more, until it is resumed."""
        return self.rooms.sources.pause(name, paused=paused)

    def poll_source(self, name: str) -> list[Commit]:
        """Read it now, until nothing more is there."""
        return list(self.rooms.sources.poll(self.rooms.sources.get(name).name))

    def receive(
        self, name: str, body: bytes, headers: Mapping[str, str], *, trusted: bool = False
    ) -> Received:
        """Keep what was posted to a webhook; a server says whether it knows the sender."""
        source, found = self.rooms.sources.receive(name, body, headers, trusted=trusted)
        return Received(source=source, id=found.id, path=found.path, duplicate=found.duplicate)
