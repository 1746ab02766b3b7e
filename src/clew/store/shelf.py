"""Where packs stand: the plug between the store and a disk or a bucket.

Knows names and bytes; knows nothing of what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol


class Shelf(Protocol):
    """Immutable named byte strings. Names are plain file names; every method is thread-safe.

    Errors: Unavailable ``disk.full``, ``workspace.read_only`` or ``store.unreachable``.
    """

    def put(self, name: str, parts: Sequence[bytes]) -> None:
        """Keep the joined ``parts`` as ``name``: whole or not at all, durable on return.

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

    def alone(self) -> AbstractContextManager[bool]:
        """Whether the holder may merge and remove: at most one at a time, over all processes.

        Never waits: enters with False where somebody else is at it.
        """
        ...
