"""A file of a commit as user code gets it: named at once, read when asked.

Knows no types: codecs make values of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from clew.base.errors import NotFound

if TYPE_CHECKING:
    from clew.store import Store


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of one tree. Reading may be repeated; every read checks the digest."""

    path: str
    """Where it is in its commit, such as ``/2013/07.parquet``."""
    digest: str
    size: int
    """In bytes."""
    _store: Store = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """The last suffix in lower case, such as ``.parquet``; '' without one."""
        return Path(self.name).suffix.lower()

    def read(self) -> bytes:
        """The whole content."""
        return self._store.read(self.digest)

    def open(self) -> BinaryIO:
        """The content as a seekable stream, for files larger than memory."""
        return self._store.open_file(self.digest)

    def export(self, target: Path) -> Path:
        """Write the content to ``target``, atomically; directories above it are made."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._store.export(self.digest, target)
        return target


def file_of(store: Store, tree: str, path: str) -> File:
    """The file at a path of a tree.

    Raises:
        NotFound: ``file.unknown``.
    """
    entry = store.get(tree, path)
    if entry is None:
        raise NotFound(
            "file.unknown", f"There is no file {path} in this version.", hint="List it: clew ls"
        )
    return File(path=entry.path, digest=entry.digest, size=entry.size_bytes, _store=store)
