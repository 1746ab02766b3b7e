"""The verbs about tables on the files of one directory: SQL over commits, comparisons.

What they take is loaded when they are asked for the first time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clew.base.records import Commit, FileDiff
from clew.workspace import late
from clew.workspace.rooms import Rooms

if TYPE_CHECKING:
    import pyarrow as pa


class Tables:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms
    serves: bool
    _author: str

    def sql(self, query: str, *, attach: Mapping[str, str] | None = None) -> pa.Table:
        """The answer of a SELECT over commits."""
        return late.table(self.rooms, query, attach, served=self.serves)

    def sql_file(self, query: str, target: Path) -> None:
        """The answer as a file: what a server does where a caller asks for :meth:`sql`."""
        late.to_file(self.rooms, query, target, None, served=self.serves)

    def sql_into(
        self,
        query: str,
        address: str,
        *,
        attach: Mapping[str, str] | None = None,
        message: str = "",
    ) -> Commit:
        """Commit the answer of a SELECT as one file."""
        return late.into(
            self.rooms,
            query,
            address,
            attach,
            message=message,
            author=self._author,
            served=self.serves,
        )

    def compare(
        self,
        old: str,
        new: str,
        *,
        paths: Sequence[str] = (),
        key: Sequence[str] = (),
        limit: int = 10,
        files: int = 100,
    ) -> list[FileDiff]:
        """What differs between two commits, and how."""
        return late.compare(self.rooms, old, new, paths=paths, key=key, limit=limit, files=files)
