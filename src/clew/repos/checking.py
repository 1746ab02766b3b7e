"""fsck: bytes, trees, commits, refs and their log, beside writers; and mending what can be mended.

Knows rows and the store. It changes nothing unless it is asked to, and then only what loses
nothing: what cannot be mended it names, with the commits and paths that it hits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import select, update

from clew.base.records import Commit
from clew.base.records.keeping import Checkup, Problem
from clew.db import Database, Tx
from clew.repos import refs, tables, writing
from clew.repos.collecting import Roots
from clew.store import Sound, Store

_NAMED = 20
Seen = Callable[[int, int], None]
"""Told how many bytes were read, of how many."""

_RESTORE = "Restore the store from a backup, or put these files again; then run clew fsck."


class _Rows(Struct):
    """What the database says, at one moment."""

    commits: list[Any]
    heads: list[Any]
    tags: list[Any]
    moves: dict[tuple[str, str], Any]
    others: list[str]


def check(
    db: Database,
    store: Store,
    rooms: Sequence[Roots],
    *,
    repair: bool = False,
    seen: Seen = lambda _done, _total: None,
) -> Checkup:
    """Verify everything. With ``repair`` what can be mended is, and what is left is told.

    Raises:
        Conflict: ``gc.running`` where something is to be mended and another process collects.
    """
    first = _check(db, store, rooms, seen)
    if not repair or not first.problems:
        return first
    done = _mend(db, store, rooms, first)
    again = _check(db, store, rooms, seen)
    left = {(one.code, one.message) for one in again.problems}
    mended = [
        replace(one, repaired=done.get(one.code, "mended"))
        for one in first.problems
        if (one.code, one.message) not in left
    ]
    return replace(again, problems=(*mended, *again.problems))


def _check(db: Database, store: Store, rooms: Sequence[Roots], seen: Seen) -> Checkup:
    with store.lease():  # what rows name now is not collected before this has looked at it
        rows = _read(db, rooms)
        examined = store.examine(seen)
        sound = store.sound(examined)
        problems = [
            *(
                Problem(code=fault.code, message=fault.message, hint=fault.hint)
                for fault in examined.faults
            ),
            *_of_commits(rows, sound),
            *_of_others(rows, sound),
            *_of_objects(store, rows, sound),
            *_of_refs(rows),
        ]
    return Checkup(
        packs=examined.packs,
        objects=examined.objects,
        size_bytes=examined.size_bytes,
        commits=len(rows.commits),
        refs=len(rows.heads) + len(rows.tags),
        problems=tuple(problems),
    )


def _read(db: Database, rooms: Sequence[Roots]) -> _Rows:
    with db.read() as tx:
        commits = tx.execute(select(tables.commits).where(tables.commits.c.tree != "")).all()
        moves: dict[tuple[str, str], Any] = {}
        for row in tx.execute(select(tables.ref_log).order_by(tables.ref_log.c.seq)):
            moves[row.repo, row.branch] = row
        return _Rows(
            commits=list(commits),
            heads=list(tx.execute(select(tables.branches))),
            tags=list(tx.execute(select(tables.tags))),
            moves=moves,
            others=[one for room in rooms for one in room(tx)],
        )


# content ------------------------------------------------------------------------------------


def _of_commits(rows: _Rows, sound: Sound) -> Iterator[Problem]:
    hit = [row for row in rows.commits if not sound.whole(row.tree)]
    if not hit:
        return
    paths: list[str] = []
    for row in hit:
        for path in sound.broken(row.tree):
            paths.append(f"{row.repo}@{row.id}:{path}")
            if len(paths) >= _NAMED:
                break
    yield Problem(
        code="commit.damaged",
        message=f"{len(hit)} commits cannot be read whole: bytes of their files are not there.",
        hint=_RESTORE,
        commits=tuple(row.id for row in hit),
        paths=tuple(paths[:_NAMED]),
    )


def _of_others(rows: _Rows, sound: Sound) -> Iterator[Problem]:
    for digest in sorted({one for one in rows.others if not sound.whole(one)}):
        yield Problem(
            code="row.damaged",
            message=f"A row of another room names {digest}, which is not whole.",
            hint="Run the step that made it once more (clew run), or restore the store.",
        )


def _of_objects(store: Store, rows: _Rows, sound: Sound) -> Iterator[Problem]:
    """Commit objects: there, and saying what the rows say."""
    for row in rows.commits:
        if not row.object:
            continue
        if not sound.there(row.object):
            yield Problem(
                code="commit.object",
                message=f"The object of commit {row.id} of {row.repo} is not in the store.",
                hint="`clew fsck --repair` writes it again from its row.",
                commits=(row.id,),
            )
            continue
        kept = msgspec.msgpack.decode(store.read(row.object))
        wrong = [
            n for n in ("id", "repo", "branch", "parent", "tree") if kept[n] != getattr(row, n)
        ]
        if wrong:
            yield Problem(
                code="commit.row",
                message=f"The row of commit {row.id} differs from its object: {', '.join(wrong)}.",
                hint="Keep the store, move clew.db away, and run: clew rebuild",
                commits=(row.id,),
            )


# refs ---------------------------------------------------------------------------------------


def _of_refs(rows: _Rows) -> Iterator[Problem]:
    finished = {row.id: row for row in rows.commits if row.state == "finished"}
    for row in rows.commits:
        if row.parent is not None and row.parent not in finished:
            yield Problem(
                code="commit.parent",
                message=f"The parent {row.parent} of commit {row.id} of {row.repo} is not there.",
                hint="Keep the store, move clew.db away, and run: clew rebuild",
                commits=(row.id,),
            )
    for head in rows.heads:
        yield from _of_head(head, finished, rows.moves.get((head.repo, head.name)))
    for tag in rows.tags:
        named = finished.get(tag.commit)
        if named is None or named.repo != tag.repo:
            yield Problem(
                code="tag.dangling",
                message=f"The tag {tag.name} of {tag.repo} names {tag.commit}, which is not there.",
                hint="Name another commit: clew tag",
            )


def _of_head(head: Any, finished: dict[str, Any], last: Any) -> Iterator[Problem]:
    place = f"{head.repo}@{head.name}"
    named = finished.get(head.head)
    if head.head is not None and (named is None or named.repo != head.repo):
        yield Problem(
            code="ref.dangling",
            message=f"The head {head.head} of {place} is not a finished commit of the repo.",
            hint="`clew fsck --repair` puts it back to what the ref log says.",
        )
    elif last is not None and last.new != head.head:
        yield Problem(
            code="ref.log",
            message=f"{place} stands on {head.head}, but the ref log last moved it to {last.new}.",
            hint="`clew fsck --repair` puts it back to what the ref log says.",
        )


# mending ------------------------------------------------------------------------------------


def _mend(db: Database, store: Store, rooms: Sequence[Roots], found: Checkup) -> dict[str, str]:
    """Do what loses nothing; in words what was done, by code of problem."""
    done: dict[str, str] = {}
    with store.lease():
        damaged = sorted({fault.pack for fault in store.examine().faults if fault.pack})
        if damaged:
            store.salvage(damaged)
            spare = _all_whole(db, store, rooms, damaged)
            store.discard(damaged, keep_bytes=not spare)
            rest = "nothing else was in use" if spare else "the rest is kept aside (.spoilt)"
            for code in ("pack.corrupt", "pack.record", "object.corrupt"):
                done[code] = f"what is good was written anew; {rest}"
        codes = {one.code for one in found.problems}
        if "commit.object" in codes:
            _write_objects(db, store, found)
            done["commit.object"] = "written again from the row"
        if codes & {"ref.dangling", "ref.log"}:
            with db.begin() as tx:
                _put_back(tx)
            done["ref.dangling"] = done["ref.log"] = "put back to what the ref log says"
    return done


def _all_whole(db: Database, store: Store, rooms: Sequence[Roots], without: Iterable[str]) -> bool:
    """Whether everything in use is whole without some packs."""
    rows = _read(db, rooms)
    sound = store.sound(store.examine(without=tuple(without)))
    used = [row.tree for row in rows.commits] + rows.others
    objects = [row.object for row in rows.commits if row.object]
    return all(map(sound.whole, used)) and all(map(sound.there, objects))


def _write_objects(db: Database, store: Store, found: Checkup) -> None:
    ids = [id for one in found.problems if one.code == "commit.object" for id in one.commits]
    with db.read() as tx:
        commits: list[Commit] = [refs.get_commit(tx, id) for id in ids]
    with store.writer() as writer:
        kept = [writer.put_object(writing.OBJECT_TAG, writing.encode(c)) for c in commits]
        writer.flush()
        table = tables.commits
        with db.begin() as tx:
            for commit, digest in zip(commits, kept, strict=True):
                where = table.c.id == commit.id
                tx.execute(update(table).where(where).values(object=digest))
                writing.note_move(tx, commit.repo, "", commit.id, commit.id, commit.global_id)


def _put_back(tx: Tx) -> None:
    table = tables.commits
    query = select(table.c.id, table.c.repo).where(table.c.state == "finished")
    finished = {row.id: row.repo for row in tx.execute(query)}
    log = tables.ref_log
    for head in tx.execute(select(tables.branches)).all():
        where = (log.c.repo == head.repo, log.c.branch == head.name)
        moves = tx.execute(select(log.c.new).where(*where).order_by(log.c.seq.desc())).scalars()
        goal = next((new for new in moves if new is None or finished.get(new) == head.repo), None)
        if goal != head.head:
            branch = tables.branches
            here = (branch.c.repo == head.repo, branch.c.name == head.name)
            tx.execute(update(branch).where(*here).values(head=goal))
            writing.note_move(tx, head.repo, head.name, head.head, goal, None)
