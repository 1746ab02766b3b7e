"""Writes of a branch gathered into one commit, which ends when the branch is quiet.

Knows open commits; nothing of requests. What was gathered is durable at once, shown by the bucket
at once, and by every other door when the commit ends. It outlives the server: the next one ends it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from clew.base.errors import ClewError
from clew.base.records import Commit
from clew.repos import Repos
from clew.store import Entry

AUTHOR = "s3"
MARK = {"gathered-by": "s3"}
AT_MOST = 10
"""Times the quiet after which a commit ends, although the branch was never quiet."""
_AGAIN_S = 5.0
_log = logging.getLogger("clew.server")


class _Open(Struct, kw_only=True):
    commit: Commit
    began: float
    touched: float
    writes: int = 0


class Gatherer:
    """Open commits by branch, and the thread that ends them. Thread-safe.

    ``quiet_s``: how long a branch must be quiet. ``turn`` gives the lock under which a branch is
    written.
    """

    def __init__(
        self, repos: Repos, quiet_s: float, turn: Callable[[str, str], threading.Lock]
    ) -> None:
        self._repos = repos
        self._quiet_s = quiet_s
        self._turn = turn
        self._open: dict[tuple[str, str], _Open] = {}
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="clew-s3-gather", daemon=True)

    def start(self) -> None:
        """End what an earlier server has left open, and begin."""
        for commit_id in self._repos.uploads.left_open(AUTHOR):
            self._finish(commit_id, "gathered before the server was stopped")
        self._thread.start()

    def close(self) -> None:
        """End all open commits, and return when that is done."""
        with self._changed:
            self._over = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        for place in list(self._open):
            self._end(place)

    def present(self, repo: str, branch: str) -> Commit | None:
        """The commit in which writes of a branch are gathered now."""
        found = self._open.get((repo, branch))
        return None if found is None else found.commit

    def begin(self, repo: str, branch: str) -> Commit:
        """The same, opened where there is none. Call it in the turn of the branch."""
        found = self.present(repo, branch)
        if found is not None:
            return found
        commit = self._repos.open_commit(
            repo, branch=branch, message="s3: gathering", author=AUTHOR, meta=MARK, writable=True
        )
        now = time.monotonic()
        with self._changed:
            self._open[repo, branch] = _Open(commit=commit, began=now, touched=now)
            self._changed.notify()
        return commit

    def add(self, commit: Commit, puts: Sequence[Entry], deletes: Sequence[str]) -> None:
        """Write into it, durably. Call it in the turn of the branch."""
        place = (commit.repo, commit.branch)
        staged = self._repos.stage(commit.id, {}, deletes, entries=puts)
        with self._changed:
            found = self._open[place]
            found.commit = staged
            found.touched = time.monotonic()
            found.writes += len(puts) + len(deletes)

    def _run(self) -> None:
        with self._changed:
            while not self._over:
                due = {place: self._due(one) for place, one in self._open.items()}
                now = time.monotonic()
                ripe = [place for place, at in due.items() if at <= now]
                if ripe:
                    self._changed.release()
                    try:
                        for place in ripe:
                            self._end(place)
                    finally:
                        self._changed.acquire()
                else:
                    self._changed.wait(min(due.values()) - now if due else None)

    def _due(self, one: _Open) -> float:
        return min(one.touched + self._quiet_s, one.began + AT_MOST * self._quiet_s)

    def _end(self, place: tuple[str, str]) -> None:
        with self._turn(*place):
            found = self._open[place]
            if self._finish(found.commit.id, f"s3: {found.writes} put or deleted"):
                with self._changed:
                    del self._open[place]
            else:
                found.began = found.touched = time.monotonic() + _AGAIN_S

    def _finish(self, commit_id: str, message: str) -> bool:
        """Whether it has ended. What cannot end now was promised: it stays, and is tried again."""
        try:
            commit = self._repos.commit_by_id(commit_id)
            parent = self._repos.commit_by_id(commit.parent) if commit.parent else None
            if parent is not None and parent.tree == commit.tree:
                self._repos.abort(commit_id, "nothing was changed")
            else:
                self._repos.finish_staged(commit_id, message=message)
        except ClewError as error:
            _log.error("what was gathered over S3 (commit %s) waits: %s", commit_id, error)
            return False
        return True
