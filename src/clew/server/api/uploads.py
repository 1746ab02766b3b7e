"""Routes of large uploads: pieces, how much has arrived, and the commit of the whole.

Thin over :class:`clew.server.partial.Partials`; knows no storage.
"""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import Query, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from clew.base.archive import unpack
from clew.base.metadata import parse_meta
from clew.base.records import Commit
from clew.base.records.partial import Partial
from clew.server.call import Asked
from clew.server.partial import Partials
from clew.server.shapes import Routes

router = Routes(tags=["data"])


@router.get("/parts/{id}", response_model=Partial)
def arrived(call: Asked, id: str) -> Response:
    """How much of a large upload has arrived: the client goes on from there."""
    return call.reply(Partial(id=id, size_bytes=Partials(call.scratch).size_bytes(id)))


@router.put("/parts/{id}", response_model=Partial)
async def add(request: Request, call: Asked, id: str, offset: int = 0) -> Response:
    """Append a piece of a tar archive to an upload. What arrives before a break is kept."""
    parts = Partials(call.scratch)
    try:
        size_bytes = await parts.add(id, offset, request.stream())
    except ClientDisconnect:
        size_bytes = parts.size_bytes(id)  # nobody is there to hear it
    return call.reply(Partial(id=id, size_bytes=size_bytes))


@router.post("/parts/{id}/commit", response_model=Commit)
async def commit(
    call: Asked,
    id: str,
    repo: str,
    checksum: str,
    branch: str = "main",
    message: str = "",
    replace: bool = False,
    meta: Annotated[list[str], Query(description="key=value; repeatable.")] = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Commit the files of an upload that has arrived whole, as one change.

    `checksum` is the SHA-256 of the archive in hexadecimal digits.
    """

    def put() -> Commit:
        with Partials(call.scratch).whole(id, checksum) as body:
            files, deletes = unpack(body)
            return call.verbs.put(
                repo,
                files,
                branch=branch,
                message=message,
                delete=deletes,
                replace=replace,
                meta=parse_meta(meta),
            )

    return call.reply(await anyio.to_thread.run_sync(put))
