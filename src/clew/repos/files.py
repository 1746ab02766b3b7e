"""A file of a commit as user code gets it: named at once, read when asked.

Knows no types: codecs make values of it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from clew.base.errors import NotFound

if TYPE_CHECKING:
    from clew.store import Store


class Shelf(Protocol):
    """Where the content of files is, by digest: a store, or what reads like one."""

    def read(self, digest: str) -> bytes:
        """The whole content."""
        ...

    def open_file(self, digest: str) -> BinaryIO:
        """The content as a seekable stream, for one thread."""
        ...

    def export(self, digest: str, target: Path) -> None:
        """Write the content to ``target``, whole or not at all."""
        ...


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of one tree. Reading may be repeated; every read checks the digest."""

    path: str
    """Where it is in its commit, such as ``/2013/07.parquet``."""
    digest: str
    size: int
    """In bytes."""
    _store: Shelf = field(repr=False, compare=False)

    @classmethod
    def of(cls, shelf: Shelf, path: str, digest: str, size: int) -> File:
        """The file whose content ``shelf`` has under a digest."""
        return cls(path=path, digest=digest, size=size, _store=shelf)

    @classmethod
    def on_disk(cls, place: Path) -> File:
        """A file that is in no commit; its digest is ``disk:`` and its path, and checks nothing."""
        place = place.absolute()
        return cls.of(_Disk(), str(place), f"disk:{place}", place.stat().st_size)

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


class _Disk:
    """Files of this machine's disk; the digest of one is ``disk:`` and its path."""

    def read(self, digest: str) -> bytes:
        return _on_disk(digest).read_bytes()

    def open_file(self, digest: str) -> BinaryIO:
        return _on_disk(digest).open("rb")

    def export(self, digest: str, target: Path) -> None:
        shutil.copyfile(_on_disk(digest), target)


def _on_disk(digest: str) -> Path:
    return Path(digest.removeprefix("disk:"))


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
