"""Routes of tables: SQL over commits, and how versions of files differ.

Thin over the verbs; an answer is an Arrow stream, whatever its size.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask

from clew.base.records import Commit, FileDiff
from clew.server.call import Asked, Limit
from clew.server.shapes import Routes

router = Routes(tags=["data"])
ARROW = "application/vnd.apache.arrow.stream"
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {ARROW: {}}, "description": "An Arrow IPC stream."}
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One SELECT."""

    query: str


@dataclass(frozen=True, kw_only=True)
class Into(Question):
    """One SELECT, and where its answer goes: ``repo@branch:/file.parquet``."""

    address: str
    message: str = ""


@router.post("/sql", response_class=Response, responses=_STREAM)
def sql(call: Asked, asked: Question) -> Response:
    """The answer of one SELECT over commits, as an Arrow stream.

    It runs in a process of its own that can reach no file and no network, within 2 minutes and
    1 GiB of memory.
    """
    directory = tempfile.TemporaryDirectory(dir=call.scratch, prefix="clew-sql-")
    try:
        target = Path(directory.name).absolute() / "answer.stream"
        call.verbs.sql_file(asked.query, target)
    except BaseException:
        directory.cleanup()
        raise
    return FileResponse(target, media_type=ARROW, background=BackgroundTask(directory.cleanup))


@router.post("/sql/into", response_model=Commit)
def sql_into(call: Asked, asked: Into) -> Response:
    """Commit the answer of one SELECT as a file; its provenance are the commits it read."""
    made = call.verbs.sql_into(asked.query, asked.address, message=asked.message)
    return call.reply(made)


@router.get("/compare", response_model=list[FileDiff])
def compare(
    call: Asked,
    old: str,
    new: str,
    paths: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
    key: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
    limit: Limit = 10,
    files: Limit = 100,
) -> Response:
    """What differs between two commits, and how: rows and columns of tables, lines of texts."""
    found = call.verbs.compare(old, new, paths=paths, key=key, limit=limit, files=files)
    return call.reply(found)
