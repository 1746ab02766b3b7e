"""The journal: refs, tags and what became of commits, as objects of the store beside the data.

Knows rows and canonical bytes. What a database held can be made again from it (``rebuilding``);
the order of writing and what may be missing at the end stand in design/0013-garbage-collection.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Select, Table, bindparam, select

from clew.db import Tx, metadata
from clew.repos import tables
from clew.store import canonical

TAG = "journal"
VERSION = 1
_BLOCK = 4096
_AT_ONCE = 500

# One row: entries of the ref log up to ``seq`` stand in the store.
shipped = Table(
    "journal",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
)

_log = tables.ref_log
_NEWS: Select[Any] = (
    select(_log).where(_log.c.seq > bindparam("seq")).order_by(_log.c.seq).limit(_BLOCK)
)
_SHIPPED: Select[Any] = select(shipped.c.seq)


def news(tx: Tx) -> tuple[int, bytes] | None:
    """What happened since the last shipping: up to which entry, and the object of it."""
    seq = tx.execute(_SHIPPED).scalar() or 0
    rows = tx.execute(_NEWS, {"seq": seq}).all()
    if not rows:
        return None
    repos = sorted({row.repo for row in rows})
    ids = {id for row in rows for id in (row.old, row.new) if id}
    facts = {
        "to": rows[-1].seq,
        "at_us": rows[-1].at_us,
        "moves": [_move(row) for row in rows],
        "objects": _objects(tx, ids),
        "repos": _repos(tx, repos),
        "branches": _branches(tx, {(row.repo, row.branch) for row in rows if _is_branch(row)}),
        "tags": _tags(tx, {(row.repo, row.branch[5:]) for row in rows if _is_tag(row)}),
        "gone": [*_gone(tx, ids), *_gone_of(tx, repos)],
    }
    return rows[-1].seq, encode(facts)


def told(tx: Tx, seq: int) -> None:
    """Note that entries up to ``seq`` stand in the store."""
    known = tx.execute(_SHIPPED).scalar()
    if known is None or known < seq:
        tx.upsert(shipped, [{"id": 0, "seq": seq}], key=["id"], refresh=["seq"])


def whole(tx: Tx) -> Iterator[bytes]:
    """All that there is to tell, as objects; those of old times come out the same every time."""
    moves: list[list[Any]] = []
    for row in tx.execute(select(_log).order_by(_log.c.seq)):
        if moves and row.seq // _BLOCK != moves[-1][0] // _BLOCK:
            yield encode({"moves": moves})
            moves = []
        moves.append(_move(row))
    last = moves[-1][0] if moves else 0
    yield encode({"moves": moves})
    commits = tables.commits
    known: dict[str, str] = {}
    block = -1
    query = select(commits.c.seq, commits.c.id, commits.c.object).where(commits.c.object != "")
    for row in tx.execute(query.order_by(commits.c.seq)):
        if known and row.seq // _BLOCK != block:
            yield encode({"objects": known})
            known = {}
        block = row.seq // _BLOCK
        known[row.id] = row.object
    yield encode({"objects": known})
    repos = [row.name for row in tx.execute(select(tables.repos.c.name))]
    places = tx.execute(select(tables.branches.c.repo, tables.branches.c.name)).all()
    tags = tx.execute(select(tables.tags.c.repo, tables.tags.c.name)).all()
    yield encode(
        {
            "full": True,
            "to": last,
            "repos": _repos(tx, sorted(repos)),
            "branches": _branches(tx, {(row.repo, row.name) for row in places}),
            "tags": _tags(tx, {(row.repo, row.name) for row in tags}),
        }
    )
    tombs: list[list[Any]] = []
    for row in tx.execute(select(tables.gone).order_by(tables.gone.c.id)):
        tombs.append(list(row))
        if len(tombs) == _BLOCK:
            yield encode({"gone": tombs})
            tombs = []
    yield encode({"gone": tombs})


def encode(facts: dict[str, Any]) -> bytes:
    """The canonical bytes of facts."""
    return canonical({"version": VERSION, **facts})


def _is_tag(row: Any) -> bool:
    return bool(row.branch.startswith("tags/"))


def _is_branch(row: Any) -> bool:
    return bool(row.branch) and not _is_tag(row)


def _move(row: Any) -> list[Any]:
    return [row.seq, row.at_us, row.repo, row.branch, row.old, row.new, row.global_id]


def _objects(tx: Tx, ids: Iterable[str]) -> dict[str, str]:
    commits = tables.commits
    query = select(commits.c.id, commits.c.object)
    found = {}
    for some in _chunks(sorted(ids)):
        for row in tx.execute(query.where(commits.c.id.in_(some), commits.c.object != "")):
            found[row.id] = row.object
    return found


def _repos(tx: Tx, names: Sequence[str]) -> dict[str, Any]:
    """Kind, description and time of making by name; None where there is no such repo now."""
    found: dict[str, Any] = dict.fromkeys(names)
    for some in _chunks(names):
        for row in tx.execute(select(tables.repos).where(tables.repos.c.name.in_(some))):
            found[row.name] = [row.kind, row.description, row.created_us]
    return found


def _branches(tx: Tx, places: Iterable[tuple[str, str]]) -> list[list[Any]]:
    """Repo, name, whether it is there, head."""
    heads: dict[tuple[str, str], str | None] = {}
    wanted = sorted(places)
    table = tables.branches
    for some in _chunks(sorted({repo for repo, _ in wanted})):
        for row in tx.execute(select(table).where(table.c.repo.in_(some))):
            heads[row.repo, row.name] = row.head
    return [[*place, place in heads, heads.get(place)] for place in wanted]


def _tags(tx: Tx, places: Iterable[tuple[str, str]]) -> list[list[Any]]:
    """Repo, name and the row behind them; None where there is no such tag now."""
    rows: dict[tuple[str, str], list[Any]] = {}
    wanted = sorted(places)
    table = tables.tags
    for some in _chunks(sorted({repo for repo, _ in wanted})):
        for row in tx.execute(select(table).where(table.c.repo.in_(some))):
            rows[row.repo, row.name] = [row.commit, row.at_us, row.author, row.message, row.meta]
    return [[*place, rows.get(place)] for place in wanted]


def _gone(tx: Tx, ids: Iterable[str]) -> Iterator[list[Any]]:
    for some in _chunks(sorted(ids)):
        yield from map(list, tx.execute(select(tables.gone).where(tables.gone.c.id.in_(some))))


def _gone_of(tx: Tx, repos: Sequence[str]) -> Iterator[list[Any]]:
    """Tombstones of repos that are no more."""
    deleted = [name for name, fact in _repos(tx, repos).items() if fact is None]
    for some in _chunks(deleted):
        yield from map(list, tx.execute(select(tables.gone).where(tables.gone.c.repo.in_(some))))


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[at : at + _AT_ONCE] for at in range(0, len(items), _AT_ONCE))
