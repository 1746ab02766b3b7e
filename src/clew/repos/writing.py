"""Commit rows, branch heads, the ref log, lineage and events: one change, one transaction.

Knows nothing of how a tree was made. All functions run in the transaction that they are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import bindparam, func, select

from clew.base import clock
from clew.base.errors import Conflict
from clew.base.records import Commit, Node
from clew.db import Tx
from clew.lineage import Lineage
from clew.repos import refs, skipping, tables
from clew.store import TreeSummary, canonical

OBJECT_TAG = "commit"

_ADD = tables.commits.insert()
_CHANGE = tables.commits.update().where(
    tables.commits.c.id == bindparam("of_id"), tables.commits.c.state == "open"
)
_STAYS = frozenset({"id", "repo", "branch", "global_id", "author", "started_us", "merged"})
"""What is never changed of an open commit."""

_MOVE = (
    tables.branches.update()
    .where(
        tables.branches.c.repo == bindparam("of_repo"),
        tables.branches.c.name == bindparam("of_name"),
        tables.branches.c.head.is_not_distinct_from(bindparam("of_old")),
    )
    .values(head=bindparam("new"))
)
_NOTE_MOVE = tables.ref_log.insert()


def encode(commit: Commit) -> bytes:
    """The commit object: all that a row of it can be made again from, but what its tree says.

    Where several objects name one commit (it was squashed below), the last written counts.
    """
    return canonical(
        {
            "version": 2,
            "id": commit.id,
            "repo": commit.repo,
            "branch": commit.branch,
            "global_id": commit.global_id,
            "parent": commit.parent,
            "tree": commit.tree,
            "message": commit.message,
            "author": commit.author,
            "provenance": list(commit.provenance),
            "started_us": clock.to_us(commit.started_at),
            "finished_us": clock.to_us(commit.finished_at or commit.started_at),
            "merged": commit.merged,
            "meta": commit.meta,
            "written_us": clock.to_us(clock.now()),
        }
    )


def insert(tx: Tx, commit: Commit, object_digest: str = "") -> None:
    """Add the row of a commit, and its branch where there is none yet."""
    branch = {"repo": commit.repo, "name": commit.branch, "head": None}
    tx.upsert(tables.branches, [branch], key=["repo", "name"])
    place = skipping.place_below(tx, commit.parent)
    tx.execute(_ADD, _row(commit, object_digest) | place)


def change(tx: Tx, commit: Commit, object_digest: str = "") -> None:
    """Overwrite the row of an open commit.

    Raises:
        Conflict: ``commit.not_open`` where another has ended it.
    """
    row = _row(commit, object_digest) | skipping.place_below(tx, commit.parent)
    changed = {name: value for name, value in row.items() if name not in _STAYS}
    if tx.execute(_CHANGE, {"of_id": commit.id, **changed}).rowcount != 1:
        raise not_open(refs.get_commit(tx, commit.id))


def move_head(
    tx: Tx, repo: str, branch: str, old: str | None, new: str | None, global_id: str | None
) -> None:
    """Compare-and-set of a branch head, kept in the ref log.

    Raises:
        Conflict: ``branch.moved``.
    """
    move = {"of_repo": repo, "of_name": branch, "of_old": old, "new": new}
    if tx.execute(_MOVE, move).rowcount != 1:
        raise moved(repo, branch, old)
    note_move(tx, repo, branch, old, new, global_id)


def note_move(
    tx: Tx, repo: str, name: str, old: str | None, new: str | None, global_id: str | None
) -> None:
    """An entry of the ref log; ``name`` is a branch, or ``tags/NAME``."""
    entry = {"repo": repo, "branch": name, "old": old, "new": new, "global_id": global_id}
    tx.execute(_NOTE_MOVE, {"at_us": clock.to_us(clock.now()), **entry})


def announce(tx: Tx, lineage: Lineage, commit: Commit) -> None:
    """Tell lineage and events of a commit that has ended."""
    lineage.add(tx, _node(commit), [(source, "provenance") for source in commit.provenance])
    data = {"repo": commit.repo, "branch": commit.branch}
    if commit.state == "aborted":
        data["error"] = commit.error
    kind = f"commit.{commit.state}"
    tx.emit(kind, subject=commit.id, global_id=commit.global_id, data=data)


def restore(
    tx: Tx, lineage: Lineage, commit: Commit, object_digest: str, summary: TreeSummary
) -> None:
    """The row and the lineage of a finished commit that the store remembers; nothing is emitted."""
    whole = replace(commit, files=summary.files, size_bytes=summary.size_bytes)
    tx.execute(_ADD, _row(whole, object_digest))
    lineage.add(tx, _node(whole), [(source, "provenance") for source in whole.provenance])


def heads(tx: Tx, places: Sequence[tuple[str, str]]) -> list[Commit | None]:
    """The heads of several branches.

    Raises:
        NotFound: ``repo.unknown``.
    """
    found = [refs.head_of(tx, repo, branch) for repo, branch in places]
    for (repo, _), head in zip(places, found, strict=True):
        if head is None:
            refs.get_repo(tx, repo)
    return found


def in_use(tx: Tx, repo: str) -> int:
    """How many commits of a repo are open."""
    table = tables.commits
    query = select(func.count()).where(table.c.repo == repo, table.c.state == "open")
    return int(tx.execute(query).scalar_one())


def not_open(commit: Commit) -> Conflict:
    """The error for a commit that was to be finished or aborted."""
    return Conflict(
        "commit.not_open",
        f"Commit {commit.id} of {commit.repo} is {commit.state} already.",
        hint="Open a new commit.",
    )


def moved(repo: str, branch: str, expected: str | None) -> Conflict:
    """The error for a branch whose head is another than was thought."""
    was = f"no longer {expected}" if expected else "no longer empty"
    return Conflict(
        "branch.moved",
        f"The head of {repo}@{branch} is {was}: somebody committed in between.",
        hint="Look at what was committed (clew log), then do it again on top of that.",
    )


def _row(commit: Commit, object_digest: str) -> dict[str, Any]:
    finished = commit.finished_at
    return {
        "id": commit.id,
        "repo": commit.repo,
        "branch": commit.branch,
        "global_id": commit.global_id,
        "parent": commit.parent,
        "state": commit.state,
        "tree": commit.tree,
        "object": object_digest,
        "message": commit.message,
        "author": commit.author,
        "provenance": list(commit.provenance),
        "files": commit.files,
        "size_bytes": commit.size_bytes,
        "started_us": clock.to_us(commit.started_at),
        "finished_us": None if finished is None else clock.to_us(finished),
        "at_us": clock.to_us(finished or commit.started_at),
        "error": commit.error,
        "merged": commit.merged,
        "meta": commit.meta,
    }


def _node(commit: Commit) -> Node:
    return Node(
        kind="commit",
        id=commit.id,
        title=f"{commit.repo}@{commit.branch}",
        global_id=commit.global_id,
        detail=_detail(commit),
    )


def _detail(commit: Commit) -> dict[str, object]:
    detail: dict[str, object] = {
        "repo": commit.repo,
        "branch": commit.branch,
        "state": commit.state,
        "tree": commit.tree,
        "files": commit.files,
        "size_bytes": commit.size_bytes,
        "message": commit.message,
        "author": commit.author,
    }
    if commit.meta:
        detail["meta"] = commit.meta
    return detail | ({"error": commit.error} if commit.error else {})
