"""Explanations on the machine of a replica, and the files of a version as they came there.

Knows a way to get files, and the processes that explain; neither Ray nor a workspace.
"""

from __future__ import annotations

import asyncio
import threading
from tempfile import TemporaryDirectory
from typing import Protocol

from clew.serving.apart import EXPLAIN, ModelApart
from clew.serving.config import COMMAND
from clew.serving.dataplane import DataPlane
from clew.serving.explaining import Explaining
from clew.serving.files import CheckedFiles
from clew.serving.plans import Contents
from clew.serving.spool import Spool
from clew.store import EMPTY_TREE, Entry, Store


class Brings(Protocol):
    """The part of the way to a workspace that is needed here."""

    def fetch(self, tree: str) -> Contents:
        """The files of a model version."""
        ...


def files_of(contents: Contents) -> CheckedFiles:
    """The files that came, in memory."""
    return CheckedFiles(
        contents.files,
        contents.data.__getitem__,
        mend="Run `clew fsck`, then deploy the version again.",
    )


class ExplainingThere(Explaining):
    """Answers questions for explanations in a replica: a process beside it has the files that the
    replica has, in a store of their own that ends with it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, plane: DataPlane, spool: Spool, way: Brings
    ) -> None:
        super().__init__(loop, plane, spool, command=list(COMMAND), store_address="")
        self._way, self._lock = way, threading.Lock()
        self._place: TemporaryDirectory[str] | None = None

    def started(self, tree: str) -> ModelApart:
        """See ``Explaining``."""
        files = files_of(self._way.fetch(tree))
        with self._lock:
            if self._place is None:
                self._place = TemporaryDirectory(
                    prefix="clew-explaining-", ignore_cleanup_errors=True
                )
            store = Store.open(self._place.name)
            with store.writer() as writer:
                entries = []
                for path in files.paths():
                    digest, size_bytes = writer.put(files.read(path))
                    entries.append(Entry(path=path, digest=digest, size_bytes=size_bytes))
                kept = writer.tree(EMPTY_TREE, entries)
        return ModelApart(list(COMMAND), store.address, EXPLAIN + kept)

    def close(self) -> None:
        """End; nothing may be in flight."""
        super().close()
        if self._place is not None:
            self._place.cleanup()
