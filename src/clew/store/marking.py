"""Which objects can be reached from some roots.

Knows what trees and chunk lists refer to; knows nothing of why something is a root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from clew.store.chunks import CHUNKS, FILE, decode_chunks
from clew.store.digests import split
from clew.store.nodes import EMPTY_TREE, KINDS, TREE, decode_node

Fetch = Callable[[str, bytes], bytes]
"""Gives the payload of an object, by tag and key."""

_EMPTY_KEY = split(EMPTY_TREE)[1]  # never stored


class Marks:
    """The keys of all objects that were reached. About 100 bytes of memory each."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self.keys: set[bytes] = set()

    def add(self, roots: Iterable[str]) -> None:
        """Reach for ``roots`` (digests) and all below them; what was reached before is not read.

        Raises:
            NotFound: ``object.missing``.
            Corrupt: ``object.corrupt``, ``pack.corrupt``.
            Invalid: ``digest.invalid``.
        """
        for root in roots:
            self._reach([split(root)])

    def _reach(self, stack: list[tuple[str, bytes]]) -> None:
        keys = self.keys
        while stack:
            tag, key = stack.pop()
            if key in keys or key == _EMPTY_KEY:
                continue
            if tag in {TREE, CHUNKS}:
                below = children(tag, key, self._fetch(tag, key))
                stack += ((tag, key) for tag, key in below if tag != FILE)
                keys.update(key for tag, key in below if tag == FILE)
            keys.add(key)


def children(tag: str, key: bytes, payload: bytes) -> list[tuple[str, bytes]]:
    """Tag and key of what an object refers to itself.

    Raises:
        Corrupt: ``object.corrupt``.
    """
    return list(_children(tag, f"{tag}:{key.hex()}", payload))


def _children(tag: str, name: str, payload: bytes) -> Iterator[tuple[str, bytes]]:
    if tag == CHUNKS:
        yield from (("chunk", key) for key in decode_chunks(name, payload).keys)
    elif tag == TREE:
        node = decode_node(name, payload)
        for at in range(len(node)):
            item = node.item(at)
            yield (TREE if node.level else KINDS[item.kind]), item.key
