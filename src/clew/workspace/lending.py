"""The database's lock, lent to a store in a bucket that has none of its own.

Knows both plugs; knows nothing of what the store does while it is alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clew.base.errors import Conflict
from clew.db import Database, Lock


class DatabaseLock:
    """At most one holder of a name over all who share the database. Thread-safe."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @contextmanager
    def hold(self, name: str) -> Iterator[Held]:
        """Hold ``name``; what it gives is false where another process has it, or it was lost."""
        try:
            lock = self._db.lock(f"store-{name}", "clew")
        except Conflict:
            yield Held(None)
            return
        try:
            yield Held(lock)
        finally:
            lock.release()


class Held:
    """Whether the lock is held, now."""

    def __init__(self, lock: Lock | None) -> None:
        self._lock = lock

    def __bool__(self) -> bool:
        return self._lock is not None and not self._lock.lost
