"""Trees that workers of this room read and make.

Knows the store alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from clew.models.layout import ENVIRONMENT
from clew.store import EMPTY_TREE, Entry, Store


def keep(store: Store, files: Mapping[str, bytes | Path]) -> str:
    """A durable tree of these files."""
    with store.writer() as writer:
        put = {path: writer.put(content) for path, content in files.items()}
        entries = [
            Entry(path=path, digest=digest, size_bytes=size)
            for path, (digest, size) in sorted(put.items())
        ]
        return writer.tree(EMPTY_TREE, entries)


def own_file(own: Mapping[str, Any] | None) -> dict[str, bytes | Path]:
    """The file that says that a model has an environment of its own, where it has."""
    return {ENVIRONMENT: msgspec.json.encode(own)} if own else {}


@lru_cache(maxsize=4)
def store_at(path: str) -> Store:
    """The store of an address, opened once a process."""
    return Store.attach(path)
