"""The verbs about tables: SQL over commits, and how two versions of files differ.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from clew.base.records import Commit, FileDiff

if TYPE_CHECKING:
    import pyarrow as pa


class TableVerbs(Protocol):
    """Questions to what is in tabular files."""

    def sql(self, query: str, *, attach: Mapping[str, str] | None = None) -> pa.Table:
        """The answer of one SELECT over commits, as an Arrow table.

        A table is a repo (``flights``, ``"late-flights".flights``), an address
        (``"late-flights/flights@main^1:/2013-*.parquet"``, also in ``clew('…')``), or
        ``flights AT (VERSION => 'ref')``. ``attach`` gives names to sources outside: files,
        directories, SQLite files, ``postgresql://`` and ``mysql://``; a server refuses it.

        Raises Invalid ``sql.…``, NotFound ``sql.table_unknown``, Denied ``sql.function``,
        ``sql.attach_denied``, Unavailable ``sql.timeout``, ``sql.memory``.
        """
        ...

    def sql_into(
        self,
        query: str,
        address: str,
        *,
        attach: Mapping[str, str] | None = None,
        message: str = "",
    ) -> Commit:
        """Commit the answer as a file, ``repo@branch:/file.parquet`` (or .csv, .arrow).

        The provenance of the commit are the commits that the query read.
        """
        ...

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
        """What ``diff`` lists, with how each file differs: rows and columns, or lines.

        ``paths`` (files, directories) choose; ``key`` are columns that name a row; ``limit``
        bounds the rows that are shown of each kind, ``files`` the files that are looked into.

        Raises Invalid ``diff.key``, ``diff.key_twice``.
        """
        ...
