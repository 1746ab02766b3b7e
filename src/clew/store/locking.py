"""Being alone with a store that has no file locks: a lease that lives in the bucket.

Knows locks and leases; knows nothing of what is done while one is held.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

from msgspec import Struct

from clew.base.errors import ClewError, Unavailable
from clew.base.ids import new_id
from clew.store.objects import Bucket, Stored, Version
from clew.store.shelf import Hold

LEASE_S = 30.0
_SAFE = 0.6  # of a lease: a holder that has not renewed for so long stops calling itself one


class Exclusive(Protocol):
    """At most one holder of a name at a time, over all processes. Thread-safe.

    A holder that dies lets go by itself: at once, or when its lease ends.
    """

    def hold(self, name: str) -> AbstractContextManager[Hold]:
        """Hold ``name`` while the context lasts. Never waits.

        What it gives is false where somebody else holds the name, and turns false when the lease
        could not be renewed in time.
        """
        ...


class Never:
    """Nobody is ever alone: for processes that only add to a store that others tend."""

    @contextmanager
    def hold(self, name: str) -> Iterator[Hold]:  # noqa: ARG002 - the protocol's signature
        """See :meth:`Exclusive.hold`: always false."""
        yield False


class Conditions(Struct, frozen=True, kw_only=True):
    """What a bucket was seen to do with conditional writes.

    ``bare``: an ETag must be named without its quotes (radosgw).
    """

    create: bool
    update: bool
    bare: bool = False

    @property
    def kept(self) -> bool:
        """Whether a lock can stand on them."""
        return self.create and self.update

    def name(self, version: Version) -> Version:
        """A version as this bucket wants to have it named."""
        if not self.bare or "e_tag" not in version:
            return version
        return {**version, "e_tag": version["e_tag"].strip('"')}


class BucketLock:
    """:class:`Exclusive` by objects that are written on condition.

    The lock object names its holder and the length of the lease, and is renewed at a third of it;
    each writing is unlike all others, so that its ETag stands for it. Whether a lease has ended is
    judged by the clock of the server alone: the age of the lock object against an object written
    now. A lock that is let go of is overwritten, on condition, not removed: a removal could hit
    somebody else's.
    """

    def __init__(self, bucket: Bucket, conditions: Conditions, lease_s: float = LEASE_S) -> None:
        self._bucket = bucket
        self._conditions = conditions
        self._lease_s = lease_s

    @contextmanager
    def hold(self, name: str) -> Iterator[Hold]:
        """See :meth:`Exclusive.hold`.

        Raises:
            Unavailable: ``store.unreachable``; Denied: ``store.denied``.
        """
        asked = time.monotonic()
        version = self._take(f"locks/{name}")
        if version is None:
            yield False
            return
        beat = _Beat(self, f"locks/{name}", version, asked, self._lease_s)
        try:
            yield beat
        finally:
            beat.end()

    def write(self, name: str, version: Version | None, lease_s: float) -> Version | None:
        """Write the lock object over ``version`` (None: over nothing); None if it has another."""
        content = json.dumps({"holder": new_id(), "lease_s": lease_s}).encode()
        if version is None:
            return self._bucket.create(name, content)
        return self._bucket.update(name, content, self._conditions.name(version))

    def _take(self, name: str) -> Version | None:
        try:
            found = self._bucket.get(name)
        except FileNotFoundError:
            return self.write(name, None, self._lease_s)
        if not self._is_free(found):
            return None
        return self.write(name, found.version, self._lease_s)

    def _is_free(self, found: Stored) -> bool:
        try:
            lease_s = float(json.loads(found.data)["lease_s"])
        except (ValueError, KeyError, TypeError):
            lease_s = self._lease_s  # damaged: whoever held it renews, or is gone
        if lease_s <= 0:
            return True
        clock = f"tmp/clock-{new_id()}"
        self._bucket.put(clock, b"now")
        try:
            now = self._bucket.get(clock).modified
        finally:
            self._bucket.remove(clock)
        return (now - found.modified).total_seconds() > lease_s + 1  # times are whole seconds


class _Beat:
    """One holding of a lock, renewed by a thread."""

    def __init__(
        self, lock: BucketLock, name: str, version: Version, since: float, lease_s: float
    ) -> None:
        self._lock = lock
        self._name = name
        self._version = version
        self._since = since
        self._lease_s = lease_s
        self._lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="clew-lock", daemon=True)
        self._thread.start()

    def __bool__(self) -> bool:
        return not self._lost and time.monotonic() - self._since < self._lease_s * _SAFE

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        if not self._lost:
            with suppress(ClewError):  # then the lease ends by itself
                self._lock.write(self._name, self._version, 0)

    def _renew(self) -> None:
        while not self._over.wait(self._lease_s / 3):
            asked = time.monotonic()
            try:
                version = self._lock.write(self._name, self._version, self._lease_s)
            except Unavailable:
                continue
            except ClewError:
                version = None
            if version is None:
                self._lost = True
                return
            self._version, self._since = version, asked
