"""Snapshots of users' projects: kept in the store as trees, laid out on disk for workers.

Knows nothing of what the files mean.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from clew.base.address import normal_path
from clew.base.ids import new_id
from clew.store import EMPTY_TREE, Entry, Store


def _let_run(file: Path) -> None:
    """A script that says what runs it can be run by its name."""
    with file.open("rb") as content:
        if content.read(2) == b"#!":
            file.chmod(0o755)


class Snapshots:
    """Snapshots by digest. Thread-safe; several processes may share ``directory``."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._lock = threading.Lock()

    def keep(self, files: Mapping[str, bytes]) -> str:
        """Store a project's files (path → content); the digest of their tree, durable."""
        with self._store.writer() as writer:
            entries = []
            for path, content in files.items():
                digest, size = writer.put(content)
                entries.append(Entry(path=normal_path(path), digest=digest, size_bytes=size))
            return writer.tree(EMPTY_TREE, entries)

    def directory(self, digest: str) -> Path:
        """A directory that holds the files of the snapshot. Nobody may write to it.

        It appears whole or not at all, and its name is that of the digest.
        """
        target = self._directory / digest.partition(":")[2][:32]
        with self._lock:
            if not target.is_dir():
                self._lay_out(digest, target)
        return target

    def _lay_out(self, digest: str, target: Path) -> None:
        temporary = target.with_name(f"{target.name}.{new_id()}")
        temporary.mkdir(parents=True)
        for entry in self._store.entries(digest):
            file = temporary / entry.path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            self._store.export(entry.digest, file)
            _let_run(file)
        try:
            temporary.rename(target)
        except OSError:  # another process was first: its copy is the same
            shutil.rmtree(temporary)
