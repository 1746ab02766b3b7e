"""The part of the door that keeps a workspace in order: collecting, checking, sizes, rebuilding.

Knows no room above: what their rows need of the store they say themselves (``Roots``).
"""

from __future__ import annotations

from collections.abc import Sequence

from clew.base.address import parse_address
from clew.base.records.keeping import Checkup, Collected, Rebuilt, Usage
from clew.repos import refs
from clew.repos.checking import Seen, check
from clew.repos.collecting import Roots, collect, usage, usage_of
from clew.repos.ledger import Ledger
from clew.repos.rebuilding import rebuild
from clew.store import Terms


class Keeping(Ledger):
    """See the module."""

    def collect(
        self,
        rooms: Sequence[Roots],
        *,
        dry_run: bool = False,
        thorough: bool = False,
        wait_s: float = 60.0,
    ) -> Collected:
        """Remove from the store what nothing needs; what ``rooms`` name stays.

        Waits up to ``wait_s`` for those who may lean on what is to go; then the next call goes on.

        Raises:
            Conflict: ``gc.running``.
            Corrupt: ``gc.damaged``.
        """
        terms = Terms(dry_run=dry_run, thorough=thorough, wait_s=wait_s)
        return collect(self._db, self._store, rooms, terms)

    def check(
        self,
        rooms: Sequence[Roots],
        *,
        repair: bool = False,
        seen: Seen = lambda _done, _total: None,
    ) -> Checkup:
        """Verify every byte, tree, commit and ref, beside writers. ``repair`` loses nothing.

        Raises Conflict ``gc.running`` where something is to be mended and another one collects.
        """
        return check(self._db, self._store, rooms, repair=repair, seen=seen)

    def usage(self, rooms: Sequence[Roots], address: str = "") -> list[Usage]:
        """What every repo takes; with ``address`` one repo, branch or commit.

        Raises NotFound ``repo.unknown``, ``ref.unknown``.
        """
        if not address:
            return usage(self._db, self._store, rooms)
        place = parse_address(address)
        with self._db.read() as tx:
            branches = refs.get_repo(tx, place.repo).branches
            if "@" not in address:
                every = usage(self._db, self._store, rooms)
                return [one for one in every if one.name == place.repo]
            whole = place.ref in branches and not place.ancestors
            commit = "" if whole else refs.resolve(tx, place).id
        return [usage_of(self._db, self._store, rooms, place.repo, place.ref, commit)]

    def rebuild(self) -> Rebuilt:
        """Fill an empty database from the store.

        Raises:
            Conflict: ``rebuild.not_empty``.
            Corrupt: ``journal.corrupt``.
        """
        return rebuild(self._db, self._store)
