"""Checkpoints taken away: commits that a policy gives up, wherever they stand in their history.

Knows rows and lineage; which commits go is for who asks.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import update

from clew.base.errors import Denied
from clew.base.records import Commit, Removal
from clew.db import Tx
from clew.repos import refs, squashing, tables, writing
from clew.repos.squashing import Squashing

RETIRABLE = ("checkpoint",)


class Retiring(Squashing):
    """The part of the door that gives up what Clew itself made to go on from."""

    def retire(self, ids: Sequence[str], *, tx: Tx, reason: str) -> list[Commit]:
        """Take commits of checkpoints away, heads and others; the commits, as they were.

        What comes after one keeps its content and gets the nearest commit before as its parent; a
        branch whose head goes stands on that, or on nothing. Those that are gone already are left
        out. Their bytes go with the next collection of garbage. Lineage keeps what they were.

        Raises:
            Denied: ``repo.derived`` for a commit of another kind of repo.
        """
        going = [refs.commit_of(row) for id in ids if (row := _row(tx, id)) is not None]
        if not going:
            return []
        for repo in {commit.repo for commit in going}:
            if refs.get_repo(tx, repo).kind not in RETIRABLE:
                raise Denied(
                    "repo.derived",
                    f"The commits of {repo} are no checkpoints.",
                    hint="Name commits of a repo that ends in .checkpoints.",
                )
        above = {commit.id: commit.parent for commit in going}
        goals = {commit.id: _staying(above, commit.id) for commit in going}
        for (repo, branch), (old, _) in squashing.moves(tx, going).items():
            writing.move_head(tx, repo, branch, old, goals[old], going[0].global_id)
        self._mend(tx, squashing.folded(squashing.children_of(tx, going), going))
        for commit in going:
            where = (tables.commits.c.parent == commit.id, tables.commits.c.state == "open")
            tx.execute(update(tables.commits).where(*where).values(parent=goals[commit.id]))
        into = {id: goal for id, goal in goals.items() if goal}
        self._bury(tx, Removal(how="dropped", commits=tuple(going)), into, "", reason)
        return going


def _row(tx: Tx, id: str) -> object:
    return tx.execute(tables.COMMIT, {"id": id}).first()


def _staying(above: dict[str, str | None], id: str) -> str | None:
    at: str | None = id
    while at in above:
        at = above[at]
    return at
