"""Files that come as one stream, written to where a person wants them.

Knows tar streams and directories, and nothing of HTTP. No name leads out of the target.
"""

from __future__ import annotations

import io
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from clew.base.address import normal_path
from clew.base.progress import Amount, Progress, unseen


def write_archive(
    pieces: Iterator[bytes], target: Path, *, is_file: bool, seen: Progress = unseen
) -> list[Path]:
    """Write the files of a tar stream below ``target``, each atomically; their paths, in order.

    A single file becomes ``target`` itself, or lies in it where that is a directory.

    Raises:
        Invalid: ``path.invalid`` for a name with ``..`` or control characters.
    """
    written: list[Path] = []
    size_bytes = 0
    stream = cast(BinaryIO, io.BufferedReader(_Pieces(pieces), 1 << 18))
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                continue
            place = target / normal_path(member.name).lstrip("/")
            if is_file and not target.is_dir():
                place = target
            _write(content, place)
            written.append(place)
            size_bytes += member.size
            seen(Amount(len(written), size_bytes))
    if not is_file:
        target.mkdir(parents=True, exist_ok=True)
    return written


def _write(content: object, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".clew-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            shutil.copyfileobj(cast(BinaryIO, content), file, 1 << 18)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


class _Pieces(io.RawIOBase):
    """An iterator of bytes as something to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # a writable buffer
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = memoryview(piece)
        count = min(len(view), len(self._held))
        view[:count] = self._held[:count]
        self._held = self._held[count:]
        return count
