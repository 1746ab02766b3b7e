"""A file of a server as a seekable stream: each read asks for its range alone.

Knows the route of contents and HTTP ranges; nothing of what reads them.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import BinaryIO, cast
from urllib.parse import quote

from clew.base.address import parse_address
from clew.base.errors import Conflict
from clew.base.records import Commit, FileInfo
from clew.base.streams import SeekableRaw
from clew.client.wire import Wire

_BUFFER = 512 * 1024


def open_range_reader(wire: Wire, address: str) -> BinaryIO:
    """The file at an address, at the commit that its ref names now.

    Raises:
        NotFound: ``repo.unknown``, ``ref.unknown``, ``file.unknown``.
        Conflict: ``file.directory``.
    """
    place = parse_address(address)
    ref = str(replace(place, path="/"))
    commit = wire.get(f"/commits/{quote(ref)}", Commit)
    pinned = str(replace(place, ref=commit.id, ancestors=0))
    found = wire.get("/files", list[FileInfo], address=pinned)
    if len(found) != 1 or found[0].path != place.path or found[0].kind != "file":
        raise Conflict(
            "file.directory",
            f"{place.path} is a directory.",
            hint="Name one of the files in it, or get the whole: clew get",
        )
    raw = RangeReader(wire, pinned, found[0].size_bytes)
    return cast(BinaryIO, io.BufferedReader(raw, _BUFFER))


class RangeReader(SeekableRaw):
    """A file on a server as a raw stream. One thread at a time."""

    def __init__(self, wire: Wire, address: str, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._wire = wire
        self._address = address

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` with one request; 0 at the end."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # a writable buffer
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        headers = {"Range": f"bytes={self._at}-{end - 1}"}
        done = 0
        with self._wire.stream("/content", headers=headers, address=self._address) as answer:
            for piece in answer.iter_raw():
                view[done : done + len(piece)] = piece
                done += len(piece)
        self._at += done
        return done
