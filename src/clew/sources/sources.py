"""The room of sources: where each has got to, and its next increment as a commit, exactly once.

Knows repos and rows; how each kind is read is in the file of that kind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import delete, update

from clew.base.errors import ClewError, Conflict, Invalid, NotFound, NotReady
from clew.base.records import Commit
from clew.base.records.feeds import SourceInfo
from clew.db import Database, Tx
from clew.repos import Repos
from clew.sources import tables
from clew.sources.definitions import FeedDefinition
from clew.sources.describing import identity_of, info_of
from clew.sources.reading import Clock, Increment, Place, Reader, Surroundings
from clew.sources.webhooks import Delivery, check_sender, receive

_READERS = {
    "database": ("databases", "DatabaseReader"),
    "directory": ("directories", "DirectoryReader"),
    "bucket": ("buckets", "BucketReader"),
    "webhook": ("webhooks", "WebhookReader"),
    "redis": ("redis_streams", "RedisReader"),
    "kafka": ("kafka_topics", "KafkaReader"),
}
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 300.0
_CHUNK = 500


class Sources:
    """Sources of a workspace. Thread-safe; several processes may poll the same source.

    A commit and the position behind it appear in one transaction, and the position only moves from
    the one that was read: whatever dies when, and whoever else polls, each item is committed once.
    """

    def __init__(
        self,
        db: Database,
        repos: Repos,
        scratch: Path,
        *,
        root: Path,
        secret: Callable[[str], str] = lambda text: text,
        clock: Clock | None = None,
    ) -> None:
        self._db = db
        self._repos = repos
        self._secret = secret
        self._clock = clock or Clock()
        self._around = Surroundings(
            secret=secret, read=db.read, scratch=scratch, clock=self._clock, root=root
        )
        self._readers: dict[str, tuple[FeedDefinition, Reader]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._mutex = threading.Lock()

    # definitions ----------------------------------------------------------------------------

    def define(self, tx: Tx, pipeline: str, definitions: Sequence[FeedDefinition]) -> None:
        """Make these the sources of a pipeline that commit by themselves; others of it go.

        Where a source reads the same place as before it goes on where it was.
        """
        table = tables.feeds
        wanted = {one.name: one for one in definitions}
        for row in tx.execute(tables.ALL.where(table.c.pipeline == pipeline)).all():
            if row.name not in wanted:
                tx.execute(delete(table).where(table.c.name == row.name))
                self._forget(tx, row.name)
        for name, definition in wanted.items():
            known = tx.execute(tables.ONE, {"name": name}).first()
            identity = identity_of(definition)
            if known is None:
                tx.execute(table.insert(), _new_row(definition, identity))
                continue
            values: dict[str, Any] = {"definition": definition, "due_us": 0}
            if known.identity != identity:
                self._forget(tx, name)
                values |= {"identity": identity, "version": known.version + 1}
                values["position"] = {"number": known.position.get("number", 0)}
            tx.execute(update(table).where(table.c.name == name).values(**values))

    def list(self) -> Sequence[SourceInfo]:
        """All sources, by name."""
        with self._db.read() as tx:
            return [info_of(row) for row in tx.execute(tables.ALL)]

    def get(self, name: str) -> SourceInfo:
        """One source, by its name or, where that is clear, its last part.

        Raises NotFound ``source.unknown``.
        """
        with self._db.read() as tx:
            return info_of(self._row(tx, name))

    def pause(self, name: str, *, paused: bool = True) -> SourceInfo:
        """Poll it no more, until it is resumed; webhooks go on to be received, and wait."""
        with self._db.begin() as tx:
            row = self._row(tx, name)
            state = "paused" if paused else "waiting"
            if (row.state == "paused") != paused:
                values = {"state": state, "due_us": 0, "failures": 0}
                tx.execute(
                    update(tables.feeds).where(tables.feeds.c.name == row.name).values(values)
                )
                tx.emit(
                    "source.paused" if paused else "source.resumed",
                    subject=row.name,
                    data={"pipeline": row.pipeline},
                )
            return info_of(self._row(tx, row.name))

    def receive(
        self, name: str, body: bytes, headers: Mapping[str, str], *, trusted: bool
    ) -> tuple[str, Delivery]:
        """Keep what was posted to a webhook, durably; the name of the source, and what became.

        Raises:
            NotFound: ``source.unknown``.
            Denied: ``hook.denied``.
            Invalid: ``hook.too_large``, ``hook.key``, ``source.kind``.
        """
        plain = {key.lower(): value for key, value in headers.items()}
        with self._db.read() as tx:
            definition = _definition(self._row(tx, name))
        if definition.feed.kind != "webhook":
            raise Invalid(
                "source.kind",
                f"{definition.name} is a {definition.feed.kind}, not a webhook.",
                hint="Give the source clew.webhook() to receive requests.",
            )
        check_sender(definition, body, plain, self._secret, trusted=trusted)
        with self._db.begin() as tx:
            return definition.name, receive(tx, definition, body, plain)

    # polling --------------------------------------------------------------------------------

    def poll(self, name: str, *, most: int = 1000) -> Sequence[Commit]:
        """Read one source now until nothing more is there; the commits that came of it.

        What it raises is also kept with the source. Raises Conflict ``source.paused``.
        """
        with self._db.read() as tx:
            row = self._row(tx, name)
        if row.state == "paused":
            raise Conflict(
                "source.paused",
                f"The source {row.name} is paused.",
                hint=f"Resume it: clew source {row.name} --resume",
            )
        commits: list[Commit] = []
        for _ in range(most):
            commit, more = self.turn(row.name)
            commits += [commit] if commit else []
            if not more:
                break
        return commits

    def turn(
        self, name: str, stop: Callable[[], bool] = lambda: False
    ) -> tuple[Commit | None, bool]:
        """Read one increment and commit it; the commit, and whether there is more at once.

        An error is kept in the row, with the time of the next try, and raised.
        """
        with self._alone(name):
            with self._db.read() as tx:
                row = tx.execute(tables.ONE, {"name": name}).first()
            if row is None:
                return None, False
            try:
                reader = self._reader(row)
                increment = reader.read(self._place(row), stop)
                commit = None if increment is None else self._commit(row, increment)
                if increment is not None:
                    with self._db.read() as tx:
                        moved = tx.execute(tables.ONE, {"name": name}).one()
                    reader.committed(moved.position)
            except Conflict as error:
                if error.code != "source.moved":
                    self._failed(row, error)
                    raise
                return None, True  # another process was first: look again
            except NotReady:
                return None, False
            except ClewError as error:
                self._failed(row, error)
                raise
            self._polled(row, reader, commit)
            return commit, bool(increment and increment.more)

    def due(self) -> Sequence[tuple[str, float]]:
        """Sources that are not paused, and in how many seconds each is to be looked at."""
        now_us = self._clock.now_us()
        with self._db.read() as tx:
            rows = tx.execute(tables.ALL.where(tables.feeds.c.state != "paused")).all()
        return [(row.name, max(0.0, (row.due_us - now_us) / 1e6)) for row in rows]

    def wait(self, name: str, timeout_s: float, stopped: Callable[[float], bool]) -> bool:
        """Wait for something to read; whether it was stopped."""
        with self._mutex:
            found = self._readers.get(name)
        return stopped(timeout_s) if found is None else found[1].wait(timeout_s, stopped)

    def leave(self, name: str) -> None:
        """Let go of what reading one source has opened."""
        with self._alone(name):
            with self._mutex:
                found = self._readers.pop(name, None)
            if found is not None:
                found[1].close()

    def close(self) -> None:
        """Let go of everything that is open."""
        for name in list(self._readers):
            self.leave(name)

    # ----------------------------------------------------------------------------------------

    def _commit(self, row: Any, increment: Increment) -> Commit | None:
        definition = _definition(row)
        puts, deletes = dict(increment.puts), self._there(definition, increment.deletes)
        if not puts and not deletes:
            with self._db.begin() as tx:
                self._move(tx, row, increment, None)
            return None
        made: list[Commit] = []

        def within(tx: Tx, commits: Sequence[Commit]) -> None:
            self._move(tx, row, increment, commits[0])
            made.extend(commits)

        try:
            commit = self._repos.commit(
                definition.repo,
                puts,
                deletes,
                branch=definition.branch,
                message=increment.message,
                author=f"source {definition.name}",
                meta={"source": definition.name},
                only_changes=True,
                within=within,
            )
        except NotFound as error:
            if error.code in {"file.missing", "file.unknown"}:
                raise NotReady("source.unsettled", f"A file went while it was read: {error}") from (
                    error
                )
            raise
        if made:
            return commit
        with self._db.begin() as tx:  # the repo holds all of it: only the position moves
            self._move(tx, row, increment, None)
        return None

    def _move(self, tx: Tx, row: Any, increment: Increment, commit: Commit | None) -> None:
        """Move the position, with its marks; raises Conflict ``source.moved`` if another did."""
        values = {
            "name_": row.name,
            "version_": row.version,
            "position_": increment.position,
            "commits_": 1 if commit else 0,
            "items_": increment.items,
            "bytes_": increment.size_bytes,
        }
        if tx.execute(tables.MOVED, values).rowcount != 1:
            raise Conflict("source.moved", f"Another process read {row.name} at the same time.")
        increment.check(tx)
        table = tables.feed_marks
        gone = list(increment.unmarked)
        for start in range(0, len(gone), _CHUNK):
            part = gone[start : start + _CHUNK]
            tx.execute(delete(table).where(table.c.feed == row.name, table.c.item.in_(part)))
        marks = [
            {"feed": row.name, "item": item, "mark": mark}
            for item, mark in increment.marked.items()
        ]
        tx.upsert(table, marks, key=["feed", "item"], refresh=["mark"])
        if commit is not None:
            data = {"pipeline": row.pipeline, "repo": commit.repo, "branch": commit.branch}
            data |= {"commit": commit.id, "items": increment.items}
            tx.emit(
                "source.committed",
                subject=row.name,
                global_id=commit.global_id,
                data={**data, "size_bytes": increment.size_bytes},
            )

    def _there(self, definition: FeedDefinition, paths: Sequence[str]) -> Sequence[str]:
        """Of paths that are to go those that the branch holds."""
        if not paths:
            return []
        head = self._repos.head(definition.repo, definition.branch)
        found = []
        for path in paths if head is not None else ():
            with suppress(NotFound):
                self._repos.get_file(head, path)  # type: ignore[arg-type]  # not None in this loop
                found.append(path)
        return found

    def _place(self, row: Any) -> Place:
        def marks() -> dict[str, str]:
            with self._db.read() as tx:
                found = tx.execute(tables.MARKS, {"feed": row.name})
                return {one.item: one.mark for one in found}

        return Place(position=row.position, marks=marks)

    def _reader(self, row: Any) -> Reader:
        definition = _definition(row)
        with self._mutex:
            known = self._readers.get(row.name)
        if known is not None and known[0] == definition:
            return known[1]
        if known is not None:
            known[1].close()
        file, name = _READERS[definition.feed.kind]
        make = getattr(import_module(f"clew.sources.{file}"), name)
        reader: Reader = make(definition.name, definition.feed, self._around)
        with self._mutex:
            self._readers[row.name] = (definition, reader)
        reader.committed(row.position)
        return reader

    def _polled(self, row: Any, reader: Reader, commit: Commit | None) -> None:
        now_us = self._clock.now_us()
        standing = reader.standing()
        every_s = _definition(row).feed.every_s
        values: dict[str, Any] = {
            "polled_us": now_us,
            "due_us": now_us + round(every_s * 1e6),
            "lag": standing.lag,
            "note": standing.note,
            "failures": 0,
            "error": "",
            "error_code": "",
        }
        if commit is not None:
            values |= {"committed_us": now_us, "commit_id": commit.id}
        quiet = commit is None and not row.failures and row.state == "waiting"
        recently = row.polled_us is not None and now_us - row.polled_us < 1_000_000
        if quiet and recently and (row.lag, row.note) == (standing.lag, standing.note):
            return  # a queue that is silent is looked at many times a second
        table = tables.feeds
        with self._db.begin() as tx:
            tx.execute(update(table).where(table.c.name == row.name).values(**values))
            waiting = update(table).where(table.c.name == row.name, table.c.state != "paused")
            tx.execute(waiting.values(state="waiting"))
            if row.failures:
                tx.emit("source.recovered", subject=row.name, data={"pipeline": row.pipeline})

    def _failed(self, row: Any, error: ClewError) -> None:
        now_us = self._clock.now_us()
        wait_s = min(_FIRST_RETRY_S * 2 ** min(row.failures, 20), _LAST_RETRY_S)
        values = {
            "failures": row.failures + 1,
            "error": str(error),
            "error_code": error.code,
            "polled_us": now_us,
            "due_us": now_us + round(wait_s * 1e6),
        }
        table = tables.feeds
        with self._db.begin() as tx:
            tx.execute(update(table).where(table.c.name == row.name).values(**values))
            failing = update(table).where(table.c.name == row.name, table.c.state != "paused")
            tx.execute(failing.values(state="failing"))
            if not row.failures:
                data = {"pipeline": row.pipeline, "code": error.code, "error": str(error)}
                tx.emit("source.failed", subject=row.name, data=data)

    def _row(self, tx: Tx, name: str) -> Any:
        row = tx.execute(tables.ONE, {"name": name}).first()
        if row is not None:
            return row
        names = [one.name for one in tx.execute(tables.ALL)]
        ends = [one for one in names if one.rpartition("/")[2] == name]
        if len(ends) == 1:
            return tx.execute(tables.ONE, {"name": ends[0]}).one()
        near = ends or get_close_matches(name, names, 3, 0.5)
        known = ", ".join(names[:5]) or "none yet"
        raise NotFound(
            "source.unknown",
            f"There is no source {name!r} that commits by itself.",
            hint=f"Did you mean {' or '.join(near)}?" if near else f"There are: {known}.",
        )

    def _forget(self, tx: Tx, name: str) -> None:
        tx.execute(delete(tables.feed_marks).where(tables.feed_marks.c.feed == name))

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with self._mutex:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            yield


def _definition(row: Any) -> FeedDefinition:
    return msgspec.convert(row.definition, FeedDefinition)


def _new_row(definition: FeedDefinition, identity: str) -> dict[str, Any]:
    return {
        "name": definition.name,
        "pipeline": definition.pipeline,
        "definition": definition,
        "identity": identity,
        "position": {},
        "version": 0,
        "state": "waiting",
        "commits": 0,
        "items": 0,
        "size_bytes": 0,
        "note": "",
        "error": "",
        "error_code": "",
        "failures": 0,
        "due_us": 0,
    }
