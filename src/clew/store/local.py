"""The shelf on a local disk: temporary file, fsync, rename, fsync of the directory.

Knows the file system and nothing of packs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from clew.base.errors import Unavailable
from clew.base.ids import new_id

_STALE_AFTER_S = 24 * 3600
_OPEN_FILES = 64
_WRITEV_PARTS = 512
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync stops at the drive


class Disk:
    """The steps of a durable write; a test may put one in that dies in between."""

    def write(self, descriptor: int, parts: Sequence[bytes]) -> None:
        """Write all bytes of all parts."""
        for start in range(0, len(parts), _WRITEV_PARTS):
            _write_all(descriptor, parts[start : start + _WRITEV_PARTS])

    def sync(self, descriptor: int) -> None:
        """Return when the bytes of the file are on the medium."""
        if _FULL_SYNC is not None:
            fcntl.fcntl(descriptor, _FULL_SYNC)
        else:
            os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give the file its name, atomically."""
        source.replace(target)

    def sync_directory(self, directory: Path) -> None:
        """Return when the names in the directory are on the medium."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Take the name away."""
        path.unlink(missing_ok=True)


class LocalShelf:
    """Files in ``directory``, written by way of ``scratch`` on the same file system."""

    parallel = 1

    def __init__(self, directory: Path, scratch: Path, disk: Disk) -> None:
        self._directory = directory
        self._scratch = scratch
        self._disk = disk
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, name: str, parts: Sequence[bytes]) -> None:
        """See :meth:`Shelf.put`."""
        with storage_errors(self._directory):
            publish(self._directory / name, parts, scratch=self._scratch, disk=self._disk)

    def settle(self) -> None:
        """See :meth:`Shelf.settle`."""
        with storage_errors(self._directory):
            self._disk.sync_directory(self._directory)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """See :meth:`Shelf.read`."""
        with storage_errors(self._directory):
            file = self._file(name)  # held: the last holder to let go closes the descriptor
            return _read_all(file.descriptor, offset, size)

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        """See :meth:`Shelf.tail`."""
        with storage_errors(self._directory):
            file = self._file(name, anew=True)
            total = os.fstat(file.descriptor).st_size
            return _read_all(file.descriptor, max(0, total - size), size), total

    def list(self) -> set[str]:
        """See :meth:`Shelf.list`."""
        with storage_errors(self._directory):
            return set(os.listdir(self._directory))  # noqa: PTH208 - names alone, of many files

    def remove(self, name: str) -> None:
        """See :meth:`Shelf.remove`."""
        with storage_errors(self._directory):
            self._disk.remove(self._directory / name)
        with self._lock:
            self._open.pop(name, None)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """See :meth:`Shelf.alone`. The operating system lets go when the process dies."""
        with storage_errors(self._scratch):
            descriptor = os.open(self._scratch / "alone", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            yield _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _file(self, name: str, *, anew: bool = False) -> _OpenFile:
        with self._lock:
            file = None if anew else self._open.get(name)
            if file is None:
                file = self._open[name] = _OpenFile(self._directory / name)
                if len(self._open) > _OPEN_FILES:
                    self._open.popitem(last=False)
            self._open.move_to_end(name)
            return file


class _OpenFile:
    """A descriptor that is closed when the last reader lets go of it."""

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def publish(target: Path, parts: Sequence[bytes], *, scratch: Path, disk: Disk) -> None:
    """Write ``target`` so that it is whole or absent, and durable on return."""
    temporary = scratch / f"{_host()}-{os.getpid()}-{new_id()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        try:
            disk.write(descriptor, parts)
            disk.sync(descriptor)
        finally:
            os.close(descriptor)
        disk.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    disk.sync_directory(target.parent)


def sweep(scratch: Path) -> None:
    """Remove what dead writers left: older than a day, or of a process of this host that is gone.

    On a disk that cannot be written nothing is removed.
    """
    horizon = time.time() - _STALE_AFTER_S
    for path in scratch.glob("*.tmp"):
        with suppress(OSError):
            if path.stat().st_mtime < horizon or _is_orphan(path.name):
                path.unlink()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into errors with a next step.

    FileNotFoundError passes: whether it is an error is for the caller to say.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unavailable(error, path) from error


def _unavailable(error: OSError, path: Path) -> Unavailable:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Unavailable(
            "disk.full",
            f"The disk that holds {path} is full.",
            hint="Make room on it, then run the same command again: nothing committed is lost.",
        )
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return Unavailable(
            "workspace.read_only",
            f"{path} cannot be written or read by this user: {error.strerror}.",
            hint="Check the owner and mode of the directory, or mount the disk for writing.",
        )
    return Unavailable(
        "store.unreachable",
        f"Reading or writing {path} failed: {error.strerror or error}.",
        hint="Check the path and the disk that holds it, then do this again.",
    )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_orphan(name: str) -> bool:
    host, _, rest = name.partition("-")
    pid, _, _ = rest.partition("-")
    if host != _host() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _host() -> str:
    return "".join(c for c in socket.gethostname() if c.isalnum())[:32] or "host"


def _write_all(descriptor: int, parts: Sequence[bytes]) -> None:
    size = sum(map(len, parts))
    written = os.writev(descriptor, parts)
    if written == size:
        return
    rest = memoryview(b"".join(parts))[written:]
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read_all(descriptor: int, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    if len(data) == size or not data:
        return data
    pieces = [data]
    got = len(data)
    while got < size and (data := os.pread(descriptor, size - got, offset + got)):
        pieces.append(data)
        got += len(data)
    return b"".join(pieces)
