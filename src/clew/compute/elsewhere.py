"""What a call needs of the engine's machine, on a machine that may not have it: names and files.

Knows paths, directories and plain data; knows nothing of clusters and of what a payload means.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from clew.base.ids import new_id
from clew.compute.frames import decode, encode

Identity = tuple[str, int, int]
_ARCHIVES = 4
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def identity(directory: str) -> Identity | None:
    """What tells a directory of the store from all others: this machine's run, device and file.

    None where there is none, or this process may not write there.
    """
    try:
        status = Path(directory, "format").stat()
    except OSError:
        return None
    if not os.access(directory, os.R_OK | os.W_OK):
        return None
    return machine(), status.st_dev, status.st_ino


def machine() -> str:
    """This machine, since it was started."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return str(uuid.getnode())


def is_same(ours: Identity | None, theirs: Identity | None, *, vouched: bool) -> bool:
    """Whether two identities are of one directory. ``vouched``: also on different machines, where
    somebody says that a disk is shared.
    """
    if ours is None or theirs is None:
        return False
    return ours == theirs or (vouched and ours[2] == theirs[2])


def translated(payload: msgspec.Raw, names: Mapping[str, str]) -> msgspec.Raw:
    """A payload in which every text that is a key of ``names`` is its value."""
    if all(old == new for old, new in names.items()):
        return payload
    return encode(_walk(decode(payload), names))


def _walk(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list):
        return [_walk(one, names) for one in value]
    if isinstance(value, dict):
        return {key: _walk(one, names) for key, one in value.items()}
    return value


def bundle(directory: str) -> bytes:
    """The files of a directory as one archive, the same bytes for the same files."""
    buffer = io.BytesIO()
    root = Path(directory)
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(p for p in root.rglob("*") if p.is_file() and _kept(p)):
            entry = tarfile.TarInfo(path.relative_to(root).as_posix())
            entry.size = path.stat().st_size
            entry.mode = path.stat().st_mode & 0o777
            with path.open("rb") as file:
                archive.addfile(entry, file)
    return buffer.getvalue()


def _kept(path: Path) -> bool:
    return "__pycache__" not in path.parts


def name_of(archive: bytes) -> str:
    """The name of the directory that holds the files of an archive."""
    return hashlib.sha256(archive).hexdigest()[:32]


def lay_out(archive: bytes, target: Path) -> None:
    """The files of an archive at ``target``, which appears whole or not at all."""
    temporary = target.with_name(f"{target.name}.{new_id()}")
    temporary.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extraction_filter = _FILTER
            files.extractall(temporary)  # noqa: S202 - our own archive: regular files below it
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    try:
        temporary.rename(target)
    except OSError:  # another lane was first: its copy is the same
        shutil.rmtree(temporary)


_FILTER = getattr(tarfile, "data_filter", None)
"""Python 3.11 has it since 3.11.4; what is laid out is an archive of our own engine."""


class Code(msgspec.Struct):
    """Snapshots of users' projects as archives, for lanes that cannot see the directory."""

    _names: dict[str, str] = msgspec.field(default_factory=dict)
    _archives: dict[str, bytes] = msgspec.field(default_factory=dict)
    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)

    def allow(self, directory: str) -> None:
        """From now on lanes may have it."""
        if directory not in self._names:
            self._names[directory] = ""

    def of(self, directory: str, *, name_only: bool) -> bytes:
        """The archive, or its name. Raises FileNotFoundError for what no call has named."""
        with self._lock:
            name = self._names.get(directory)
            if name is None:
                raise FileNotFoundError(directory)
            if name and name_only:
                return name.encode()
            archive = self._archives.get(directory) or bundle(directory)
            self._archives[directory] = archive
            while len(self._archives) > _ARCHIVES:
                del self._archives[next(iter(self._archives))]
            self._names[directory] = name = name_of(archive)
            return name.encode() if name_only else archive
