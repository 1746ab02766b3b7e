"""Large bodies that come in pieces: what has arrived stays, and the client goes on behind it.

Knows files and locks; knows nothing of what the bodies hold. A piece that breaks off is kept as far
as it came.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread

from clew.base.errors import Conflict, Invalid, NotFound

KEPT_S = 7 * 24 * 3600
"""How long a body is kept that nobody adds to."""

_HELD = 1 << 20
_ID = re.compile(r"[0-9a-f]{32,64}")
_SUFFIX = ".part"


class Partials:
    """Bodies in a directory, by the id that their clients chose. Several processes may share it."""

    def __init__(self, scratch: Path | None) -> None:
        self._directory = (scratch or Path(tempfile.gettempdir())) / "clew-parts"

    def size_bytes(self, id: str) -> int:
        """How much of a body has arrived; 0 where nothing has."""
        try:
            return self._path(id).stat().st_size
        except FileNotFoundError:
            return 0

    async def add(self, id: str, offset: int, pieces: AsyncIterator[bytes]) -> int:
        """Append a piece; how much there is now, also in the case that the piece breaks off.

        Raises:
            Conflict: ``parts.offset`` where ``offset`` is not how much there is;
                ``parts.busy`` while another request adds to the same body.
            Invalid: ``parts.id``.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        await anyio.to_thread.run_sync(self._sweep)
        with self._locked(id, os.O_RDWR | os.O_CREAT) as descriptor:
            there = os.lseek(descriptor, 0, os.SEEK_END)
            if offset != there:
                raise Conflict(
                    "parts.offset",
                    f"{there} bytes of this upload have arrived, and the next are said to "
                    f"begin at {offset}.",
                    hint="Ask how much has arrived, and go on from there.",
                )
            held = bytearray()
            try:
                async for piece in pieces:
                    held += piece
                    if len(held) >= _HELD:
                        await anyio.to_thread.run_sync(_write, descriptor, bytes(held))
                        held.clear()
            finally:
                _write(descriptor, bytes(held))
            return os.lseek(descriptor, 0, os.SEEK_END)

    @contextmanager
    def whole(self, id: str, checksum: str) -> Iterator[BinaryIO]:
        """The whole body, if its SHA-256 is ``checksum``; it goes when the block has not failed.

        Raises:
            NotFound: ``parts.unknown``.
            Conflict: ``parts.damaged`` (then it is gone, too), ``parts.busy``.
        """
        path = self._path(id)
        if not path.exists():
            raise NotFound(
                "parts.unknown",
                f"Nothing of the upload {id} is here (any more).",
                hint="Send it again from its beginning.",
            )
        with self._locked(id, os.O_RDWR) as descriptor:
            if _checksum(descriptor) != checksum:
                path.unlink(missing_ok=True)
                raise Conflict(
                    "parts.damaged",
                    "What has arrived is not what was sent: a file changed while it was sent.",
                    hint="Send it again from its beginning.",
                )
            os.lseek(descriptor, 0, os.SEEK_SET)
            with os.fdopen(os.dup(descriptor), "rb") as body:
                yield body
            path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, id: str, flags: int) -> Iterator[int]:
        descriptor = os.open(self._path(id), flags | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    "parts.busy",
                    "Another request is at this upload.",
                    hint="Wait a moment, then ask how much has arrived.",
                ) from None
            yield descriptor
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        horizon = time.time() - KEPT_S
        for path in self._directory.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < horizon:
                    path.unlink()

    def _path(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise Invalid(
                "parts.id",
                f"{id!r} cannot name an upload.",
                hint="Choose 32 to 64 hexadecimal digits that nobody else will.",
            )
        return self._directory / f"{id}{_SUFFIX}"


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _checksum(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as body:
        return hashlib.file_digest(body, "sha256").hexdigest()
