"""The verbs that keep a workspace in order: collecting garbage, checking, what takes how much.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from clew.base.records.keeping import Checkup, Collected, Usage

Seen = Callable[[int, int], None]
"""Told how many bytes were read, of how many."""


class KeepingVerbs(Protocol):
    """Everything that may be asked for beside all other work."""

    def gc(
        self, *, dry_run: bool = False, thorough: bool = False, wait_s: float = 60.0
    ) -> Collected:
        """Free what nothing refers to; with ``dry_run`` say how much that would be.

        Waits up to ``wait_s`` for work that may still need what is to go; what is left then goes
        with the next call. ``thorough`` rewrites every pack that holds garbage. Raises Conflict
        ``gc.running``, Corrupt ``gc.damaged``.
        """
        ...

    def fsck(self, *, repair: bool = False, seen: Seen | None = None) -> Checkup:
        """Verify every byte, tree, commit and ref. ``repair`` mends what loses nothing."""
        ...

    def du(self, address: str = "") -> list[Usage]:
        """What every repo takes, or what one repo, branch or commit does."""
        ...
