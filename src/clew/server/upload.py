"""Files that come in: bodies wait on disk, memory stays bounded.

Knows tar streams and temporary files, and nothing of repos.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, cast

import anyio.to_thread
import msgspec
from fastapi import Request

from clew.base.archive import supposed_part, unpack
from clew.base.errors import Invalid, Unavailable
from clew.base.project import MAX_TOTAL_BYTES

_HELD = 1 << 20


@asynccontextmanager
async def received(request: Request, scratch: Path | None) -> AsyncIterator[BinaryIO]:
    """The whole body of a request in a temporary file, which goes when the block ends.

    Raises:
        Unavailable: ``disk.full``.
    """
    try:
        with tempfile.TemporaryFile(dir=scratch, buffering=0) as file:
            body = cast(BinaryIO, file)
            await _receive(request, body)
            body.seek(0)
            yield body
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise Unavailable(
            "disk.full",
            "The disk of the server is full; nothing was committed.",
            hint="Free space.",
        ) from None


async def _receive(request: Request, file: BinaryIO) -> None:
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) >= _HELD:
            await anyio.to_thread.run_sync(_write_all, file, bytes(held))
            held.clear()
    await anyio.to_thread.run_sync(_write_all, file, bytes(held))


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What came with a question about a project: its files, and data that is only supposed.

    ``put`` can be read while the body is there; ``delete`` names places that would go.
    """

    files: dict[str, bytes]
    put: dict[str, BinaryIO]
    delete: list[str]


def project(body: BinaryIO, entry: str) -> Upload:
    """An uploaded project, if the entry is among its files; nothing of code where there is none.

    Raises:
        Invalid: ``project.no_entry``, ``project.too_large``, ``archive.unreadable``.
    """
    files, delete = unpack(body)
    own, put = supposed_part(files)
    if sum(map(_size, own.values())) > 2 * MAX_TOTAL_BYTES:
        raise Invalid(
            "project.too_large",
            f"The uploaded project has more than {MAX_TOTAL_BYTES >> 20} MiB.",
            hint="Keep data out of the directory of the code: commit it with `clew put`.",
        )
    if entry not in own and (entry or own):
        raise Invalid(
            "project.no_entry",
            f"{entry} is not among the {len(own)} files of the upload.",
            hint="Pack the directory of the file, with names relative to it.",
        )
    read = {name: part.read() for name, part in own.items()}
    return Upload(files=read, put=put, delete=delete)


def _size(part: BinaryIO) -> int:
    size = part.seek(0, os.SEEK_END)
    part.seek(0)
    return size
