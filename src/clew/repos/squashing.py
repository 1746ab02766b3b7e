"""History mended: commits folded into the next one, heads dropped, repos deleted.

Knows rows and lineage. What rooms above keep of a commit they say themselves (``Keepers``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Select, delete, literal, null, select, update

from clew.base import clock
from clew.base.errors import Conflict, Denied, NotFound
from clew.base.records import Commit, Holder, Node, Removal
from clew.db import Tx
from clew.repos import refs, skipping, tables, writing
from clew.repos.ledger import Ledger, finished_in

Keepers = Callable[[Tx, Sequence[Commit]], Sequence[Holder]]
"""What holds commits that would go, as far as rooms above know; called inside the transaction."""

MENDABLE = ("source", "output")
"""Kinds of repos whose commits may go; the others are kept for what they are evidence of."""

_NAMED = 4
_table = tables.commits


class Squashing(Ledger):
    """The part of the door that takes commits away."""

    def squash(
        self,
        first: str,
        last: str | None = None,
        *,
        keepers: Keepers | None = None,
        force: bool = False,
        dry_run: bool = False,
        reason: str = "",
        author: str = "",
    ) -> Removal:
        """Fold a commit, or all from ``first`` up to ``last``, into the commit after it.

        What comes later keeps its content. With them go the commits that were made from them under
        the same global id. Lineage keeps what they were. One transaction.

        Raises:
            Conflict: ``squash.head`` where one has no commit after it, ``commit.held`` naming what
                keeps one, and whether ``force`` passes over it.
            Denied: ``repo.derived`` for a commit that was not put by hand.
            NotFound: ``commit.unknown``, ``squash.range`` where ``first`` is not before ``last``.
        """
        with self._writing_unless(dry_run) as tx:
            roots = _range(tx, first, last)
            going = _with_downstream(tx, roots)
            holders = [*_heads_among(tx, going), *self._holders(tx, going, keepers)]
            removal = Removal(how="squashed", commits=tuple(going), holders=tuple(holders))
            if dry_run:
                return removal
            _refuse_held(removal, force=force)
            children = children_of(tx, going)
            self._mend(tx, folded(children, going))
            into = {c.parent: c.id for c in [*children, *going] if c.parent}
            self._bury(tx, removal, into, author, reason)
            return replace(removal, done=True)

    def drop(
        self,
        ref: str,
        *,
        keepers: Keepers | None = None,
        force: bool = False,
        dry_run: bool = False,
        reason: str = "",
        author: str = "",
    ) -> Removal:
        """Take a head commit away and let its branches go back to the commit before it.

        With it go the commits that were made from it under the same global id, each of them a
        head too. Nothing runs because of it. Lineage keeps what they were. One transaction.

        Raises:
            Conflict: ``drop.not_head``, ``commit.held``.
            Denied: ``repo.derived``.
            NotFound: ``commit.unknown``.
        """
        with self._writing_unless(dry_run) as tx:
            going = _with_downstream(tx, [_root(tx, ref)])
            holders = [*_followed(tx, going), *self._holders(tx, going, keepers)]
            heads = moves(tx, going)
            removal = Removal(
                how="dropped",
                commits=tuple(going),
                heads={f"{repo}@{branch}": goal for (repo, branch), (_, goal) in heads.items()},
                holders=tuple(holders),
            )
            if dry_run:
                return removal
            _refuse_held(removal, force=force)
            for (repo, branch), (old, goal) in heads.items():
                writing.move_head(tx, repo, branch, old, goal, going[0].global_id)
            for commit in going:
                where = (_table.c.parent == commit.id, _table.c.state == "open")
                tx.execute(update(_table).where(*where).values(parent=commit.parent))
            self._bury(tx, removal, {c.id: c.parent for c in going if c.parent}, author, reason)
            return replace(removal, done=True)

    def delete(
        self,
        name: str,
        *,
        keepers: Callable[[Tx], Sequence[Holder]] | None = None,
        force: bool = False,
        dry_run: bool = False,
        reason: str = "",
        author: str = "",
    ) -> Removal:
        """Forget a repo with its branches, tags and commits; the ref log and the lineage stay.

        ``commits`` of the answer are the heads alone.

        Raises:
            NotFound: ``repo.unknown``.
            Conflict: ``repo.busy`` while one of its commits is open; ``repo.held``, naming what
                reads it or was made from it, and whether ``force`` passes over it.
        """
        with self._writing_unless(dry_run) as tx:
            heads = refs.get_repo(tx, name).branches
            if writing.in_use(tx, name):
                raise Conflict(
                    "repo.busy",
                    f"A commit of {name} is still being written.",
                    hint="Wait until the jobs that write it have ended: clew wait",
                )
            found = [*(keepers(tx) if keepers else ()), *self._made_of_repo(tx, name)]
            gone = tuple(refs.get_commit(tx, head) for head in {*heads.values()} if head)
            removal = Removal(how="deleted", commits=gone, holders=tuple(found))
            if dry_run:
                return removal
            hard = [one for one in found if not (force and one.yields)]
            if hard:
                raise _held("repo.held", f"{name} cannot be deleted", hard)
            for branch, head in heads.items():
                writing.move_head(tx, name, branch, head, None, None)
            for tag, commit in refs.tags_of(tx, name).items():
                writing.note_move(tx, name, f"tags/{tag}", commit, None, None)
            _bury_repo(tx, name, author, reason)
            tx.execute(delete(tables.tags).where(tables.tags.c.repo == name))
            tx.execute(delete(tables.branches).where(tables.branches.c.repo == name))
            tx.execute(delete(_table).where(_table.c.repo == name))
            tx.execute(delete(tables.repos).where(tables.repos.c.name == name))
            writing.note_move(tx, name, "", None, None, None)
            tx.emit("repo.deleted", subject=name, data={"reason": reason, "author": author})
            return replace(removal, done=True)

    # ----------------------------------------------------------------------------------------

    def _writing_unless(self, dry_run: bool) -> AbstractContextManager[Tx]:
        return self._db.read() if dry_run else self._db.begin()

    def _mend(self, tx: Tx, children: Sequence[Commit]) -> None:
        """Write the new parents of commits, with objects that say so."""
        finished = [child for child in children if child.state == "finished"]
        objects = dict(zip([c.id for c in finished], self._keep(finished), strict=True))
        for child in children:
            values = {"parent": child.parent, "merged": child.merged}
            if child.id in objects:
                values["object"] = objects[child.id]
                writing.note_move(tx, child.repo, "", child.id, child.id, child.global_id)
            tx.execute(update(_table).where(_table.c.id == child.id).values(**values))
        for child in children:
            skipping.reseat(tx, child.id)

    def _holders(
        self, tx: Tx, going: Sequence[Commit], keepers: Keepers | None
    ) -> Iterable[Holder]:
        ids = [commit.id for commit in going]
        tags = tables.tags
        for row in tx.execute(select(tags).where(tags.c.commit.in_(ids))):
            yield Holder(
                kind="tag",
                id=f"{row.repo}@{row.name}",
                commit=row.commit,
                reason=f"tag {row.name} of {row.repo} names it",
            )
        for row in tx.execute(_open_near(going)):
            yield Holder(
                kind="open",
                id=row.id,
                commit=row.parent if row.parent in ids else ids[0],
                reason=f"commit {row.id} of {row.repo}, which is being written, "
                + ("builds on it" if row.parent in ids else "is of the same change"),
            )
        yield from self._made_of(tx, ids)
        yield from keepers(tx, going) if keepers else ()

    def _made_of(self, tx: Tx, ids: Sequence[str]) -> Iterable[Holder]:
        """Commits that stay and were made from these; moves and merges have the content itself."""
        kinds: dict[str, str] = {}
        for edge in self._lineage.below(tx, ids):
            row = tx.execute(tables.COMMIT, {"id": edge.target}).first()
            if row is None or row.id in ids or edge.source in (row.parent, row.merged):
                continue
            kind = kinds.setdefault(row.repo, refs.get_repo(tx, row.repo).kind)
            if row.state == "finished":
                yield Holder(
                    kind="commit",
                    id=row.id,
                    commit=edge.source,
                    reason=f"commit {row.id} of {row.repo} was made from it",
                    yields=kind not in MENDABLE,
                )

    def _made_of_repo(self, tx: Tx, repo: str) -> Iterable[Holder]:
        """Other repos with commits that were made from commits of this one."""
        own = [row.id for row in tx.execute(select(_table.c.id).where(_table.c.repo == repo))]
        counts: Counter[str] = Counter()
        for edge in self._lineage.below(tx, own):
            row = tx.execute(tables.COMMIT, {"id": edge.target}).first()
            if row is not None and row.repo != repo:
                counts[row.repo] += 1
        for other, count in sorted(counts.items()):
            yield Holder(
                kind="commit",
                id=other,
                commit="",
                reason=f"{count} commits of {other} were made from it",
                yields=True,
            )

    def _bury(
        self, tx: Tx, removal: Removal, into: dict[str, str], author: str, reason: str
    ) -> None:
        """Rows become tombstones; lineage and events are told."""
        ends = dict(into)
        for commit in removal.commits:
            goal = ends.get(commit.id)
            while goal in ends and goal != ends[goal]:
                goal = ends[goal]
            row = {
                "id": commit.id,
                "repo": commit.repo,
                "branch": commit.branch,
                "global_id": commit.global_id,
                "how": removal.how,
                "into": goal,
                "at_us": clock.to_us(clock.now()),
                "author": author,
                "reason": reason,
            }
            tx.execute(tables.gone.insert(), row)
            writing.note_move(tx, commit.repo, "", commit.id, goal, commit.global_id)
            node = Node(
                kind="commit",
                id=commit.id,
                title=f"{commit.repo}@{commit.branch}",
                global_id=commit.global_id,
                detail={
                    "repo": commit.repo,
                    "branch": commit.branch,
                    "state": removal.how,
                    "message": commit.message,
                    "author": commit.author,
                    "tree": commit.tree,
                    "files": commit.files,
                    "size_bytes": commit.size_bytes,
                    "reason": reason,
                },
            )
            self._lineage.add(tx, node)
            data = {"repo": commit.repo, "branch": commit.branch, "reason": reason}
            kind = "commit.squashed" if removal.how == "squashed" else "commit.dropped"
            tx.emit(kind, subject=commit.id, global_id=commit.global_id, data=data)
        tx.execute(delete(_table).where(_table.c.id.in_([c.id for c in removal.commits])))


# which commits go -------------------------------------------------------------------------------


def _root(tx: Tx, ref: str) -> Commit:
    commit = refs.get_commit(tx, ref)
    finished_in(commit, commit.repo)
    kind = refs.get_repo(tx, commit.repo).kind
    if kind != "source":
        raise Denied(
            "repo.derived",
            f"{commit.repo} is written by Clew (kind: {kind}).",
            hint="Name the commit to a source repo that it was made from: clew why COMMIT",
        )
    return commit


def _range(tx: Tx, first: str, last: str | None) -> list[Commit]:
    """Commits from ``first`` up to ``last``, oldest first."""
    start = _root(tx, first)
    if last is None:
        return [start]
    found = [_root(tx, last)]
    while found[-1].id != start.id:
        if found[-1].parent is None:
            raise NotFound(
                "squash.range",
                f"Commit {start.id} is not before {found[0].id}.",
                hint=f"See the order: clew log {start.repo}",
            )
        found.append(refs.get_commit(tx, found[-1].parent))
    return found[::-1]


def _with_downstream(tx: Tx, roots: Sequence[Commit]) -> list[Commit]:
    """The roots and the finished commits that were made from them under their global ids."""
    going = {root.id: root for root in roots}
    for root in roots:
        rows = tx.execute(tables.OF_CHANGE, {"global_id": root.global_id})
        for commit in map(refs.commit_of, rows):
            made = any(source in going for source in commit.provenance)
            if made and commit.state == "finished":
                going.setdefault(commit.id, commit)
    kinds = {repo: refs.get_repo(tx, repo).kind for repo in {c.repo for c in going.values()}}
    return [commit for commit in going.values() if kinds[commit.repo] in MENDABLE]


# what stands against it -------------------------------------------------------------------------


def _heads_among(tx: Tx, going: Sequence[Commit]) -> Iterable[Holder]:
    """Commits that have nothing after them to be folded into, or that a branch stands on."""
    for commit in going:
        names = _branches_on(tx, commit.id)
        rows = tx.execute(tables.CHILDREN, {"id": commit.id}).all()
        after = any(row.state == "finished" for row in rows)
        if names:
            yield Holder(
                kind="head",
                id=f"{commit.repo}@{names[0]}",
                commit=commit.id,
                reason=f"it is the head of {commit.repo}@{', '.join(names)}",
            )
        elif not after:
            yield Holder(
                kind="head",
                id=commit.id,
                commit=commit.id,
                reason=f"nothing in {commit.repo} comes after it",
            )


def _followed(tx: Tx, going: Sequence[Commit]) -> Iterable[Holder]:
    """Commits that are no head, or that others go on from."""
    ids = {commit.id for commit in going}
    for commit in going:
        either = (_table.c.parent == commit.id) | (
            (_table.c.repo == commit.repo) & (_table.c.merged == commit.id)
        )
        for row in tx.execute(select(_table).where(either)):
            if row.state == "finished" and row.id not in ids:
                yield Holder(
                    kind="commit",
                    id=row.id,
                    commit=commit.id,
                    reason=f"commit {row.id} on {row.repo}@{row.branch} goes on from it",
                )


def _open_near(going: Sequence[Commit]) -> Select[Any]:
    """Open commits that build on these, or that a job makes in the same change."""
    builds = _table.c.parent.in_([c.id for c in going]) & (_table.c.tree != "")
    same = _table.c.global_id.in_({c.global_id for c in going}) & (_table.c.tree == "")
    return select(_table).where(_table.c.state == "open", builds | same)


def _branches_on(tx: Tx, id: str) -> list[str]:
    table = tables.branches
    rows = tx.execute(select(table.c.name).where(table.c.head == id).order_by(table.c.name))
    return [row.name for row in rows]


def moves(tx: Tx, going: Sequence[Commit]) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Branches whose head goes: where they stand and where they go back to."""
    return {
        (commit.repo, branch): (commit.id, commit.parent)
        for commit in going
        for branch in _branches_on(tx, commit.id)
    }


def _refuse_held(removal: Removal, *, force: bool) -> None:
    hard = [one for one in removal.holders if not (force and one.yields)]
    if not hard:
        return
    heads = [one for one in hard if one.kind == "head"]
    if removal.how == "squashed" and heads:
        named = "; ".join(f"{one.commit}: {one.reason}" for one in heads[:_NAMED])
        raise Conflict(
            "squash.head",
            f"A commit is folded into the one after it, and there is none: {named}.",
            hint="Commit on top of it first, or take the head away: clew drop",
        )
    followed = [one for one in hard if one.kind == "commit" and "goes on from it" in one.reason]
    if removal.how == "dropped" and followed:
        raise Conflict(
            "drop.not_head",
            f"Only a head can be dropped, and {followed[0].commit} is none: {followed[0].reason}.",
            hint="Drop what comes after it first, or fold it into that: clew squash",
        )
    raise _held("commit.held", f"Nothing was {removal.how}", hard)


def _held(code: str, what: str, hard: Sequence[Holder]) -> Conflict:
    named = "; ".join(one.reason for one in hard[:_NAMED])
    more = f"; and {len(hard) - _NAMED} more" if len(hard) > _NAMED else ""
    yields = all(one.yields for one in hard)
    return Conflict(
        code,
        f"{what}: {named}{more}.",
        hint="With --force it is done all the same; they then stand on what is gone."
        if yields
        else "Take away what holds it first (a tag, a job, a later commit); --force does not.",
    )


# doing it ---------------------------------------------------------------------------------------


def children_of(tx: Tx, going: Sequence[Commit]) -> list[Commit]:
    """Commits that stay and have one of these as a parent, each once."""
    ids = {commit.id for commit in going}
    found: dict[str, Commit] = {}
    for commit in going:
        either = (_table.c.parent == commit.id) | (
            (_table.c.repo == commit.repo) & (_table.c.merged == commit.id)
        )
        for row in tx.execute(select(_table).where(either)):
            if row.id not in ids:
                found[row.id] = refs.commit_of(row)
    return list(found.values())


def folded(children: Sequence[Commit], going: Sequence[Commit]) -> list[Commit]:
    """The commits that stay, each with the nearest parents that stay."""
    above = {commit.id: commit.parent for commit in going}

    def staying(id: str | None) -> str | None:
        while id in above:
            id = above[id]
        return id

    return [
        replace(child, parent=staying(child.parent), merged=staying(child.merged))
        for child in children
    ]


def _bury_repo(tx: Tx, name: str, author: str, reason: str) -> None:
    """Tombstones for all commits of a repo."""
    values = select(
        _table.c.id,
        _table.c.repo,
        _table.c.branch,
        _table.c.global_id,
        literal("deleted"),
        null(),
        literal(clock.to_us(clock.now())),
        literal(author),
        literal(reason),
    ).where(_table.c.repo == name, _table.c.state == "finished")
    tx.execute(tables.gone.insert().from_select([c.name for c in tables.gone.columns], values))
