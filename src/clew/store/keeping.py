"""What a bucket has told once, kept on a local disk: indexes of packs, trees, lists of chunks.

Knows files named by digests; knows nothing of buckets. All of it may be removed at any time.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from clew.base.errors import Corrupt
from clew.base.ids import new_id
from clew.store import packs
from clew.store.chunks import CHUNK, FILE
from clew.store.digests import key_of
from clew.store.packs import Pack

LIMIT_BYTES = 512 * 1024 * 1024
_OBJECT_BYTES = 256 * 1024
_SIZE = struct.Struct("<Q")
_SHARE = 0.8  # of the limit that is left when the oldest are removed
_LOOK_EVERY = 2000  # puts between two looks at how much there is


class Keep:
    """A cache in ``directory``, at most about ``limit_bytes``. Thread-safe, shared by processes.

    What is read from it is verified by its name, so that a damaged file counts as absent. Nothing
    of it is ever needed: a disk that is full or read-only is no error.
    """

    def __init__(self, directory: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self._indexes = directory / "indexes"
        self._objects = directory / "objects"
        self._limit_bytes = limit_bytes
        self._puts = 0
        self._lock = threading.Lock()

    def pack(self, name: str) -> Pack | None:
        """The index of a pack, if it is kept."""
        data = self._read(self._indexes / name)
        if data is None or len(data) < _SIZE.size:
            return None
        index = data[_SIZE.size :]
        size_bytes = int(_SIZE.unpack_from(data)[0])
        trailer = packs.Trailer(0, len(index), key_of("index", index))
        try:
            return packs.read_index(name, trailer, index, size_bytes)
        except Corrupt:
            return None

    def put_pack(self, name: str, size_bytes: int, index: bytes) -> None:
        """Keep the index of a pack."""
        self._write(self._indexes / name, [_SIZE.pack(size_bytes), index])

    def payload(self, tag: str, key: bytes) -> bytes | None:
        """An object that is no content of files, if it is kept."""
        if tag in (FILE, CHUNK):
            return None
        data = self._read(self._path(tag, key))
        return data if data is not None and key_of(tag, data) == key else None

    def put_payload(self, tag: str, key: bytes, payload: bytes) -> None:
        """Keep an object; content of files, and what is large, is not kept."""
        if tag not in (FILE, CHUNK) and len(payload) <= _OBJECT_BYTES:
            self._write(self._path(tag, key), [payload])

    def _path(self, tag: str, key: bytes) -> Path:
        return self._objects / f"{key[0]:02x}" / f"{tag}-{key.hex()}"

    def _read(self, path: Path) -> bytes | None:
        try:
            data = path.read_bytes()
            if time.time() - path.stat().st_mtime > 3600:
                os.utime(path)  # by this the oldest are told from those that are used
        except OSError:
            return None
        return data

    def _write(self, path: Path, parts: Sequence[bytes]) -> None:
        temporary = path.parent / f".{new_id()}.tmp"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as stream:
                stream.writelines(parts)
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            return
        with self._lock:
            self._puts += 1
            due = self._puts % _LOOK_EVERY == 1
        if due:
            self.shrink()

    def shrink(self) -> None:
        """Remove the files that were not used for longest, where there is more than the limit."""
        found = []
        for place in (self._indexes, self._objects):
            for path in place.rglob("*"):
                with suppress(OSError):
                    status = path.stat()
                    if path.is_file():
                        found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self._limit_bytes:
            return
        for _, size, path in sorted(found):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            total -= size
            if total <= self._limit_bytes * _SHARE:
                return
