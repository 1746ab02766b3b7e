"""Where packs stand: the plug between the store and a disk or a bucket.

Knows names and bytes; knows nothing of what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol


class Hold(Protocol):
    """Whether one is alone: ask again before each step that only one may do."""

    def __bool__(self) -> bool: ...


class Shelf(Protocol):
    """Immutable named byte strings. Names are plain file names; every method is thread-safe.

    Errors: Unavailable ``disk.full``, ``workspace.read_only`` or ``store.unreachable``; in a bucket
    also Denied ``store.denied`` and NotFound ``store.bucket_missing``. What is read may be spoilt,
    by the medium or on its way: callers verify all of it.
    """

    @property
    def parallel(self) -> int:
        """How many reads at a time are worth it: 1 where one is answered at once."""
        ...

    def put(self, name: str, parts: Sequence[bytes]) -> None:
        """Keep the joined ``parts`` as ``name``: whole or not at all, durable on return.

        So is, then, every name that could be listed before (:meth:`settle`).

        A name that exists already holds the same bytes (names are digests): putting it again
        is harmless. Nobody ever sees a part of it.
        """
        ...

    def settle(self) -> None:
        """Return when every name that can be listed now would also survive a loss of power."""
        ...

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer only at the end.

        Raises:
            FileNotFoundError: no such name (it may have been removed after a merge).
        """
        ...

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        """The last ``size`` bytes (all, where there are fewer) and how many there are in all.

        Looks at what has the name now, and so do later reads, whatever was read before.

        Raises:
            FileNotFoundError: as for :meth:`read`.
        """
        ...

    def list(self) -> set[str]:
        """All names, as they stand now."""
        ...

    def remove(self, name: str) -> None:
        """Let go of ``name``; readers that hold it open may go on. A missing name is no error."""
        ...

    def alone(self) -> AbstractContextManager[Hold]:
        """Whether the holder may merge and remove: at most one at a time, over all processes.

        Never waits: what it enters with is false where somebody else is at it. In a bucket it is a
        lease that is renewed behind the scenes, and turns false where that failed for too long. A
        holder that dies lets go: on a disk at once, in a bucket when the lease ends (30 s).
        """
        ...
