"""The files below a directory, and what tells whether one has changed since.

Knows the file system, and nothing of what the files are for.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import stat
import struct
import sys
import time
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

from clew.base.errors import Invalid, NotFound

STATE = struct.Struct("<QQqq")
"""Inode, size, mtime_ns and ctime_ns of a file."""

OWN = ".clew"
"""The directory of a workspace, which is never among its own data."""

_HEAD = struct.Struct("<qQ")
"""When a scan began and how long its names are, before names and states in a pipe."""

T = TypeVar("T")
_BAD = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SHOWN = 5


class Scan(NamedTuple):
    """The files below a directory, by the bytes of their paths, as they stood at ``started_ns``.

    ``names`` are relative with slashes; ``states`` holds a :data:`STATE` of each.
    """

    root: str
    names: list[str]
    sizes: list[int]
    states: bytes
    started_ns: int

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(self.sizes)


def scan(root: Path) -> Scan:
    """Look at every file below a directory, but in ``.clew``. A link to a file counts as that file.

    Raises:
        Invalid: ``file.special`` for links to directories or to nothing, pipes, sockets and
            devices, each named; ``path.invalid`` for a name that is not plain UTF-8.
            ``file.unreadable`` for a directory that may not be read.
        NotFound: ``file.missing``.
    """
    place = str(root.resolve())
    early = _begun.pop(place, None)
    return (early.scan() if early else None) or _scan(root, place)


def begin_scan(root: Path) -> None:
    """Let another process look at a directory from now on; the next :func:`scan` of it has that.

    Only for a process of one thread. What goes wrong over there is for :func:`scan` to find.
    """
    if sys.platform != "win32":
        _begun[str(root.resolve())] = _Early(root)


def end_scans() -> None:
    """Forget what was begun and never asked for."""
    while _begun:
        _begun.popitem()[1].close()


class _Early:
    """A scan in a child of this process, on its way through a pipe."""

    def __init__(self, root: Path) -> None:
        self._root = str(root.resolve())
        self._pipe, theirs = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            status = 1
            gc.disable()
            try:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                _tell(_scan(root, self._root), theirs)
                status = 0
            finally:
                os._exit(status)  # nothing of the parent's is to be ended here
        os.close(theirs)

    def scan(self) -> Scan | None:
        """What was found; None where anything was wrong."""
        data = bytearray()
        try:
            while piece := os.read(self._pipe, 1 << 20):
                data += piece
        finally:
            whole = self._end()
        if not whole:
            return None
        started_ns, size = _HEAD.unpack_from(data)
        names = data[_HEAD.size : _HEAD.size + size].decode()
        states = bytes(data[_HEAD.size + size :])
        return _found(self._root, names.split("\0") if names else [], states, started_ns)

    def close(self) -> None:
        """Stop it."""
        os.kill(self._child, signal.SIGKILL)
        self._end()

    def _end(self) -> bool:
        os.close(self._pipe)
        return os.waitpid(self._child, 0)[1] == 0


_begun: dict[str, _Early] = {}


def _tell(found: Scan, pipe: int) -> None:
    names = "\0".join(found.names).encode()
    left = memoryview(_HEAD.pack(found.started_ns, len(names)) + names + found.states)
    while left:
        left = left[os.write(pipe, left) :]


def _scan(root: Path, place: str) -> Scan:
    started_ns = time.time_ns()
    names: list[str] = []
    states = bytearray()
    special: list[str] = []
    try:
        _walk(place, "", names, states, special)
    except FileNotFoundError as error:
        raise NotFound(
            "file.missing",
            f"There is no {error.filename}.",
            hint="Check the path; nothing was committed.",
        ) from error
    except OSError as error:
        raise Invalid(
            "file.unreadable",
            f"{error.filename} cannot be read: {error.strerror or error}.",
            hint="Check who owns it; nothing was committed.",
        ) from error
    if special:
        raise _special(root, sorted(special))
    return _found(place, names, bytes(states), started_ns)


def _found(place: str, names: list[str], states: bytes, started_ns: int) -> Scan:
    sizes = memoryview(states).cast("Q")[1 :: STATE.size // 8].tolist()
    return Scan(root=place, names=names, sizes=sizes, states=states, started_ns=started_ns)


def expand(files: Mapping[str, T]) -> dict[str, T | Path]:
    """Files by their paths in a repo, where a Path that is a directory is all files below it.

    Raises what :func:`scan` raises.
    """
    found: dict[str, T | Path] = {}
    for path, source in files.items():
        if isinstance(source, Path) and source.is_dir():
            below = scan(source)
            place = path.rstrip("/")
            found |= {f"{place}/{name}": Path(below.root, name) for name in below.names}
        else:
            found[path] = source
    return found


def _walk(
    directory: str, prefix: str, names: list[str], states: bytearray, special: list[str]
) -> None:
    """The files below, in the order of their paths: a directory stands where its ``name/`` does."""
    pack, is_regular = STATE.pack, stat.S_ISREG
    with os.scandir(directory) as scanned:
        entries = [
            (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name, entry)
            for entry in scanned
        ]
    if _BAD.search("".join([name for name, _ in entries])):
        raise _bad_name(prefix + next(e.name for _, e in entries if _BAD.search(e.name)))
    entries.sort(key=itemgetter(0))
    for name, entry in entries:
        if name.endswith("/"):
            if entry.name != OWN:
                _walk(entry.path, prefix + name, names, states, special)
            continue
        try:
            status = entry.stat()
        except FileNotFoundError:
            if entry.is_symlink():
                special.append(prefix + name)
            continue  # removed since it was listed: as if it had never been there
        if not is_regular(status.st_mode):
            special.append(prefix + name)
            continue
        names.append(prefix + name)
        states += pack(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _special(root: Path, names: list[str]) -> Invalid:
    shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    several = len(names) > 1
    return Invalid(
        "file.special",
        f"{len(names)} of the names below {root} {'are' if several else 'is'} no file: {shown} "
        "(a link to a directory or to nothing, a pipe, a socket or a device).",
        hint="Remove them, or name the files and directories to put. Nothing was committed.",
    )


def _bad_name(name: str) -> Invalid:
    return Invalid(
        "path.invalid",
        f"The name {name!r} is not UTF-8, or has a control character.",
        hint="Rename the file. Nothing was committed.",
    )
