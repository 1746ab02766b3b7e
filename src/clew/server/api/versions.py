"""Routes of versions: open commits, branches, tags, merges, history and its mending.

Thin over the verbs; knows no storage. Repos and refs hold slashes, so they are parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import anyio.to_thread
from fastapi import Query, Request
from fastapi.responses import Response

from clew.base.archive import MEDIA_TYPE, unpack
from clew.base.metadata import parse_meta
from clew.base.records import BranchInfo, Commit, Found, Merge, Removal, TableProfile, Tag
from clew.base.transaction import unpack_parts
from clew.server.api.data import TAR_BODY, check_type
from clew.server.call import Asked, Limit
from clew.server.shapes import Routes
from clew.server.upload import received

router = Routes(tags=["versions"])
MetaTexts = Annotated[list[str], Query(description="key=value; repeatable.")]


@dataclass(frozen=True, kw_only=True)
class NewCopy:
    """What a copy needs: two addresses."""

    source: str
    target: str
    message: str = ""
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NewOpenCommit:
    """What an open commit needs."""

    repo: str
    branch: str = "main"
    message: str = ""
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What is told when an open commit is finished."""

    message: str = ""
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Abort:
    """What is told when an open commit is given up."""

    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class NewBranch:
    """What a new branch needs; ``at`` is a ref of the repo."""

    repo: str
    name: str
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class Move:
    """Where a branch goes on from."""

    repo: str
    name: str
    to: str
    force: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class NewTag:
    """What a tag needs; ``ref`` is ``repo@ref`` or an id."""

    ref: str
    name: str
    message: str = ""
    meta: dict[str, str] = field(default_factory=dict)
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class NewMerge:
    """What is merged, where, and how."""

    repo: str
    source: str
    into: str = "main"
    strategy: str = "fail"
    message: str = ""
    meta: dict[str, str] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class Squash:
    """Which commits are folded into the next one."""

    first: str
    last: str = ""
    force: bool = False
    dry_run: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Which head is taken away."""

    ref: str
    force: bool = False
    dry_run: bool = False
    reason: str = ""


# commits ------------------------------------------------------------------------------------------


@router.post("/transactions", response_model=list[Commit], openapi_extra=TAR_BODY)
async def put_many(
    request: Request,
    call: Asked,
    message: str = "",
    meta: MetaTexts = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Commit to several branches at once.

    The tar archive begins with the file `parts`, a JSON list of `{"repo", "branch", "delete",
    "replace"}`; its other files are named `N/path`, where N counts that list from 0.
    """
    check_type(request, MEDIA_TYPE)
    async with received(request, call.scratch) as body:

        def commit() -> list[Commit]:
            files, _ = unpack(body)
            return call.verbs.put_many(unpack_parts(files), message=message, meta=parse_meta(meta))

        return call.reply(await anyio.to_thread.run_sync(commit))


@router.post("/appends", response_model=Commit, openapi_extra=TAR_BODY)
async def append(
    request: Request,
    call: Asked,
    repo: str,
    branch: str = "main",
    message: str = "",
    meta: MetaTexts = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Commit the bytes of each file of a tar archive at the end of the file of its name."""
    check_type(request, MEDIA_TYPE)
    async with received(request, call.scratch) as body:

        def commit() -> Commit:
            files, _ = unpack(body)
            return call.verbs.append(
                repo, files, branch=branch, message=message, meta=parse_meta(meta)
            )

        return call.reply(await anyio.to_thread.run_sync(commit))


@router.post("/copies", response_model=Commit)
def copy(call: Asked, new: NewCopy) -> Response:
    """Commit a file or directory of any commit to another place; no bytes move."""
    return call.reply(call.verbs.copy(new.source, new.target, message=new.message, meta=new.meta))


@router.post("/open-commits", response_model=Commit)
def open_commit(call: Asked, new: NewOpenCommit) -> Response:
    """A commit that begins with the files of its branch and is written step by step."""
    return call.reply(
        call.verbs.open_commit(new.repo, branch=new.branch, message=new.message, meta=new.meta)
    )


@router.post("/open-commits/{commit_id}/files", response_model=Commit, openapi_extra=TAR_BODY)
async def put_into(
    request: Request,
    call: Asked,
    commit_id: str,
    append: bool = False,
    delete: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Write the files of a tar archive into an open commit; with `append` at their ends."""
    check_type(request, MEDIA_TYPE)
    async with received(request, call.scratch) as body:

        def write() -> Commit:
            files, deletes = unpack(body)
            return call.verbs.put_into(commit_id, files, delete=[*delete, *deletes], append=append)

        return call.reply(await anyio.to_thread.run_sync(write))


@router.post("/open-commits/{commit_id}/finish", response_model=Commit)
def finish(call: Asked, commit_id: str, told: Finish) -> Response:
    """Make an open commit the head of its branch."""
    return call.reply(call.verbs.finish(commit_id, message=told.message, meta=told.meta))


@router.post("/open-commits/{commit_id}/abort", response_model=Commit)
def abort(call: Asked, commit_id: str, told: Abort) -> Response:
    """End an open commit without content."""
    return call.reply(call.verbs.abort(commit_id, reason=told.reason))


# branches and tags --------------------------------------------------------------------------------


@router.get("/branches", response_model=list[BranchInfo])
def branches(call: Asked, repo: str) -> Response:
    """Branches by name, with who reads and who writes each."""
    return call.reply(call.verbs.branches(repo))


@router.post("/branches", response_model=BranchInfo)
def create_branch(call: Asked, new: NewBranch) -> Response:
    """A new branch at a ref of the repo, else at the head of `main` where there is one."""
    return call.reply(call.verbs.create_branch(new.repo, new.name, at=new.at))


@router.post("/branches/move", response_model=Commit)
def move_branch(call: Asked, move: Move) -> Response:
    """Let a branch go on from another ref of its repo."""
    return call.reply(
        call.verbs.move_branch(move.repo, move.name, move.to, force=move.force, reason=move.reason)
    )


@router.delete("/branches", response_model=BranchInfo)
def delete_branch(call: Asked, repo: str, name: str, force: bool = False) -> Response:
    """Forget a branch; the branch as it was."""
    return call.reply(call.verbs.delete_branch(repo, name, force=force))


@router.get("/tags", response_model=list[Tag])
def tags(call: Asked, repo: str) -> Response:
    """Tags, the newest first."""
    return call.reply(call.verbs.tags(repo))


@router.post("/tags", response_model=Tag)
def tag(call: Asked, new: NewTag) -> Response:
    """Name a commit for good."""
    return call.reply(
        call.verbs.tag(new.ref, new.name, message=new.message, meta=new.meta, force=new.force)
    )


@router.delete("/tags", response_model=Tag)
def delete_tag(call: Asked, repo: str, name: str) -> Response:
    """Forget a tag; the tag as it was."""
    return call.reply(call.verbs.delete_tag(repo, name))


@router.post("/merges", response_model=Merge)
def merge(call: Asked, new: NewMerge) -> Response:
    """Bring a ref and its history to a branch."""
    return call.reply(
        call.verbs.merge(
            new.repo,
            new.source,
            into=new.into,
            strategy=new.strategy,
            message=new.message,
            meta=new.meta,
            dry_run=new.dry_run,
        )
    )


# history ------------------------------------------------------------------------------------------


@router.post("/squash", response_model=Removal)
def squash(call: Asked, told: Squash) -> Response:
    """Fold commits into the next one."""
    return call.reply(
        call.verbs.squash(
            told.first,
            last=told.last,
            force=told.force,
            dry_run=told.dry_run,
            reason=told.reason,
        )
    )


@router.post("/drop", response_model=Removal)
def drop(call: Asked, told: Drop) -> Response:
    """Take a head away, with what was made from it."""
    return call.reply(
        call.verbs.drop(told.ref, force=told.force, dry_run=told.dry_run, reason=told.reason)
    )


@router.delete("/repos", response_model=Removal)
def delete_repo(
    call: Asked, name: str, force: bool = False, dry_run: bool = False, reason: str = ""
) -> Response:
    """Forget a repo."""
    return call.reply(call.verbs.delete_repo(name, force=force, dry_run=dry_run, reason=reason))


@router.get("/find", response_model=list[Found])
def find(call: Asked, address: str, limit: Limit = 50) -> Response:
    """What each commit did to a file, a directory or a glob."""
    return call.reply(call.verbs.find(address, limit=limit))


@router.get("/profile", response_model=TableProfile)
def profile(call: Asked, address: str) -> Response:
    """A tabular file in a few numbers."""
    return call.reply(call.verbs.profile(address))
