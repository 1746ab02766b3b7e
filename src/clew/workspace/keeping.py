"""The verbs that keep a workspace in order, on the files of one directory.

Knows which rooms name what of the store; what is done with that is for repos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from clew.base.keeping_verbs import Seen
from clew.base.records.keeping import Checkup, Collected, Usage
from clew.db import Tx
from clew.workspace.rooms import Rooms


class Keeping:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms

    def gc(
        self, *, dry_run: bool = False, thorough: bool = False, wait_s: float = 60.0
    ) -> Collected:
        """Free what nothing refers to."""
        if not dry_run:
            self.rooms.environments.collect(self.rooms.pipelines.environments())
        return self.rooms.repos.collect(
            roots_of(self.rooms), dry_run=dry_run, thorough=thorough, wait_s=wait_s
        )

    def fsck(self, *, repair: bool = False, seen: Seen | None = None) -> Checkup:
        """Verify every byte, tree, commit and ref."""
        repos = self.rooms.repos
        if seen is None:
            return repos.check(roots_of(self.rooms), repair=repair)
        return repos.check(roots_of(self.rooms), repair=repair, seen=seen)

    def du(self, address: str = "") -> list[Usage]:
        """What every repo takes, or one repo, branch or commit."""
        return self.rooms.repos.usage(roots_of(self.rooms), address)


def roots_of(rooms: Rooms) -> Sequence[Callable[[Tx], Iterable[str]]]:
    """What rows above repos name of the store. A room whose rows hold digests stands here."""
    return (rooms.pipelines.roots, rooms.experiments.roots, rooms.serving.roots)
