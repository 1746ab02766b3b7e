"""Spool → commits: every record of the prediction log, exactly once.

Knows nothing of requests in flight. The offset to which a spool file is committed moves in the
transaction of the commit, so a record is in the log once, whatever is killed when. One collector
works at a time (a lock file that dies with its process).
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct, field
from sqlalchemy import delete, select

from clew.base.clock import from_us
from clew.base.ids import new_id
from clew.base.records import Signature
from clew.db import Database, Tx
from clew.repos import Repos
from clew.serving import keyed, parquet, tables
from clew.serving.accounts import now_us
from clew.serving.columns import Columns
from clew.serving.spool import Record, Segment, records, segments
from clew.store import EMPTY_TREE, Entry, Store

INTERVAL_S = 1.0
ROUND_BYTES = 32 << 20
"""How much of the spool is in memory at once."""
_DAY_US = 86_400_000_000
_log = logging.getLogger("clew.serving")


@lru_cache(maxsize=8)
def _day(number: int) -> str:
    """The day, in UTC, of so many days after 1970."""
    return from_us(number * _DAY_US).strftime("%Y-%m-%d")


class _Reach(Struct, frozen=True, kw_only=True):
    """How far a round has read a segment. ``ended``: nothing of it will be left."""

    segment: Segment
    start: int
    stop: int
    ended: bool


class _Round(Struct):
    """What one round has read: records by endpoint, revision and day. ``left``: bytes to go."""

    left: int
    reaches: list[_Reach] = field(default_factory=list)
    groups: dict[tuple[str, str, str], list[Record]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        day = _day(record.at_us // _DAY_US)
        self.groups.setdefault((record.endpoint, record.revision, day), []).append(record)


class _File(Struct, frozen=True, kw_only=True):
    """One file of the log, its bytes in the store and not yet in a commit."""

    endpoint: str
    revision: str
    global_id: str
    entry: Entry
    columns: Columns


class Collector:
    """Turns the spool into commits of ``{pipeline}/{endpoint}.predictions``. Thread-safe."""

    def __init__(self, db: Database, repos: Repos, store: Store, spool_dir: Path) -> None:
        self._db, self._repos, self._store, self._spool = db, repos, store, spool_dir
        self._last_s = float("-inf")

    def collect(self, *, force: bool = False) -> int:
        """Commit what the spool holds; the number of requests.

        Without ``force`` nothing happens within a second of the last time.
        """
        if not force and time.monotonic() - self._last_s < INTERVAL_S:
            return 0
        if not self._spool.is_dir():
            return 0
        with self.alone():
            requests, full = 0, True
            while full:
                more, full = self._round()
                requests += more
        self._last_s = time.monotonic()
        return requests

    def alone(self) -> AbstractContextManager[None]:
        """Wait until nobody else collects, and keep others from it."""
        self._spool.mkdir(parents=True, exist_ok=True)
        return _alone(self._spool / "collect.lock")

    def _round(self) -> tuple[int, bool]:
        """Commit at most about ROUND_BYTES; the number of requests, and whether more is left."""
        read = self._read()
        if read.groups:
            with self._store.lease():  # until rows name the files
                self._commit(read)
        self._tidy([reach for reach in read.reaches if reach.ended])
        return sum(len(group) for group in read.groups.values()), read.left <= 0

    def offsets(self) -> dict[str, int]:
        """Segment → the offset to which it is committed."""
        with self._db.read() as tx:
            return {row.segment: row.offset for row in tx.execute(select(tables.spool_offsets))}

    def _read(self) -> _Round:
        read, offsets = _Round(left=ROUND_BYTES), self.offsets()
        for segment in segments(self._spool):
            if read.left <= 0:
                break
            read.reaches.append(_reach(read, segment, offsets.get(segment.name, 0)))
        return read

    # commits ------------------------------------------------------------------------------------

    def _commit(self, read: _Round) -> None:
        signatures, repos = self._known(read)
        while True:
            heads = {name: self._repos.head(name) for name in set(repos.values())}
            with self._store.writer() as writer:
                files = []
                for (endpoint, revision, day), group in read.groups.items():
                    columns = Columns(signatures[revision])
                    columns.add_all(group)
                    digest, size = writer.put(parquet.write(columns))
                    path = f"/{day}/{min(columns.ids)}.parquet"
                    entry = Entry(path=path, digest=digest, size_bytes=size)
                    files.append(
                        _File(
                            endpoint=endpoint,
                            revision=revision,
                            global_id=group[0].global_id,
                            entry=entry,
                            columns=columns,
                        )
                    )
                trees = {}
                for name, head in heads.items():
                    entries = [file.entry for file in files if repos[file.endpoint] == name]
                    trees[name] = writer.tree(head.tree if head else EMPTY_TREE, entries)
            with self._db.begin() as tx:
                now = {name: self._repos.head(name, tx=tx) for name in heads}
                if now == heads:
                    self._record(tx, read, files, repos, trees)
                    return

    def _known(self, read: _Round) -> tuple[dict[str, Signature], dict[str, str]]:
        """Signatures by revision and repos by endpoint, of all that was read."""
        named = {endpoint for endpoint, _, _ in read.groups}
        served = {revision for _, revision, _ in read.groups}
        with self._db.read() as tx:
            rows = tx.execute(select(tables.revisions).where(tables.revisions.c.id.in_(served)))
            signatures = {row.id: msgspec.convert(row.signature, Signature) for row in rows}
            found = tx.execute(select(tables.endpoints).where(tables.endpoints.c.name.in_(named)))
            repos = {row.name: log_repo(row.pipeline, row.name) for row in found}
        for name in repos.values():
            self._repos.create(name, kind="log", description="Predictions.", exist_ok=True)
        return signatures, repos

    def _record(
        self,
        tx: Tx,
        read: _Round,
        files: Sequence[_File],
        repos: dict[str, str],
        trees: dict[str, str],
    ) -> None:
        global_id, commits = new_id(), {}
        for name, tree in trees.items():
            of_repo = [file for file in files if repos[file.endpoint] == name]
            count = sum(len(file.columns.ids) for file in of_repo)
            opened = self._repos.open_commit(
                name,
                global_id=global_id,
                provenance=_model_commits(tx, {file.revision for file in of_repo}),
                message=f"{count} prediction{'' if count == 1 else 's'}",
                author="clew",
                tx=tx,
            )
            commits[name] = self._repos.finish(opened.id, tree, tx=tx).id
        rows = [_segment_row(file, repos[file.endpoint], commits) for file in files]
        tx.execute(tables.prediction_segments.insert(), rows)
        keyed.note(tx, (record for group in read.groups.values() for record in group))
        moved = [
            {"segment": reach.segment.name, "offset": reach.stop, "updated_us": now_us()}
            for reach in read.reaches
            if reach.stop > reach.start
        ]
        tx.upsert(tables.spool_offsets, moved, key=["segment"], refresh=["offset", "updated_us"])

    def _tidy(self, ended: Sequence[_Reach]) -> None:
        """Remove files of which everything is committed, and then what was known of them."""
        for reach in ended:
            reach.segment.delete()
        names = [reach.segment.name for reach in ended if reach.stop > 0]
        if names:
            table = tables.spool_offsets
            with self._db.begin() as tx:
                tx.execute(delete(table).where(table.c.segment.in_(names)))


def log_repo(pipeline: str, endpoint: str) -> str:
    """The repo of an endpoint's prediction log."""
    return f"{pipeline}/{endpoint}.predictions"


def _reach(read: _Round, segment: Segment, start: int) -> _Reach:
    """Read whole records of a segment, at least one where there is one."""
    limit, stop = max(read.left, 1 << 16), start
    while True:
        data = segment.read(start, limit)
        for record, after in records(data, start):
            read.add(record)
            stop = after
        whole = len(data) < limit  # to the end of the file
        if whole or stop > start:
            break
        limit *= 4  # a single record is longer
    read.left -= len(data)
    ended = segment.final and whole
    torn = start + len(data) - stop
    if ended and torn:
        _log.warning("%s: the last %d bytes are no whole record", segment.path, torn)
    return _Reach(segment=segment, start=start, stop=stop, ended=ended)


def _model_commits(tx: Tx, revisions: set[str]) -> list[str]:
    table = tables.revisions
    rows = tx.execute(select(table.c.commit).where(table.c.id.in_(revisions)).distinct())
    return sorted(row.commit for row in rows if row.commit)


def _segment_row(file: _File, repo: str, commits: dict[str, str]) -> dict[str, object]:
    return {
        "endpoint": file.endpoint,
        "path": file.entry.path,
        "repo": repo,
        "commit": commits[repo],
        "revision": file.revision,
        "global_id": file.global_id,
        "min_id": min(file.columns.ids),
        "max_id": max(file.columns.ids),
        "requests": len(file.columns.ids),
        "rows": file.columns.rows,
        "created_us": now_us(),
    }


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until nobody else collects."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
