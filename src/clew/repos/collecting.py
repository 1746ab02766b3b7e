"""What of the store repos need, and what each of them takes of it.

Knows rows and roots; how a store collects garbage is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from clew.base.records.keeping import Collected, Usage
from clew.db import Database, Tx
from clew.repos import journal, refs, tables
from clew.repos.uploads import staged_digests
from clew.store import Store, Terms, digest

Roots = Callable[[Tx], Iterable[str]]
"""The digests that the rows of a room name, and that must stay."""

OTHER = "(other)"
"""The name of what no repo holds, but the rows of other rooms."""


def roots(tx: Tx) -> Iterator[str]:
    """Trees and objects of all commits that are there, and parts of files that are being sent."""
    table = tables.commits
    query = select(table.c.tree, table.c.object)
    for row in tx.execute(query.where(table.c.tree != "")):
        yield row.tree
        if row.object:
            yield row.object
    yield from staged_digests(tx)


def collect(db: Database, store: Store, rooms: Sequence[Roots], terms: Terms) -> Collected:
    """Remove from the store what neither repos nor ``rooms`` need.

    The journal is written anew, as few large entries, first: what it was told bit by bit goes.

    Raises:
        Conflict: ``gc.running``.
        Corrupt: ``gc.damaged``.
    """

    def named() -> list[str]:
        with db.read() as tx:
            found = [digest(journal.TAG, payload) for payload in _told(tx, store, terms)]
            found += roots(tx)
            for room in rooms:
                found += room(tx)
            return found

    return store.collect(named, terms)


def _told(tx: Tx, store: Store, terms: Terms) -> Iterator[bytes]:
    """All entries of the journal, in the store by now unless this is a dry run."""
    payloads = list(journal.whole(tx))
    if not terms.dry_run:
        with store.writer(lingers=False) as writer:
            for payload in payloads:
                writer.put_object(journal.TAG, payload)
    yield from payloads


# usage --------------------------------------------------------------------------------------


def usage(db: Database, store: Store, rooms: Sequence[Roots]) -> list[Usage]:
    """What every repo takes, by name; then what rows of other rooms hold besides."""
    with db.read() as tx:
        names = list(
            tx.execute(select(tables.repos.c.name).order_by(tables.repos.c.name)).scalars()
        )
        commits = {name: _rows(tx, tables.commits.c.repo == name) for name in names}
        others = [one for room in rooms for one in room(tx)] + staged_digests(tx)
    groups = {name: _digests(rows) for name, rows in commits.items()} | {OTHER: others}
    sizes = _sizes(store, groups)
    return [_usage(name, commits.get(name, ()), *sizes[name]) for name in groups]


def usage_of(
    db: Database, store: Store, rooms: Sequence[Roots], repo: str, branch: str, id: str
) -> Usage:
    """What one branch (or, with ``id``, one commit) takes; exclusive of all that is elsewhere.

    Of a branch that are the commits that no other branch or tag leads to.
    """
    with db.read() as tx:
        everything = {row.id: row for row in _rows(tx, tables.commits.c.tree != "")}
        if id:
            mine = {id}
            all_of = mine
        else:
            head = refs.branches_of(tx, repo).get(branch)
            all_of = _above(everything, [head])
            mine = all_of - _above(everything, _other_ends(tx, repo, branch))
        held = [one for room in rooms for one in room(tx)] + staged_digests(tx)
    own = [everything[one] for one in all_of if one in everything]
    going = [everything[one] for one in mine if one in everything]
    rest = [row for row in everything.values() if row.id not in mine]
    groups = {"all": _digests(own), "going": _digests(going), "rest": [*_digests(rest), *held]}
    sizes = _sizes(store, groups)
    name = f"{repo}@{id[:8] if id else branch}"
    return _usage(name, own, sizes["all"][0], _alone(store, groups["going"], groups["rest"]))


def _alone(store: Store, mine: Sequence[str], rest: Sequence[str]) -> int:
    marks, others = store.marks(), store.marks()
    marks.add(mine)
    others.add(rest)
    only = marks.keys - others.keys
    return sum(size for key, size in store.sizes() if key in only)


def _rows(tx: Tx, where: Any) -> list[Any]:
    table = tables.commits
    columns = (table.c.id, table.c.parent, table.c.merged, table.c.tree, table.c.object)
    query = select(*columns, table.c.files, table.c.size_bytes)
    return list(tx.execute(query.where(where, table.c.tree != "")))


def _digests(rows: Iterable[Any]) -> list[str]:
    return [one for row in rows for one in (row.tree, row.object) if one]


def _above(commits: Mapping[str, Any], ends: Iterable[str | None]) -> set[str]:
    found: set[str] = set()
    stack = list(ends)
    while stack:
        id = stack.pop()
        if id is None or id in found or id not in commits:
            continue
        found.add(id)
        stack += [commits[id].parent, commits[id].merged]
    return found


def _other_ends(tx: Tx, repo: str, branch: str) -> list[str | None]:
    heads = refs.branches_of(tx, repo)
    tags = tx.execute(select(tables.tags.c.commit).where(tables.tags.c.repo == repo)).scalars()
    return [*(head for name, head in heads.items() if name != branch), *tags]


def _sizes(store: Store, groups: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Stored and exclusive bytes of each group."""
    owners: dict[bytes, list[str]] = {}
    for name, digests in groups.items():
        marks = store.marks()
        marks.add(digests)
        for key in marks.keys:
            owners.setdefault(key, []).append(name)
    stored = dict.fromkeys(groups, 0)
    exclusive = dict.fromkeys(groups, 0)
    for key, size_bytes in store.sizes():
        names = owners.get(key, ())
        for name in names:
            stored[name] += size_bytes
        if len(names) == 1:
            exclusive[names[0]] += size_bytes
    return {name: (stored[name], exclusive[name]) for name in groups}


def _usage(name: str, rows: Sequence[Any], stored: int, exclusive: int) -> Usage:
    return Usage(
        name=name,
        commits=len(rows),
        files=sum(row.files for row in rows),
        logical_bytes=sum(row.size_bytes for row in rows),
        stored_bytes=stored,
        exclusive_bytes=exclusive,
    )
