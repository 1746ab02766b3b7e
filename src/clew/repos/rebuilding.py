"""The rows of repos made again from the store: commit objects, and the journal beside them.

Knows the database that it fills is empty. What the end of the journal may lack, and which commits
are taken although nothing confirms them, stands in design/0013-garbage-collection.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct, field
from sqlalchemy import select

from clew.base import clock
from clew.base.errors import Conflict, Corrupt, NotFound
from clew.base.records import Commit
from clew.base.records.keeping import Rebuilt
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.repos import journal, tables, writing
from clew.store import EMPTY_TREE, Store

_SLACK_US = 60_000_000
"""A transaction may have been committed so long after the commit that it holds was written."""

_LOST = (
    "commits that were open or aborted, and uploads that were not whole",
    "pipelines, jobs and what is remembered of datums: apply again, and steps run once more",
    "experiments, model versions, aliases and verdicts: their commits are there",
    "endpoints, revisions, drift reports, triggers and events",
)


def rebuild(db: Database, store: Store) -> Rebuilt:
    """Fill the tables of repos, and the lineage of commits, from a store. One transaction.

    Raises:
        Conflict: ``rebuild.not_empty`` where there are repos already.
        Corrupt: ``journal.corrupt`` for an entry that this version cannot read.
    """
    found = _read(store)
    taken, left_out = _take_unconfirmed(found)
    with db.begin() as tx:
        if tx.execute(select(tables.repos.c.name)).first() is not None:
            raise Conflict(
                "rebuild.not_empty",
                "This database holds repos already.",
                hint="Move it away first: a rebuild starts from nothing.",
            )
        commits = _fill(tx, store, Lineage(db), found)
    return Rebuilt(
        repos=len(found.repos),
        branches=len(found.heads),
        commits=commits,
        tags=len(found.tags),
        unconfirmed=tuple(taken),
        left_out=tuple(left_out),
        lost=(*found.damaged, *_LOST),
    )


class _Found(Struct):
    """What the store tells."""

    moves: dict[int, list[Any]] = field(default_factory=dict)
    objects: dict[str, set[str]] = field(default_factory=dict)
    repos: dict[str, list[Any]] = field(default_factory=dict)
    heads: dict[tuple[str, str], str | None] = field(default_factory=dict)
    tags: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    gone: dict[str, list[Any]] = field(default_factory=dict)
    commits: dict[str, tuple[Commit, str]] = field(default_factory=dict)
    loose: list[tuple[Commit, str]] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    horizon_us: int = 0


def _read(store: Store) -> _Found:
    found = _Found()
    entries = []
    for digest in store.objects(journal.TAG):
        try:
            entries.append(_decode(digest, store.read(digest)))
        except (Corrupt, NotFound) as error:
            if error.code == "journal.corrupt":
                raise
            found.damaged.append(f"an entry of the journal: {error.message}")
    for facts in sorted(entries, key=lambda facts: facts.get("to", 0)):
        _learn(found, facts)
    for id in found.gone:
        found.objects.pop(id, None)
    _read_commits(found, store)
    _settle(found)
    return found


def _decode(digest: str, payload: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.msgpack.decode(payload)
    if facts.get("version") != journal.VERSION:
        raise Corrupt(
            "journal.corrupt",
            f"{digest} is no entry of the journal that this version of Clew can read.",
            hint="Upgrade Clew, then rebuild.",
        )
    return facts


def _learn(found: _Found, facts: dict[str, Any]) -> None:
    """Take in an entry; entries come in the order of the states that they tell of."""
    found.moves.update((move[0], move) for move in facts.get("moves", ()))
    for id, digest in facts.get("objects", {}).items():
        found.objects.setdefault(id, set()).add(digest)
    if facts.get("full"):
        found.repos, found.heads, found.tags = {}, {}, {}
    for name, fact in facts.get("repos", {}).items():
        if fact is None:
            found.repos.pop(name, None)
        else:
            found.repos[name] = fact
    for repo, name, there, head in facts.get("branches", ()):
        if there:
            found.heads[repo, name] = head
        else:
            found.heads.pop((repo, name), None)
    for repo, name, row in facts.get("tags", ()):
        if row is None:
            found.tags.pop((repo, name), None)
        else:
            found.tags[repo, name] = row
    found.gone.update((row[0], row) for row in facts.get("gone", ()))
    found.horizon_us = max(found.horizon_us, facts.get("at_us", 0))


def _read_commits(found: _Found, store: Store) -> None:
    """The commits that the journal names, each by the last object of it, and all others."""
    by_digest = {digest: id for id, digests in found.objects.items() for digest in digests}
    best: dict[str, tuple[int, Commit, str]] = {}
    for digest in sorted({*store.objects(writing.OBJECT_TAG), *by_digest}):
        try:
            written_us, commit = _commit_of(msgspec.msgpack.decode(store.read(digest)))
        except (Corrupt, NotFound, KeyError) as error:
            if digest in by_digest:
                found.damaged.append(f"commit {by_digest[digest]}: {error}")
            continue
        if digest not in by_digest:
            if commit.id not in found.objects and commit.id not in found.gone:
                found.loose.append((commit, digest))
        elif commit.id not in best or best[commit.id][0] < written_us:
            best[commit.id] = (written_us, commit, digest)
    found.commits = {id: (commit, digest) for id, (_, commit, digest) in best.items()}


def _commit_of(kept: dict[str, Any]) -> tuple[int, Commit]:
    started, finished = clock.from_us(kept["started_us"]), clock.from_us(kept["finished_us"])
    commit = Commit(
        id=kept["id"],
        repo=kept["repo"],
        branch=kept["branch"],
        global_id=kept["global_id"],
        parent=kept["parent"],
        state="finished",
        tree=kept["tree"],
        message=kept["message"],
        author=kept["author"],
        provenance=tuple(kept["provenance"]),
        files=0,
        size_bytes=0,
        started_at=started,
        finished_at=finished,
        merged=kept.get("merged"),
        meta=kept.get("meta", {}),
    )
    return kept.get("written_us", kept["finished_us"]), commit


def _settle(found: _Found) -> None:
    """Drop what belongs to repos that are no more, and names of what is not there."""
    found.commits = {id: pair for id, pair in found.commits.items() if pair[0].repo in found.repos}
    found.heads = {
        place: head if head in found.commits else None
        for place, head in found.heads.items()
        if place[0] in found.repos
    }
    found.tags = {
        place: row
        for place, row in found.tags.items()
        if place[0] in found.repos and row[0] in found.commits
    }


def _take_unconfirmed(found: _Found) -> tuple[list[str], list[str]]:
    """Commits at the end that nothing confirms.

    Those that go on from a head become the history of its branch: of several ways the longest, then
    the latest. The others, whose transaction must have failed or come in between, are kept beside.
    """
    loose = _last_written(found)
    taken: list[str] = []
    children = {commit.parent for commit, _ in loose.values()}
    places = {(commit.repo, commit.branch) for commit, _ in loose.values()}
    for place in sorted(places):
        ends = [one for one, _ in loose.values() if (one.repo, one.branch) == place]
        ways = [_way(found, loose, end) for end in ends if end.id not in children]
        best = max(ways, key=lambda way: (len(way), _when(way[-1]) if way else 0), default=[])
        if best:
            found.heads[place] = best[-1].id
            taken += [commit.id for commit in best]
    beside = []
    for id, (commit, digest) in loose.items():
        found.repos.setdefault(commit.repo, ["source", "", _when(commit)])
        found.commits[id] = (commit, digest)
        if id not in taken:
            beside.append(id)
    return sorted(taken, key=lambda id: _when(loose[id][0])), sorted(beside)


def _last_written(found: _Found) -> dict[str, tuple[Commit, str]]:
    """Loose commits young enough to have been committed unseen; of each the last attempt."""
    loose: dict[str, tuple[Commit, str]] = {}
    for commit, digest in sorted(found.loose, key=lambda pair: _when(pair[0])):
        if _when(commit) >= found.horizon_us - _SLACK_US:
            loose[commit.id] = (commit, digest)
    return loose


def _way(found: _Found, loose: dict[str, tuple[Commit, str]], end: Commit) -> list[Commit]:
    """From the head of a branch to a loose commit, the head left out; empty where none leads."""
    way = [end]
    head = found.heads.get((end.repo, end.branch))
    while way[0].parent != head:
        above = loose.get(way[0].parent or "")
        if above is None:
            return []
        way.insert(0, above[0])
    return way


def _when(commit: Commit) -> int:
    return clock.to_us(commit.finished_at or commit.started_at)


# rows ---------------------------------------------------------------------------------------


def _fill(tx: Tx, store: Store, lineage: Lineage, found: _Found) -> int:
    for name, (kind, description, created_us) in sorted(found.repos.items()):
        row = {"name": name, "kind": kind, "description": description, "created_us": created_us}
        tx.execute(tables.repos.insert(), row)
    count = 0
    for commit, digest in _ordered(found):
        try:
            summary = store.summary(commit.tree)
        except (Corrupt, NotFound) as error:
            found.damaged.append(f"the files of commit {commit.id}: {error.message}")
            summary = store.summary(EMPTY_TREE)
        writing.restore(tx, lineage, commit, digest, summary)
        count += 1
    branches = [
        {"repo": repo, "name": name, "head": head}
        for (repo, name), head in sorted(found.heads.items())
    ]
    if branches:
        tx.execute(tables.branches.insert(), branches)
    for (repo, name), (commit_id, at_us, author, message, meta) in sorted(found.tags.items()):
        values = {"commit": commit_id, "at_us": at_us, "author": author}
        row = {"repo": repo, "name": name, "message": message, "meta": meta, **values}
        tx.execute(tables.tags.insert(), row)
    names = [column.name for column in tables.gone.columns]
    for tomb in found.gone.values():
        tx.execute(tables.gone.insert(), dict(zip(names, tomb, strict=True)))
    names = [column.name for column in tables.ref_log.columns]
    for _, move in sorted(found.moves.items()):
        tx.execute(tables.ref_log.insert(), dict(zip(names, move, strict=True)))
    tx.go_on_from(tables.ref_log.c.seq)
    if found.moves:
        journal.told(tx, max(found.moves))
    for commit, _ in _ordered(found):
        if commit.id not in found.objects:
            writing.note_move(
                tx, commit.repo, commit.branch, commit.parent, commit.id, commit.global_id
            )
    return count


def _ordered(found: _Found) -> Iterator[tuple[Commit, str]]:
    """Parents before children: they are earlier."""
    yield from sorted(found.commits.values(), key=lambda pair: (_when(pair[0]), pair[0].id))
