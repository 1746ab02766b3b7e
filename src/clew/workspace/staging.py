"""Data that waits on the branch ``staging`` of a source goes on to the branch that is worked on.

Knows repos and the store; when data may go on is for whoever calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clew.base.errors import Conflict
from clew.base.records import Change, Commit
from clew.db import Tx
from clew.repos import RepoChange, Repos
from clew.store import EMPTY_TREE, Entry, Store

STAGING = "staging"


def take_staged(
    repos: Repos,
    store: Store,
    names: Sequence[str],
    *,
    branch: str,
    global_id: str,
    message: str,
    within: Callable[[Tx, list[Commit]], None],
) -> list[Commit]:
    """Bring what waits in these repos to ``branch``, all in one transaction, as one change.

    What staging changed since it left the branch is done again on the branch's head; nothing is
    committed where the branch has all of it already. ``within`` is called in the transaction.

    Raises:
        Conflict: ``staging.conflict`` where both changed a path since, naming the paths.
    """
    with store.lease():  # until rows name the trees
        changes = [change for name in names if (change := _change(repos, store, name, branch))]
        if not changes:
            return []
        return repos.commit_many(
            changes, message=message, author="clew", global_id=global_id, within=within
        )


def _change(repos: Repos, store: Store, repo: str, branch: str) -> RepoChange | None:
    staged = repos.head(repo, STAGING) if STAGING in repos.branches(repo) else None
    if staged is None or staged.branch != STAGING:
        return None
    head = repos.head(repo, branch)
    base, since = _base(repos, staged, head)
    theirs = list(repos.diff(base, staged))
    current = head.tree if head else EMPTY_TREE
    _check(repo, theirs, _paths_changed(repos, since, head))
    entries = [
        Entry(path=c.new.path, digest=c.new.digest, size_bytes=c.new.size_bytes)
        for c in theirs
        if c.new
    ]
    gone = [c.path for c in theirs if c.new is None and store.get(current, c.path)]
    with store.writer() as writer:
        tree = writer.tree(current, entries, gone)
    if tree == current:
        return None
    return RepoChange(repo=repo, branch=branch, tree=tree, provenance=(staged.id,))


def _base(repos: Repos, staged: Commit, head: Commit | None) -> tuple[Commit | None, Commit | None]:
    """What both branches had in common last: a commit of staging, and one of the branch. That is
    what was taken in (or merged) last; before that where staging left; None where it began empty.
    """
    waiting: dict[str, Commit] = {}
    commit: Commit | None = staged
    while commit is not None and commit.branch == STAGING:
        waiting[commit.id] = commit
        commit = _parent(repos, commit)
    left, at = commit, head
    while at is not None and (left is None or at.id != left.id):
        if taken := next((waiting[id] for id in at.provenance if id in waiting), None):
            return taken, at
        at = _parent(repos, at)
    return left, left


def _parent(repos: Repos, commit: Commit) -> Commit | None:
    return repos.commit_by_id(commit.parent) if commit.parent else None


def _paths_changed(repos: Repos, base: Commit | None, head: Commit | None) -> dict[str, str]:
    if head is None:
        return {}
    return {c.path: c.new.digest if c.new else "" for c in repos.diff(base, head)}


def _check(repo: str, theirs: list[Change], ours: dict[str, str]) -> None:
    both = [
        c.path for c in theirs if c.path in ours and ours[c.path] != (c.new.digest if c.new else "")
    ]
    if both:
        raise Conflict(
            "staging.conflict",
            f"Of {repo} both branches changed, and not alike: {', '.join(both[:5])}"
            + (f" and {len(both) - 5} more." if len(both) > 5 else "."),
            hint="Commit what is right to the branch itself, then to staging.",
        )
