"""Cron inputs: at each instant of a schedule a file is committed to its repo.

Knows schedules, repos and definitions; that a commit makes jobs is not its doing. What it did is
written in its commits alone, so that it is never forgotten, nor done twice.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from clew.base import clock
from clew.base.records import Commit
from clew.db import Database
from clew.pipelines import tables
from clew.pipelines.definitions import SourceDefinition
from clew.pipelines.registry import Registry
from clew.repos import RepoChange, Repos

TICK = "clew.tick"
SCHEDULE = "clew.schedule"
_LOOKED_THROUGH = 200
"""So many commits are looked at for the last tick; others may commit to the repo too."""


class Ticks:
    """Commits what is due. Thread-safe.

    One tick for an instant, however many engines there are and whenever they die: a tick is a file
    with the name and the content of its instant, and a commit that changes nothing is none.
    """

    def __init__(self, db: Database, repos: Repos, registry: Registry) -> None:
        self._db = db
        self._repos = repos
        self._registry = registry
        self._lock = threading.Lock()
        self._next: dict[SourceDefinition, datetime | None] = {}

    def tick(self, now: datetime | None = None) -> bool:
        """Commit what is due at a time (by default: the present); whether there was anything."""
        now = now or clock.now()
        with self._lock:
            with self._db.read() as tx:
                sources = [
                    (name, one)
                    for name, pipeline in self._registry.graph(tx).pipelines.items()
                    for one in pipeline.sources
                    if one.cron is not None
                ]
            self._next = {one: self._next[one] for _, one in sources if one in self._next}
            done = [self._tick(name, one, now) for name, one in sources if self._may(one, now)]
            return any(done)

    def next(self, source: SourceDefinition) -> datetime | None:
        """When a source gets its next file, as far as was looked."""
        with self._lock:
            return self._next.get(source)

    def _may(self, source: SourceDefinition, now: datetime) -> bool:
        if source not in self._next:
            return True
        due = self._next[source]
        return due is not None and due <= now

    def _tick(self, pipeline: str, source: SourceDefinition, now: datetime) -> bool:
        assert source.cron is not None
        last, since = self._last(pipeline, source)
        due = source.cron.due(since, now)
        made = due is not None and self._commit(source, due, last)
        self._next[source] = source.cron.next(now)
        return made

    def _last(self, pipeline: str, source: SourceDefinition) -> tuple[datetime | None, datetime]:
        """The last tick, and the time behind which instants count.

        A schedule counts from when it was defined: the first from when its repo was made.
        """
        log: Sequence[Commit] = ()
        if self._repos.head(source.repo, source.branch) is not None:
            log = self._repos.log(source.repo, source.branch, limit=_LOOKED_THROUGH)
        last = next((one for one in log if one.state == "finished" and TICK in one.meta), None)
        if last is None:
            return None, self._repos.get(source.repo).created_at
        at = datetime.fromisoformat(last.meta[TICK])
        if last.meta.get(SCHEDULE) == _told(source):
            return at, at
        with self._db.read() as tx:
            defined = tx.execute(tables.CURRENT, {"name": pipeline}).one().created_us
        return at, max(at, clock.from_us(defined))

    def _commit(self, source: SourceDefinition, at: datetime, last: datetime | None) -> bool:
        content = {"at": _iso(at), "previous": _iso(last) if last else None}
        head = self._repos.head(source.repo, source.branch)
        made = self._repos.commit_many(
            [self._change(source, at, json.dumps(content).encode())],
            message=f"{source.name}: {_iso(at)}",
            author="clew",
            meta={TICK: _iso(at), SCHEDULE: _told(source)},
            only_changes=True,
        )[0]
        return head is None or made.id != head.id

    def _change(self, source: SourceDefinition, at: datetime, content: bytes) -> RepoChange:
        path = f"/{at.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}.json"
        return RepoChange(
            repo=source.repo,
            branch=source.branch,
            puts={path: content},
            replace=source.overwrite,
        )


def _told(source: SourceDefinition) -> str:
    assert source.cron is not None
    return f"{source.cron.text} {source.cron.zone}"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
