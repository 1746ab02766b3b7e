"""What a tree is made of, as others see it.

Knows nothing of nodes, packs or files on disk.
"""

from __future__ import annotations

from msgspec import Struct


class Entry(Struct, frozen=True, kw_only=True):
    """A file in a tree. ``path`` is absolute and normal (``clew.base.address.normal_path``)."""

    path: str
    digest: str
    size_bytes: int


class TreeChange(Struct, frozen=True, kw_only=True):
    """A path whose file differs between two trees; a side without the file is None."""

    path: str
    old: Entry | None
    new: Entry | None


class TreeSummary(Struct, frozen=True, kw_only=True):
    """How many files there are, and how many bytes together."""

    files: int
    size_bytes: int
