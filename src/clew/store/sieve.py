"""A quick no to most questions for objects that are in none of many packs.

Knows keys; knows nothing of packs and what is in them.
"""

from __future__ import annotations

from collections.abc import Iterable

_SLOTS = 1 << 24  # bytes: of a million objects that are not there it lets 6 of 100 pass
_PART = slice(8, 11)  # keys are digests: any three bytes are as good as others


class Sieve:
    """Says for sure that a key was never added, or that it may have been. Thread-safe."""

    def __init__(self) -> None:
        self._slots = bytearray(_SLOTS)

    def add(self, keys: Iterable[bytes]) -> None:
        """Let keys pass from now on."""
        slots = self._slots
        for key in keys:
            slots[int.from_bytes(key[_PART], "little")] = 1

    def passes(self, key: bytes) -> bool:
        """Whether the key may have been added."""
        return bool(self._slots[int.from_bytes(key[_PART], "little")])
