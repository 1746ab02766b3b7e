"""Locks: at most one holder of a name, freed by the system at its death; lock files.

Knows nothing of what a lock is for.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol

from clew.base.errors import Conflict


class Lock(Protocol):
    """What is held by one holder over all who share a database, until it is let go or lost.

    Thread-safe. A lock that is lost is never had again: take a new one.
    """

    @property
    def lost(self) -> bool:
        """Whether another may have it although it was not released."""
        ...

    def on_loss(self, act: Callable[[], None]) -> None:
        """Call ``act``, on any thread, as soon as the lock is lost; at once if it is."""
        ...

    def release(self) -> None:
        """Let others have it. Doing so twice is harmless."""
        ...


class FileLock:
    """An exclusive lock on a file (flock). Held until :meth:`release` or the end of the process.

    Child processes do not inherit it. The file stays; its content names the holder.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path, owner: str) -> FileLock:
        """Take the lock at once; ``owner`` says in words who holds it.

        Raises:
            Conflict: ``lock.held``, naming the process that holds it.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _describe(os.pread(descriptor, 1000, 0))
            os.close(descriptor)
            raise Conflict(
                "lock.held",
                f"{path.name} is held by {holder}.",
                hint="Wait until it ends, or stop it, then do this again.",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "owner": owner}).encode(), 0)
        return cls(path, descriptor)

    @property
    def lost(self) -> bool:
        """Never: the system holds it as long as this process lives."""
        return False

    def on_loss(self, act: Callable[[], None]) -> None:
        """Nothing: it cannot be lost."""

    @staticmethod
    def holder(path: Path) -> str | None:
        """Who holds the lock now, in words; None if nobody does."""
        if not path.exists():
            return None
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _describe(os.pread(descriptor, 1000, 0))
        finally:
            os.close(descriptor)
        return None

    def release(self) -> None:
        """Let others have it. Doing so twice is harmless."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            # Said aloud: a child that is just being started holds a copy of the descriptor until
            # its program is loaded, and a close alone would leave the lock with that copy.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _describe(content: bytes) -> str:
    try:
        holder = json.loads(content)
    except ValueError:  # caught between taking the lock and signing it
        return "another process"
    return f"{holder['owner']} (process {holder['pid']})"
