"""Walks through history: a branch step by step, the nearest common ancestor, the past of a path.

Knows rows and trees; it changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from clew.base.address import normal_path
from clew.base.records import Commit, Found
from clew.db import Tx
from clew.repos import contents, refs, tables
from clew.repos.globs import Glob, glob_match
from clew.store import EMPTY_TREE, Store

_FIRST_PAGE = 64
_PAGE = 1000
_OURS, _THEIRS = 1, 2


class LogFilter(Struct, frozen=True, kw_only=True):
    """Which commits of a history are meant; each part that is given must hold.

    ``path`` is a file, a directory or a glob that the commit changed; ``since`` and ``until`` (both
    included) bound the time at which it ended; ``author`` is a part of its author's name; ``meta``
    are metadata that it has, '' for any value.
    """

    path: str = ""
    since: datetime | None = None
    until: datetime | None = None
    author: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether every commit is meant."""
        return self == LogFilter()

    def matches(self, commit: Commit) -> bool:
        """Whether all but ``path`` holds."""
        at = commit.finished_at or commit.started_at
        return (
            (self.since is None or at >= self.since)
            and (self.until is None or at <= self.until)
            and self.author.casefold() in commit.author.casefold()
            and all(
                key in commit.meta and value in ("", commit.meta[key])
                for key, value in self.meta.items()
            )
        )


def chain(tx: Tx, id: str) -> Iterator[Commit]:
    """A commit and all before it along the first parents, nearest first; read page by page."""
    at: str | None = id
    size = _FIRST_PAGE
    while at is not None:
        page = refs.chain(tx, at, size - 1)
        yield from page
        at = page[-1].parent if len(page) == size else None
        size = _PAGE


def filtered(tx: Tx, store: Store, head: Commit, wanted: LogFilter, limit: int) -> list[Commit]:
    """Finished commits of a history that are meant, newest first."""
    found: list[Commit] = []
    touched = _Touched(store, wanted.path) if wanted.path else None
    for commit, parent in _pairs(chain(tx, head.id)):
        at = commit.finished_at or commit.started_at
        if len(found) >= limit or (wanted.since is not None and at < wanted.since):
            break
        if wanted.matches(commit) and (touched is None or touched.any(parent, commit)):
            found.append(commit)
    return found


def find(tx: Tx, store: Store, head: Commit, path: str, limit: int) -> list[Found]:
    """What each commit of a history did to a path, a directory or a glob; newest first.

    O(log n) for each commit that left it as it was.
    """
    touched = _Touched(store, path)
    found: list[Found] = []
    for commit, parent in _pairs(chain(tx, head.id)):
        for change in touched.changes(parent, commit):
            found.append(Found(commit=commit, change=change))
            if len(found) >= limit:
                return found
    return found


def common_ancestor(tx: Tx, ours: str, theirs: str) -> Commit | None:
    """The newest commit that both go back to, along all parents; None where there is none.

    Costs as many reads as there are commits newer than it on either side.
    """
    colours = {ours: _OURS}
    colours[theirs] = colours.get(theirs, 0) | _THEIRS
    heap: list[tuple[int, int, str]] = []
    rows: dict[str, Any] = {}

    def push(id: str) -> None:
        row = tx.execute(tables.COMMIT, {"id": id}).first()
        if row is not None:
            rows[id] = row
            heapq.heappush(heap, (-row.at_us, -row.seq, id))

    for id in dict.fromkeys((ours, theirs)):
        push(id)
    while heap:
        id = heapq.heappop(heap)[2]
        colour = colours[id]
        if colour == _OURS | _THEIRS:
            return refs.commit_of(rows[id])
        row = rows.pop(id)
        for parent in (row.parent, row.merged):
            if parent is not None:
                known = parent in colours
                colours[parent] = colours.get(parent, 0) | colour
                if not known:
                    push(parent)
    return None


def _pairs(commits: Iterator[Commit]) -> Iterator[tuple[Commit, Commit | None]]:
    """Each commit with its parent."""
    last: Commit | None = None
    for commit in commits:
        if last is not None:
            yield last, commit
        last = commit
    if last is not None:
        yield last, None


class _Touched:
    """What commits did at a path, at all below a directory, or at what matches a glob."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._glob: Glob | None = None
        if any(sign in path for sign in "*?[{("):
            self._glob = glob_match(path if path.startswith("/") else f"/{path}")
            self._prefix = self._glob.directory
        else:
            self._prefix = normal_path(path)

    def changes(self, parent: Commit | None, commit: Commit) -> Iterator[Any]:
        before = EMPTY_TREE if parent is None else parent.tree
        for change in contents.diff(self._store, before, commit.tree, self._prefix):
            if self._glob is None or self._glob.match(change.path) is not None:
                yield change

    def any(self, parent: Commit | None, commit: Commit) -> bool:
        return next(self.changes(parent, commit), None) is not None
