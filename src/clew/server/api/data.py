"""Routes of data: repos, commits, files.

Thin over the verbs; knows no storage. Repos and addresses hold slashes, so they are parameters.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import anyio.to_thread
from fastapi import Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import AwareDatetime
from starlette.background import BackgroundTask

from clew.base.address import parse_address
from clew.base.archive import MEDIA_TYPE, pack, unpack
from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.metadata import parse_meta
from clew.base.records import Change, Commit, FileInfo, RepoInfo
from clew.server.call import Asked, Call, Limit
from clew.server.ranges import answer_range
from clew.server.shapes import Routes
from clew.server.upload import received

router = Routes(tags=["data"])
TAR_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A tar archive. The pax header CLEW.delete may hold a JSON list of paths.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The bytes."}
}


@dataclass(frozen=True, kw_only=True)
class NewRepo:
    """What a new repo needs."""

    name: str
    description: str = ""


@router.get("/repos", response_model=list[RepoInfo])
def repos(call: Asked) -> Response:
    """All repos, by name."""
    return call.reply(call.verbs.repos())


@router.post("/repos", response_model=RepoInfo)
def create_repo(call: Asked, new: NewRepo) -> Response:
    """A new source repo."""
    return call.reply(call.verbs.create_repo(new.name, description=new.description))


@router.get("/commits", response_model=list[Commit])
def log(
    call: Asked,
    repo: str,
    branch: str = "main",
    limit: Limit = 50,
    path: str = "",
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    author: str = "",
    meta: Annotated[list[str], Query(description="key=value; repeatable.")] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Commits of a branch (or of any ref), newest first, refused and aborted ones included.

    The rest chooses among finished ones.
    """
    found = call.verbs.log(
        repo,
        branch=branch,
        limit=limit,
        path=path,
        since=since,
        until=until,
        author=author,
        meta=parse_meta(meta),
    )
    return call.reply(found)


@router.post("/commits", response_model=Commit, openapi_extra=TAR_BODY)
async def put(
    request: Request,
    call: Asked,
    repo: str,
    branch: str = "main",
    message: str = "",
    delete: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
    replace: bool = False,
    meta: Annotated[list[str], Query(description="key=value; repeatable.")] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Commit the files of a tar archive on top of a branch, as one change.

    `tar c *.parquet | curl --data-binary @- -H 'Content-Type: application/x-tar' URL?repo=NAME`
    """
    check_type(request, MEDIA_TYPE)
    async with received(request, call.scratch) as body:

        def commit() -> Commit:
            files, deletes = unpack(body)
            return call.verbs.put(
                repo,
                files,
                branch=branch,
                message=message,
                delete=[*delete, *deletes],
                replace=replace,
                meta=parse_meta(meta),
            )

        return call.reply(await anyio.to_thread.run_sync(commit))


@router.put("/content", response_model=Commit)
async def put_one(
    request: Request, call: Asked, repo: str, path: str, branch: str = "main", message: str = ""
) -> Response:
    """Commit one file, whose content is the body."""
    async with received(request, call.scratch) as body:

        def commit() -> Commit:
            return call.verbs.put(repo, {path: body}, branch=branch, message=message)

        return call.reply(await anyio.to_thread.run_sync(commit))


@router.get("/commits/{ref:path}", response_model=Commit)
def commit(call: Asked, ref: str) -> Response:
    """The commit that `repo@ref` or a commit id names."""
    return call.reply(call.verbs.commit(ref))


@router.get("/files", response_model=list[FileInfo])
def ls(call: Asked, address: str, recursive: bool = False) -> Response:
    """Files and directories at an address, by path."""
    return call.reply(call.verbs.ls(address, recursive=recursive))


@router.head("/content", include_in_schema=False)
@router.get("/content", response_class=Response, responses=_BINARY)
def read(request: Request, call: Asked, address: str) -> Response:
    """The content of one file, or the range of it that the header `Range` names."""
    place = parse_address(address)
    commit = call.verbs.commit(str(replace(place, path="/")))
    pinned = str(replace(place, ref=commit.id, ancestors=0))
    info = _file(call, pinned)
    name = quote(info.path.rpartition("/")[2])
    return answer_range(
        request,
        lambda: call.verbs.open_file(pinned),
        info.size_bytes,
        etag=f'"{info.digest}"',
        headers={
            "Content-Disposition": f"attachment; filename*=utf-8''{name}",
            "Clew-Commit": commit.id,
        },
    )


@router.get("/archive", response_class=Response, responses=_BINARY)
def get(call: Asked, address: str) -> Response:
    """A file, or everything below a directory, as a tar archive; names relative to the address.

    The header `Clew-Kind` says `file` where the address is one file.
    """
    directory = tempfile.TemporaryDirectory(dir=call.scratch, prefix="clew-get-")
    try:
        files, kind = _exported(call, address, Path(directory.name) / "content")
    except BaseException:
        directory.cleanup()
        raise
    return StreamingResponse(
        pack(files),
        media_type=MEDIA_TYPE,
        headers={"Clew-Kind": kind},
        background=BackgroundTask(directory.cleanup),
    )


@router.get("/diff", response_model=list[Change])
def diff(call: Asked, old: str, new: str) -> Response:
    """Paths that differ between two addresses of commits."""
    return call.reply(call.verbs.diff(old, new))


def _exported(call: Call, address: str, place: Path) -> tuple[dict[str, Path], str]:
    """What lies at an address, as files on disk by their names, and whether that is one file."""
    written = call.verbs.get(address, place)
    if place.is_file():
        return {address.rpartition("/")[2]: place}, "file"
    return {file.relative_to(place).as_posix(): file for file in written}, "directory"


def _file(call: Call, address: str) -> FileInfo:
    path = parse_address(address).path
    found = call.verbs.ls(address) or call.verbs.ls(address, recursive=True)
    if len(found) == 1 and found[0].path == path:
        return found[0]
    if not found and path != "/":
        raise NotFound(
            "file.unknown", f"There is nothing at {address}.", hint="`clew ls` names what is there."
        )
    raise Conflict(
        "file.directory",
        f"{address} is a directory.",
        hint="Ask /api/v1/archive for all of it, or /api/v1/files for its names.",
    )


def check_type(request: Request, wanted: str) -> None:
    """Refuse a body of another media type. Raises Invalid ``request.media_type``."""
    given = request.headers.get("content-type", "").partition(";")[0].strip()
    if given != wanted:
        raise Invalid(
            "request.media_type",
            f"The body is {given or 'of no type'}, not {wanted}.",
            hint=f"Send the files as a tar archive with Content-Type: {wanted}.",
        )
