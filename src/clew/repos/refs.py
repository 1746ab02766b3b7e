"""Names to commits: branches, ids, prefixes, global ids, ancestors. Reads rows only.

Knows nothing of writing and of bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from sqlalchemy import select

from clew.base import clock
from clew.base.address import DEFAULT_BRANCH, Address
from clew.base.errors import Invalid, NotFound
from clew.base.ids import ID_LENGTH, is_id
from clew.base.records import Commit, RepoInfo
from clew.db import Tx
from clew.repos import tables

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
        raise NotFound(
            "commit.unknown",
            f"There is no commit {id!r}.",
            hint="Give at least 4 characters of its id; clew log REPO shows them.",
        )
    if len(found) > 1:
        raise _ambiguous(id, found)
    return found[0]


def resolve(tx: Tx, address: Address) -> Commit:
    """The commit that an address names.

    A branch comes before an id, a whole id before the beginning of one; a global id means the
    latest commit of that change in the repo, finished ones first.
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
    found = _by_id(tx, repo, ref) if is_id(ref) else []
    if not found and not heads and ref == DEFAULT_BRANCH:
        raise _empty(info, ref)
    if not found:
        raise _unknown_ref(repo, ref, list(heads))
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
    found = chain(tx, commit.id, up)
    if len(found) <= up:
        raise NotFound(
            "ref.no_ancestor",
            f"Commit {commit.id} of {commit.repo} has {len(found) - 1} commits before it, not "
            f"{up}.",
            hint=f"See them: clew log {commit.repo}",
        )
    return found[up]


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


def _unknown_ref(repo: str, ref: str, branches: Sequence[str]) -> NotFound:
    near = get_close_matches(ref, branches, 3, 0.5)
    known = ", ".join(branches[:5]) or "none yet"
    return NotFound(
        "ref.unknown",
        f"{repo} has no branch, commit or change {ref!r}.",
        hint=f"Did you mean {' or '.join(near)}?" if near else f"Its branches: {known}.",
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
