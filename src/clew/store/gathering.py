"""Objects on their way into packs: several packs at once, and children before their parents.

Knows packs and the catalog; knows nothing of what objects mean, but which kinds name no others.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from msgspec import Struct

from clew.store.catalog import PACK_LIMIT
from clew.store.chunks import CHUNK, FILE
from clew.store.packs import PackBuilder

AT_ONCE = 2
"""Packs that are written while a further one fills: what a writer holds is three packs at most."""
_CHILDREN = frozenset({FILE, CHUNK})


class _Sent(Struct):
    """A full pack; without a future it has failed and is to be published again."""

    builder: PackBuilder
    future: Future[str] | None


class Gathering:
    """The packs of one writer. For one thread; full packs are published by others meanwhile.

    An object that names others (a chunk list, a node, a commit) never reaches the shelf before
    what was added before it: those who find it may lean on what it names. What fits into one pack
    is one pack.
    """

    def __init__(self, publish: Callable[[PackBuilder], str]) -> None:
        self._publish = publish
        self._children = PackBuilder()
        self._parents = PackBuilder()
        self._sent: list[_Sent] = []
        self._keys: set[bytes] = set()
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def add(
        self, key: bytes, tag: str, encoding: int, size_bytes: int, stored: bytes | memoryview
    ) -> None:
        """Take one object (once: a key that is there already stays as it is).

        Raises:
            Unavailable: where a pack that was full earlier could not be written.
        """
        if key in self._keys:
            return
        self._keys.add(key)
        if tag in _CHILDREN:
            self._children.add(key, tag, encoding, size_bytes, stored)
            if self._children.size_bytes >= PACK_LIMIT:
                self._send()
        else:
            self._parents.add(key, tag, encoding, size_bytes, stored)
            if self._parents.size_bytes >= PACK_LIMIT:
                self.publish()

    def get(self, tag: str, key: bytes) -> bytes | None:
        """The payload of an object that was added and is not published, or None."""
        for builder in (self._children, self._parents, *(sent.builder for sent in self._sent)):
            found = builder.get(tag, key)
            if found is not None:
                return found
        return None

    def publish(self) -> bool:
        """Return when all is durable: whether there was something to publish just now.

        Where it fails, it may be called again.
        """
        anything = len(self._children) + len(self._parents) > 0
        small = self._children.size_bytes + self._parents.size_bytes <= PACK_LIMIT
        if small and len(self._children) and len(self._parents):
            self._settle()
            self._publish(self._children.joined(self._parents))
        else:
            if len(self._children):
                self._send()
            self._settle()
            if len(self._parents):
                self._publish(self._parents)
        self._children, self._parents = PackBuilder(), PackBuilder()
        self._keys.clear()
        return anything

    def drop(self) -> None:
        """Forget what is not published; what is being published is waited for."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._children, self._parents, self._sent = PackBuilder(), PackBuilder(), []
        self._keys.clear()

    def _send(self) -> None:
        while len(self._sent) >= AT_ONCE:
            self._wait()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="clew-pack")
        builder, self._children = self._children, PackBuilder()
        self._sent.append(_Sent(builder, self._pool.submit(self._publish, builder)))

    def _settle(self) -> None:
        while self._sent:
            self._wait()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _wait(self) -> None:
        first = self._sent[0]
        future, first.future = first.future, None
        if future is None:
            self._publish(first.builder)
        else:
            future.result()
        del self._sent[0]
        self._keys.difference_update(first.builder.keys())
