"""The shelf in a bucket: packs as objects, read in windows that grow where reading goes on.

Knows buckets and where packs stand in them; knows nothing of what packs hold.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from clew.store.locking import Exclusive
from clew.store.shelf import Hold

PACKS = "packs"
_FIRST_WINDOW = 128 * 1024
_LARGEST_WINDOW = 8 * 1024 * 1024
_NEAR = 64 * 1024  # a gap that is read over rather than asked around
_WINDOWS_BYTES = 64 * 1024 * 1024


class Names(Protocol):
    """What a bucket is to a shelf: see :class:`clew.store.objects.Bucket`. Thread-safe."""

    def put(self, name: str, data: bytes) -> None:
        """Keep, whole or not at all; durable on return."""
        ...

    def read(self, name: str, offset: int, size: int) -> tuple[bytes, int]:
        """Up to ``size`` bytes from ``offset``, and how many there are."""
        ...

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        """The last ``size`` bytes, and how many there are."""
        ...

    def list(self, folder: str) -> Iterable[str]:
        """Every name below ``folder``, without it."""
        ...

    def remove(self, name: str) -> None:
        """Let go of a name; a missing one is no error."""
        ...


class _Window(NamedTuple):
    """Bytes of a pack that were read ahead."""

    start: int
    data: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    def part(self, offset: int, size: int) -> bytes | None:
        """The bytes asked for, if all of them are here."""
        if not self.start <= offset or offset + size > self.end:
            return None
        return self.data[offset - self.start : offset - self.start + size]


class RemoteShelf:
    """Packs below ``packs/`` of a bucket.

    A read where another one has just ended fetches four times as much as that one did, up to 8 MiB:
    the files of a directory, which lie side by side in a pack, come with few requests. At most
    64 MiB are held.
    """

    parallel = 16

    def __init__(self, bucket: Names, exclusive: Exclusive) -> None:
        self._bucket = bucket
        self._exclusive = exclusive
        self._windows: OrderedDict[tuple[str, int], _Window] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def put(self, name: str, parts: Sequence[bytes]) -> None:
        """See :meth:`Shelf.put`."""
        self._bucket.put(f"{PACKS}/{name}", b"".join(parts))
        self._forget(name)

    def settle(self) -> None:
        """See :meth:`Shelf.settle`. What a bucket has taken in is durable."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """See :meth:`Shelf.read`."""
        if size <= 0:
            return b""
        found, last = self._look(name, offset, size)
        if found is not None:
            return found
        wanted = size
        if last is not None:
            wanted = max(size, min(4 * len(last.data), _LARGEST_WINDOW))
        elif size < _FIRST_WINDOW:
            wanted = _FIRST_WINDOW
        data, _ = self._bucket.read(f"{PACKS}/{name}", offset, wanted)
        if size <= _LARGEST_WINDOW:  # a pack that is read whole is read once
            self._keep(name, _Window(offset, data), last)
        return data[:size]

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        """See :meth:`Shelf.tail`."""
        self._forget(name)
        return self._bucket.tail(f"{PACKS}/{name}", size)

    def list(self) -> set[str]:
        """See :meth:`Shelf.list`."""
        return set(self._bucket.list(PACKS))

    def remove(self, name: str) -> None:
        """See :meth:`Shelf.remove`."""
        self._bucket.remove(f"{PACKS}/{name}")
        self._forget(name)

    def alone(self) -> AbstractContextManager[Hold]:
        """See :meth:`Shelf.alone`."""
        return self._exclusive.hold("alone")

    def _look(self, name: str, offset: int, size: int) -> tuple[bytes | None, _Window | None]:
        """The bytes, if a window holds them; else the window behind which they begin."""
        with self._lock:
            behind = None
            for key, window in self._windows.items():
                if key[0] != name:
                    continue
                found = window.part(offset, size)
                if found is not None:
                    self._windows.move_to_end(key)
                    return found, None
                if window.start <= offset <= window.end + _NEAR:
                    behind = window
            return None, behind

    def _keep(self, name: str, window: _Window, old: _Window | None) -> None:
        with self._lock:
            if old is not None and (gone := self._windows.pop((name, old.start), None)):
                self._held -= len(gone.data)
            if gone := self._windows.pop((name, window.start), None):
                self._held -= len(gone.data)
            self._windows[(name, window.start)] = window
            self._held += len(window.data)
            while self._held > _WINDOWS_BYTES:
                _, gone = self._windows.popitem(last=False)
                self._held -= len(gone.data)

    def _forget(self, name: str) -> None:
        with self._lock:
            for key in [key for key in self._windows if key[0] == name]:
                self._held -= len(self._windows.pop(key).data)
