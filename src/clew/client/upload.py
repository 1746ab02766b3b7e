"""Large puts: sent in one stream that goes on where it broke, also in another process.

Knows tar streams and a server's parts; knows nothing of what the files mean. The name of an upload
follows from what is sent, so that the same command, given again, finds what has arrived.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

from clew.base.archive import Source, pack
from clew.base.errors import ClewError, Conflict, NotFound, Unavailable
from clew.base.progress import Progress
from clew.base.records import Commit
from clew.base.records.partial import Partial
from clew.client.wire import Wire

LARGE_BYTES = 16 * 1024 * 1024
"""A put of at least so many bytes is sent so that it can go on."""

PATIENCE_S = 60.0
"""How long a server may be away in the middle of an upload, without a byte more arriving."""

_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_AGAIN = frozenset({"parts.offset", "parts.busy"})
_TWICE = 2


def is_large(files: Mapping[str, Source]) -> bool:
    """Whether files are worth an upload that can go on."""
    return sum(map(_size, files.values())) >= LARGE_BYTES


class Upload:
    """One put on its way to a server."""

    def __init__(
        self, wire: Wire, files: Mapping[str, Source], delete: Sequence[str], seen: Progress
    ) -> None:
        self._wire = wire
        self._files = files
        self._delete = delete
        self._seen = seen
        self._checksum = ""

    def commit(self, **values: object) -> Commit:
        """Send all that has not arrived, and commit it.

        Raises what the server says; Unavailable ``server.unreachable`` where it was away for
        longer than ``PATIENCE_S``: the same call goes on from where this one came to.
        """
        with ExitStack() as held:
            self._files = {name: _seekable(one, held) for name, one in self._files.items()}
            name = self._name(values)
            for _ in range(_TWICE):
                self._send(name)
                try:
                    return self._finish(name, values)
                except (Conflict, NotFound) as error:
                    if error.code not in {"parts.damaged", "parts.unknown"}:
                        raise
                    damaged = error
            raise damaged

    def _finish(self, name: str, values: Mapping[str, object]) -> Commit:
        path = f"/parts/{name}/commit"
        return self._wire.post(path, Commit, {}, checksum=self._checksum, **values)

    def _send(self, name: str) -> None:
        """Return when all has arrived."""
        path = f"/parts/{name}"
        arrived, heard_at, pause = -1, time.monotonic(), _PAUSE_S
        while True:
            try:
                there = self._wire.get(path, Partial).size_bytes
                if there > arrived:
                    arrived, heard_at, pause = there, time.monotonic(), _PAUSE_S
                sent = self._wire.put(path, Partial, self._rest(there), offset=there)
                if sent.size_bytes == self._total:
                    return
            except ClewError as error:
                if not _is_passing(error) or time.monotonic() - heard_at > PATIENCE_S:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _rest(self, start: int) -> Iterator[bytes]:
        """The archive behind its first ``start`` bytes, which are read again for the checksum."""
        hasher = hashlib.sha256()
        self._total = -1
        at = 0
        for source in self._files.values():
            if not isinstance(source, bytes | Path):
                source.seek(0)
        for piece in pack(self._files, delete=self._delete, seen=self._seen):
            hasher.update(piece)
            if at + len(piece) > start:
                yield piece[max(0, start - at) :]
            at += len(piece)
        self._total = at
        self._checksum = hasher.hexdigest()

    def _name(self, values: Mapping[str, object]) -> str:
        """What this upload is called: the same for the same files, as they stand now."""
        hasher = hashlib.sha256(repr((sorted(values.items()), list(self._delete))).encode())
        for name, source in self._files.items():
            hasher.update(repr((name, _state(source))).encode("utf-8", "surrogateescape"))
        return hasher.hexdigest()


def _is_passing(error: ClewError) -> bool:
    return isinstance(error, Unavailable) or error.code in _AGAIN


def _size(source: Source) -> int:
    if isinstance(source, bytes):
        return len(source)
    if isinstance(source, Path):
        return source.stat().st_size if source.exists() else 0
    if not source.seekable():
        return LARGE_BYTES  # who knows
    here = source.tell()
    size = source.seek(0, os.SEEK_END) - here
    source.seek(here)
    return size


def _seekable(source: Source, held: ExitStack) -> Source:
    """A source that can be read twice: a stream from where it stands is written to disk."""
    if isinstance(source, bytes | Path):
        return source
    copy = held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    shutil.copyfileobj(source, copy)
    return cast(BinaryIO, copy)


def _state(source: Source) -> object:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    if isinstance(source, Path):
        status = source.stat()
        return str(source.absolute()), status.st_size, status.st_mtime_ns, status.st_ino
    source.seek(0)
    hasher = hashlib.sha256()
    while piece := source.read(1 << 20):
        hasher.update(piece)
    return hasher.hexdigest()
