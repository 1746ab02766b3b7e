"""Nodes of the prolly tree: their canonical bytes, and where one ends and the next begins.

Knows nothing of packs. A leaf (level 0) lists files by path; an inner node lists the nodes below
it by the last path in each, with how many files and bytes they hold. What stands in which node
depends on the paths alone and never on the order of edits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import blake3
import msgspec

from clew.base.errors import Corrupt, Invalid
from clew.store.chunks import CHUNKS, FILE
from clew.store.digests import KEY_BYTES, canonical, digest, split
from clew.store.records import Entry, TreeSummary

TREE = "tree"
KINDS = (FILE, CHUNKS)
_FEWEST = 32
_MOST = 256
_THRESHOLD = (1 << 32) // 64  # a node ends at one of 64 paths, once it has the fewest: about 95


class Item(NamedTuple):
    """A line of a node: a file, or a node below. ``name`` is its path, or the last path in it."""

    name: str
    key: bytes
    kind: int
    files: int
    size_bytes: int


class Node:
    """A decoded node, by column. Immutable, shared between threads."""

    __slots__ = ("_files", "_keys", "_kinds", "_sizes", "level", "names")

    def __init__(
        self,
        level: int,
        names: Sequence[str],
        keys: bytes,
        kinds: bytes,
        files: Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        self.level = level
        self.names = names
        self._keys = keys
        self._kinds = kinds
        self._files = files
        self._sizes = sizes

    def __len__(self) -> int:
        return len(self.names)

    def key(self, at: int) -> bytes:
        """The 32 bytes of the file or node at a place."""
        return self._keys[at * KEY_BYTES : (at + 1) * KEY_BYTES]

    def item(self, at: int) -> Item:
        """The line at a place."""
        if self.level:
            return Item(self.names[at], self.key(at), 0, self._files[at], self._sizes[at])
        return Item(self.names[at], self.key(at), self._kinds[at], 1, self._sizes[at])

    def items(self) -> list[Item]:
        """All lines in order."""
        return [self.item(at) for at in range(len(self.names))]

    def entry(self, at: int) -> Entry:
        """The file at a place of a leaf."""
        return Entry(
            path=self.names[at],
            digest=f"{KINDS[self._kinds[at]]}:{self.key(at).hex()}",
            size_bytes=self._sizes[at],
        )

    def place(self, path: str) -> int:
        """The first place whose name is not before ``path``; the length where there is none."""
        return bisect_left(self.names, path)

    def summary(self, low: int = 0, high: int | None = None) -> TreeSummary:
        """What stands at the places from ``low`` up to ``high``."""
        files = sum(self._files[low:high]) if self.level else len(self.names[low:high])
        return TreeSummary(files=files, size_bytes=sum(self._sizes[low:high]))


Load = Callable[[str], Node]
"""Gives the node of a digest."""


def encode_node(level: int, items: Sequence[Item]) -> bytes:
    """The canonical bytes of a node."""
    names = [item.name for item in items]
    keys = b"".join([item.key for item in items])
    sizes = [item.size_bytes for item in items]
    if level:
        return canonical([level, names, keys, [item.files for item in items], sizes])
    return canonical([0, names, keys, bytes([item.kind for item in items]), sizes])


def decode_node(name: str, payload: bytes) -> Node:
    """The node again.

    Raises:
        Corrupt: ``object.corrupt`` where the payload is no node of this version.
    """
    try:
        level, names, keys, third, sizes = msgspec.msgpack.decode(payload, type=_NODE)
    except msgspec.MsgspecError as error:
        raise _not_a_node(name) from error
    kinds, files = (third, []) if isinstance(third, bytes) else (b"", third)
    count = len(names)
    whole = len(keys) == count * KEY_BYTES and len(sizes) == count
    if not whole or len(files if level else kinds) != count or max(kinds, default=0) > 1:
        raise _not_a_node(name)
    return Node(level, names, keys, kinds, files, sizes)


_NODE = tuple[int, list[str], bytes, bytes | list[int], list[int]]
EMPTY_TREE = digest(TREE, encode_node(0, []))


def item_of(entry: Entry) -> Item:
    """The line for a file.

    Raises:
        Invalid: ``digest.invalid``, ``tree.entry`` where the entry does not name a file.
    """
    kind, key = split(entry.digest)
    if kind not in KINDS or entry.size_bytes < 0:
        raise Invalid(
            "tree.entry",
            f"{entry.digest!r} of {entry.size_bytes} bytes cannot be a file at {entry.path!r}.",
            hint="Put the content first and use the digest and size that put() gives.",
        )
    return Item(entry.path, key, KINDS.index(kind), 1, entry.size_bytes)


class NodeCutter:
    """Cuts a sequence of lines into nodes of one level: from _FEWEST to _MOST, ended by hash."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._suffix = b"\0" + bytes([level])  # no path holds NUL: levels are cut independently
        self._lines: list[Item] = []

    @property
    def at_boundary(self) -> bool:
        """Whether the next line begins a node."""
        return not self._lines

    def feed(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        """Take more lines; give every node that they complete."""
        for item in items:
            self._lines.append(item)
            if self._ends(item.name):
                yield self._lines
                self._lines = []

    def close(self) -> Iterator[list[Item]]:
        """Give what is left as the last node."""
        if self._lines:
            yield self._lines
            self._lines = []

    def _ends(self, name: str) -> bool:
        count = len(self._lines)
        if count < _FEWEST:
            return False
        if count >= _MOST:
            return True
        mark = blake3.blake3(name.encode() + self._suffix).digest(length=4)
        return int.from_bytes(mark, "little") < _THRESHOLD


def _not_a_node(name: str) -> Corrupt:
    return Corrupt(
        "object.corrupt",
        f"{name} is not a tree node that this version of Clew can read.",
        hint="Upgrade Clew if it is older than this workspace; else restore from a backup.",
    )
