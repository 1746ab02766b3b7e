"""Names to commits: branches, tags, ids, prefixes, global ids, days, ancestors. Reads rows only.

Knows nothing of writing and of bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from sqlalchemy import select

from clew.base import clock
from clew.base.address import DEFAULT_BRANCH, Address
from clew.base.errors import Invalid, NotFound
from clew.base.ids import ID_LENGTH, is_id
from clew.base.records import Commit, RepoInfo, Tag
from clew.db import Tx
from clew.repos import skipping, tables

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_END = "\U0010ffff"


def commit_of(row: Any) -> Commit:
    """The record of a row of ``commits``."""
    return Commit(
        id=row.id,
        repo=row.repo,
        branch=row.branch,
        global_id=row.global_id,
        parent=row.parent,
        state=row.state,
        tree=row.tree,
        message=row.message,
        author=row.author,
        provenance=tuple(row.provenance),
        files=row.files,
        size_bytes=row.size_bytes,
        started_at=clock.from_us(row.started_us),
        finished_at=None if row.finished_us is None else clock.from_us(row.finished_us),
        error=row.error,
        merged=row.merged,
        meta=row.meta,
    )


def tag_of(row: Any) -> Tag:
    """The record of a row of ``tags``."""
    return Tag(
        repo=row.repo,
        name=row.name,
        commit=row.commit,
        at=clock.from_us(row.at_us),
        author=row.author,
        message=row.message,
        meta=row.meta,
    )


def repo_of(row: Any, heads: dict[str, str | None]) -> RepoInfo:
    """The record of a row of ``repos``."""
    return RepoInfo(
        name=row.name,
        kind=row.kind,
        description=row.description,
        created_at=clock.from_us(row.created_us),
        branches=heads,
    )


def get_repo(tx: Tx, name: str) -> RepoInfo:
    """A repo with its branches.

    Raises:
        NotFound: ``repo.unknown``, with names that are near.
    """
    row = tx.execute(tables.REPO, {"name": name}).first()
    if row is None:
        raise _unknown_repo(tx, name)
    return repo_of(row, branches_of(tx, name))


def branches_of(tx: Tx, repo: str) -> dict[str, str | None]:
    """Heads by branch, by name."""
    rows = tx.execute(tables.BRANCHES_OF, {"repo": repo})
    return dict(sorted((row.name, row.head) for row in rows))


def head_of(tx: Tx, repo: str, branch: str) -> Commit | None:
    """The head; None where nothing was finished on the branch yet, or there is no such branch."""
    row = tx.execute(tables.HEAD, {"repo": repo, "branch": branch}).first()
    return None if row is None else commit_of(row)


def get_commit(tx: Tx, id: str) -> Commit:
    """The commit of an id or of the beginning of one.

    Raises:
        NotFound: ``commit.unknown``.
        Invalid: ``ref.ambiguous``.
    """
    if len(id) == ID_LENGTH:
        row = tx.execute(tables.COMMIT, {"id": id}).first()
        found = [] if row is None else [commit_of(row)]
    else:
        rows = tx.execute(tables.BY_PREFIX, _range(id)) if is_id(id) else ()
        found = [commit_of(row) for row in rows]
    if not found:
        raise _unknown_commit(tx, id)
    if len(found) > 1:
        raise _ambiguous(id, found)
    return found[0]


def resolve(tx: Tx, address: Address) -> Commit:
    """The commit that an address names.

    A branch comes before a tag, a tag before an id, a whole id before the beginning of one; a
    global id means the latest commit of that change in the repo, finished ones first. A day
    (2026-11-01) that is none of these means the last commit of ``main`` until its end, in UTC.
    """
    commit = _named(tx, address)
    return _ancestor(tx, commit, address.ancestors) if address.ancestors else commit


def chain(tx: Tx, id: str, most: int) -> list[Commit]:
    """A commit and up to ``most`` of its ancestors, nearest first."""
    rows = tx.execute(tables.CHAIN, {"id": id, "most": most})
    return [commit_of(row) for row in rows]


def log(tx: Tx, repo: str, branch: str | None, limit: int) -> list[Commit]:
    """Commits newest first: of the repo, or the history of a branch with its loose ends."""
    if branch is None:
        rows = tx.execute(tables.LOG_OF_REPO, {"repo": repo, "limit": limit})
        return [commit_of(row) for row in rows]
    heads = branches_of(tx, repo)
    if branch not in heads:
        raise _unknown_ref(repo, branch, list(heads))
    bounds = {"repo": repo, "branch": branch, "id": heads[branch], "most": limit, "limit": limit}
    return [commit_of(row) for row in tx.execute(tables.LOG_OF_BRANCH, bounds)]


def _named(tx: Tx, address: Address) -> Commit:
    repo, ref = address.repo, address.ref
    info = get_repo(tx, repo)
    heads = info.branches
    if ref in heads:
        head = heads[ref]
        if head is None:
            raise _empty(info, ref)
        return get_commit(tx, head)
    tag = tx.execute(tables.TAG, {"repo": repo, "name": ref}).first()
    if tag is not None:
        return get_commit(tx, tag.commit)
    if _DAY.fullmatch(ref):
        return _of_day(tx, info, ref)
    found = _by_id(tx, repo, ref) if is_id(ref) else []
    if not found and not heads and ref == DEFAULT_BRANCH:
        raise _empty(info, ref)
    if not found and len(ref) == ID_LENGTH and tx.execute(tables.GONE, {"id": ref}).first():
        raise _unknown_commit(tx, ref)
    if not found:
        raise _unknown_ref(repo, ref, [*heads, *tags_of(tx, repo)])
    if len(found) > 1:
        raise _ambiguous(ref, found)
    return found[0]


def _by_id(tx: Tx, repo: str, ref: str) -> list[Commit]:
    """Commits that ``ref`` may mean: by their own id, and one for each change's id."""
    bounds = {"repo": repo, **_range(ref)}
    own = [commit_of(row) for row in tx.execute(tables.IN_REPO_BY_PREFIX, bounds)]
    if len(ref) == ID_LENGTH and own:
        return own
    changed = [commit_of(row) for row in tx.execute(tables.IN_REPO_BY_CHANGE, bounds)]
    latest: dict[str, Commit] = {}
    for commit in sorted(changed, key=lambda commit: commit.state != "finished"):
        latest.setdefault(commit.global_id, commit)
    return list({commit.id: commit for commit in [*own, *latest.values()]}.values())


def _ancestor(tx: Tx, commit: Commit, up: int) -> Commit:
    found, before = skipping.ancestor(tx, commit.id, up)
    if found is None:
        raise NotFound(
            "ref.no_ancestor",
            f"Commit {commit.id} of {commit.repo} has {before} commits before it, not {up}.",
            hint=f"See them: clew log {commit.repo}",
        )
    return get_commit(tx, found)


def _of_day(tx: Tx, repo: RepoInfo, day: str) -> Commit:
    head = repo.branches.get(DEFAULT_BRANCH)
    try:
        end = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
    except ValueError:
        raise _unknown_ref(repo.name, day, list(repo.branches)) from None
    found = head and skipping.last_before(tx, head, clock.to_us(end) - 1)
    if not found:
        raise NotFound(
            "ref.no_ancestor",
            f"Nothing was committed to {repo.name}@{DEFAULT_BRANCH} until the end of {day} (UTC).",
            hint=f"See when the first commit was made: clew log {repo.name}",
        )
    return get_commit(tx, found)


def tags_of(tx: Tx, repo: str) -> dict[str, str]:
    """Commits by tag, the newest tag first."""
    return {row.name: row.commit for row in tx.execute(tables.TAGS_OF, {"repo": repo})}


def _range(prefix: str) -> dict[str, str]:
    return {"prefix": prefix, "end": prefix + _END}


def _unknown_repo(tx: Tx, name: str) -> NotFound:
    names = list(tx.execute(select(tables.repos.c.name)).scalars())
    near = get_close_matches(name, names, 3, 0.5)
    near += [other for other in names if other.endswith(f"/{name}") and other not in near]
    return NotFound(
        "repo.unknown",
        f"There is no repo {name!r}.",
        hint=f"Did you mean {' or '.join(near)}?" if near else "See them all: clew repos",
    )


def _unknown_commit(tx: Tx, id: str) -> NotFound:
    gone = tx.execute(tables.GONE, {"id": id}).first()
    if gone is None:
        return NotFound(
            "commit.unknown",
            f"There is no commit {id!r}.",
            hint="Give at least 4 characters of its id; clew log REPO shows them.",
        )
    day = clock.from_us(gone.at_us)
    into = f", into {gone.into}" if gone.into else ""
    why = f": {gone.reason}" if gone.reason else ""
    return NotFound(
        "commit.gone",
        f"Commit {id} of {gone.repo} was {gone.how} on {day:%Y-%m-%d %H:%M} UTC{into}{why}.",
        hint=f"What it was made of and what came of it is kept: clew why {id}",
    )


def _unknown_ref(repo: str, ref: str, branches: Sequence[str]) -> NotFound:
    near = get_close_matches(ref, branches, 3, 0.5)
    known = ", ".join(branches[:5]) or "none yet"
    return NotFound(
        "ref.unknown",
        f"{repo} has no branch, tag, commit or change {ref!r}.",
        hint=f"Did you mean {' or '.join(near)}?" if near else f"Its branches: {known}.",
    )


def unknown_branch(repo: str, branch: str, branches: Sequence[str]) -> NotFound:
    """The error for a branch that is not there, with names that are near."""
    near = get_close_matches(branch, branches, 3, 0.5)
    return NotFound(
        "branch.unknown",
        f"{repo} has no branch {branch!r}.",
        hint=f"Did you mean {' or '.join(near)}?"
        if near
        else f"Its branches: {', '.join(branches[:5]) or 'none yet'}.",
    )


def _empty(repo: RepoInfo, branch: str) -> NotFound:
    by_hand = f"Commit a file: clew put {repo.name} FILE"
    by_clew = "Clew writes it when what it is made of is there; `clew status` says what is missing."
    return NotFound(
        "branch.empty",
        f"Nothing was committed to {repo.name}@{branch} yet.",
        hint=by_hand if repo.kind == "source" else by_clew,
    )


def _ambiguous(ref: str, found: Sequence[Commit]) -> Invalid:
    listed = ", ".join(f"{c.id} ({c.repo}@{c.branch}, change {c.global_id})" for c in found[:8])
    return Invalid(
        "ref.ambiguous",
        f"{ref!r} may mean {len(found)} commits: {listed}.",
        hint="Give more characters of the one that you mean.",
    )
