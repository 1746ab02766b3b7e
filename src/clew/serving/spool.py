"""The write-ahead file of the prediction log: one append per batch, before its answers are sent.

Knows nothing of requests, commits or rows of a database. What is promised:

* kill -9 of the process loses no record whose append returned: the bytes are with the kernel.
* A power cut loses at most the last ``SYNC_S`` seconds: fsync runs beside, in a thread.
* A torn record at the end of a file (a crash inside the append) is not a record.

A file is ``<name>.live`` while its process holds a lock on it, and ``<name>.log`` once it is
closed. A live file without a lock is an orphan: its process died. Frame of a record: length and
CRC-32 of the payload, both 4 bytes little-endian, then the payload (msgpack of :class:`Record`).
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from clew.base.ids import ALPHABET, ID_LENGTH, new_id

SYNC_S = 1.0
ROTATE_S = 2.0
ROTATE_BYTES = 16 << 20
_FRAME = struct.Struct("<II")
_MAX_PAYLOAD = 1 << 30
_NAME = re.compile(rf"[{ALPHABET}]{{{ID_LENGTH}}}-[0-9]{{8,16}}")


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One answered request, as it came and as it went.

    ``kind``: of the protocol; KEPT where columns are redacted: then ``request`` and ``answer`` are
    the JSON of what is kept of both, by column; MATRIX: then ``request`` is the matrix that was
    sent, ``request_head`` rows of FP64 in the order of bytes of this machine. ``request_head`` (of
    other kinds) and ``answer_head``: length of the JSON before raw bytes, -1 where all is JSON.
    ``request`` is the body after content decoding.
    ``status`` is 200, or the refusal with ``error``. Times in microseconds. ``arm``: the role of
    the revision (live, canary, arm, shadow; pinned: asked by version), ``propensity``: its chance
    to be asked, ``unit``: a digest of the request's key, ``copy_of``: of a shadow, the prediction
    that was returned. ``part_of``: of a node of a graph, the graph's prediction; ``parts``: of a
    graph, those of its nodes.
    """

    id: str
    endpoint: str
    revision: str
    model_version: str
    global_id: str
    at_us: int
    latency_us: int
    status: int
    kind: str
    request_head: int
    request: bytes
    answer_head: int
    answer: bytes
    error: str = ""
    arm: str = "live"
    propensity: float = 1.0
    unit: str = ""
    copy_of: str = ""
    part_of: str = ""
    parts: tuple[str, ...] = ()


KEPT = "kept"
MATRIX = "matrix"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def frame(record: Record) -> bytes:
    """The bytes of one record in a file."""
    payload = _encoder.encode(record)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def records(data: bytes, base: int = 0) -> Iterator[tuple[Record, int]]:
    """Whole records from the beginning of ``data``, each with the offset after it.

    Ends at the first frame that is torn or damaged. ``base`` is added to the offsets.
    """
    view, whole, at = memoryview(data), len(data), 0
    decode, checked, head, unpack = _decoder.decode, zlib.crc32, _FRAME.size, _FRAME.unpack_from
    while at + head <= whole:
        size, checksum = unpack(view, at)
        start = at + head
        at = start + size
        if not 0 < size <= _MAX_PAYLOAD or at > whole:  # zeros: a file that grew before its bytes
            return
        payload = view[start:at]
        if checked(payload) != checksum:
            return
        yield decode(payload), base + at


class Spool:
    """The spool of one serving process. ``append`` is for one thread; the rest is its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._name = new_id()
        self._number = 0
        self._lock = threading.Lock()
        self._fd = -1
        self._path = directory
        self._size = 0
        self._opened_s = 0.0
        self._dirty = False
        self._ending: list[tuple[int, Path]] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="spool", daemon=True)
        self._thread.start()

    def append(self, frames: list[bytes]) -> None:
        """Write whole records with one call to the kernel.

        Raises:
            OSError: nothing was kept of them (disk full); the file is as it was.
        """
        data = b"".join(frames)
        with self._lock:
            if self._fd < 0:
                self._open()
            self._write(data)
            self._dirty = True
            if self._size >= ROTATE_BYTES:
                self._end()

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:] if written else data)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += written

    def _open(self) -> None:
        self._number += 1
        stem = f"{self._name}-{self._number:08d}"
        temporary = self._directory / f"{stem}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._path = temporary.rename(self._directory / f"{stem}.live")
        self._fd, self._size, self._opened_s = fd, 0, time.monotonic()

    def _end(self) -> None:
        """Append no more to this file; the next append opens another. The lock is held."""
        if self._fd >= 0:
            self._ending.append((self._fd, self._path))
            self._fd, self._dirty = -1, False

    def _keep(self) -> None:
        while not self._closed.wait(SYNC_S):
            self._sync()
            with self._lock:
                if time.monotonic() - self._opened_s >= ROTATE_S:
                    self._end()
            self._finish()

    def _finish(self) -> None:
        """Give ended files their final name; without the lock, since fsync takes its time."""
        while self._ending:
            fd, path = self._ending.pop(0)
            os.fsync(fd)
            path.rename(path.with_suffix(".log"))
            os.close(fd)

    def _sync(self) -> None:
        with self._lock:
            if not self._dirty:
                return
            self._dirty = False
            copy = os.dup(self._fd)
        try:
            os.fsync(copy)
        finally:
            os.close(copy)

    def close(self) -> None:
        """End the file; everything appended is on the disk after it."""
        self._closed.set()
        self._thread.join()
        with self._lock:
            self._end()
        self._finish()


# reading ----------------------------------------------------------------------------------------


class Segment(Struct, frozen=True, kw_only=True):
    """One spool file as it was found. ``final``: nothing will be appended to it any more."""

    name: str
    path: Path
    final: bool

    def read(self, offset: int, limit: int) -> bytes:
        """At most ``limit`` bytes from an offset; empty if the file is gone."""
        with suppress(FileNotFoundError), _current(self.path).open("rb") as file:
            file.seek(offset)
            return file.read(limit)
        return b""

    def delete(self) -> None:
        """Remove the file; nothing happens if it is gone."""
        _current(self.path).unlink(missing_ok=True)


def is_name(text: str) -> bool:
    """Whether a spool could have named a file so: no other name may become a path."""
    return _NAME.fullmatch(text) is not None


def segments(directory: Path) -> list[Segment]:
    """All spool files, oldest first by name of process and number."""
    found: dict[str, Segment] = {}
    for path in sorted(directory.glob("*.l*")):
        if path.suffix == ".log" or (path.suffix == ".live" and _orphaned(path)):
            found[path.stem] = Segment(name=path.stem, path=path, final=True)
        elif path.suffix == ".live":
            found.setdefault(path.stem, Segment(name=path.stem, path=path, final=False))
    return list(found.values())


def _current(path: Path) -> Path:
    """The path under which a segment lies now: it may have been closed since it was listed."""
    closed = path.with_suffix(".log")
    return closed if path.suffix == ".live" and closed.exists() else path


def _orphaned(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
