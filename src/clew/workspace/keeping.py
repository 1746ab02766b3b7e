"""The verbs that keep a workspace in order, on the files of one directory.

Knows which rooms name what of the store; what is done with that is for repos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from msgspec.structs import replace

from clew.base.clock import now
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
        """Free what nothing refers to, and logs and rows that are kept no longer."""
        rooms, logs, feedback = self.rooms, 0, 0
        if not dry_run:
            rooms.environments.collect(rooms.pipelines.environments())
            logs, feedback = drop_old_logs(rooms), drop_old_feedback(rooms)
        found = rooms.repos.collect(
            roots_of(rooms), dry_run=dry_run, thorough=thorough, wait_s=wait_s
        )
        return replace(found, logs=logs, feedback=feedback)

    def fsck(self, *, repair: bool = False, seen: Seen | None = None) -> Checkup:
        """Verify every byte, tree, commit and ref."""
        repos = self.rooms.repos
        if seen is None:
            return repos.check(roots_of(self.rooms), repair=repair)
        return repos.check(roots_of(self.rooms), repair=repair, seen=seen)

    def du(self, address: str = "") -> list[Usage]:
        """What every repo takes, or one repo, branch or commit."""
        return self.rooms.repos.usage(roots_of(self.rooms), address)


def drop_old_logs(rooms: Rooms) -> int:
    """Remove logs of jobs that are older than the setting says; of how many jobs."""
    keep_s = rooms.settings.keep_logs_s
    return rooms.pipelines.drop_logs(now() - timedelta(seconds=keep_s)) if keep_s else 0


def drop_old_feedback(rooms: Rooms) -> int:
    """Remove rows of feedback that are older than the setting says; how many."""
    keep_s = rooms.settings.keep_feedback_s
    return rooms.serving.drop_feedback(now() - timedelta(seconds=keep_s)) if keep_s else 0


def roots_of(rooms: Rooms) -> Sequence[Callable[[Tx], Iterable[str]]]:
    """What rows above repos name of the store. A room whose rows hold digests stands here."""
    return (rooms.pipelines.roots, rooms.experiments.roots, rooms.serving.roots)
