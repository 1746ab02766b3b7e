"""What every part of the door stands on: rows, bytes, lineage, and how commits become heads.

Knows nothing of why a commit is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

from clew.base.errors import Invalid
from clew.base.records import Commit
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.repos import journal, writing
from clew.store import Store

Commits: TypeAlias = list[Commit]
Listener = Callable[[Tx, Commits, str], None]
Within = Callable[[Tx, Commits], None]
"""What somebody writes in the transaction that makes their commits the heads of branches."""
OPTIMISTIC = 3
"""Attempts to write without holding the write lock; then one that holds it."""

TELL_S = 5.0
"""How long the journal in the store may lag behind the rows while commits come in."""


class Ledger:
    """Commits with what is told of them.

    ``listeners`` are called inside the transaction that finishes commits, once for each call that
    finishes some, with these commits and their global id; what they write is kept if and only if
    the commits are, and an error of theirs undoes the commits.
    """

    def __init__(self, db: Database, store: Store) -> None:
        self._db = db
        self._store = store
        self._lineage = Lineage(db)
        self._told_at = time.monotonic()
        self.listeners: list[Listener] = []

    def settle(self) -> None:
        """Write into the store what its journal does not tell yet of refs, tags and the rest."""
        while True:
            with self._db.read() as tx:
                news = journal.news(tx)
            if news is None:
                return
            with self._store.writer() as writer:
                writer.put_object(journal.TAG, news[1])
            with self._db.begin() as tx:
                journal.told(tx, news[0])
            self._told_at = time.monotonic()

    def _news(self, tx: Tx) -> tuple[int, bytes] | None:
        """What the next flush is to tell the journal; now and then, so that commits stay quick."""
        if time.monotonic() - self._told_at < TELL_S:
            return None
        self._told_at = time.monotonic()
        return journal.news(tx)

    def _writing(self, tx: Tx | None) -> AbstractContextManager[Tx]:
        return self._db.begin() if tx is None else nullcontext(tx)

    def _reading(self, tx: Tx | None) -> AbstractContextManager[Tx]:
        return self._db.read() if tx is None else nullcontext(tx)

    def _keep(self, commits: Sequence[Commit]) -> list[str]:
        with self._store.writer() as writer:
            for commit in commits:
                writer.hold(commit.tree)
            return [writer.put_object(writing.OBJECT_TAG, writing.encode(c)) for c in commits]

    def _record(
        self,
        tx: Tx,
        commits: Commits,
        objects: Sequence[str],
        *,
        heads: Sequence[str | None],
        news: tuple[int, bytes] | None = None,
    ) -> None:
        if news is not None:
            journal.told(tx, news[0])
        for commit, kept in zip(commits, objects, strict=True):
            writing.insert(tx, commit, kept)
        self._head_moves(tx, commits, heads)

    def _head_moves(self, tx: Tx, commits: Commits, heads: Sequence[str | None]) -> None:
        for commit, old in zip(commits, heads, strict=True):
            writing.move_head(tx, commit.repo, commit.branch, old, commit.id, commit.global_id)
            writing.announce(tx, self._lineage, commit)
        for listener in self.listeners:
            listener(tx, commits, commits[0].global_id)


def untold(tx: Tx, commits: Commits) -> None:
    """Nothing to write beside commits."""


def finished_in(commit: Commit, repo: str) -> Commit:
    """The commit itself, if it is a finished one of a repo.

    Raises:
        Invalid: ``branch.other_repo``, ``commit.not_finished``.
    """
    if commit.repo != repo:
        raise Invalid(
            "branch.other_repo",
            f"Commit {commit.id} is in {commit.repo}, not in {repo}.",
            hint="A branch or tag can only name a commit of its own repo.",
        )
    if commit.state != "finished":
        raise Invalid(
            "commit.not_finished",
            f"Commit {commit.id} is {commit.state}.",
            hint="Only a finished commit can be the head of a branch.",
        )
    return commit
