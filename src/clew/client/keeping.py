"""The verbs that keep a workspace in order, of one that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from clew.base.keeping_verbs import Seen
from clew.base.records.keeping import Checkup, Collected, Usage
from clew.client.wire import Wire


class RemoteKeeping:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def gc(
        self, *, dry_run: bool = False, thorough: bool = False, wait_s: float = 60.0
    ) -> Collected:
        """Free what nothing refers to; with ``dry_run`` say how much that would be."""
        body = {"dry_run": dry_run, "thorough": thorough, "wait_s": wait_s}
        return self._wire.post("/gc", Collected, body)

    def fsck(self, *, repair: bool = False, seen: Seen | None = None) -> Checkup:
        """Verify every byte, tree, commit and ref; ``seen`` is told at the end."""
        found = self._wire.post("/fsck", Checkup, {"repair": repair})
        if seen is not None:
            seen(found.size_bytes, found.size_bytes)
        return found

    def du(self, address: str = "") -> list[Usage]:
        """What every repo takes, or what one repo, branch or commit does."""
        return self._wire.get("/usage", list[Usage], address=address)
