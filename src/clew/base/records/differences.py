"""Records of how two versions of files differ: rows and columns, or lines.

Plain values that travel between rooms and over the wire. Cells are what JSON has: times are ISO
8601, decimals and what JSON has no type for are text.
"""

from __future__ import annotations

from msgspec import Struct

from clew.base.records.data import FileInfo


class ColumnChange(Struct, frozen=True, kw_only=True):
    """A column that only one side has, or that has another type. ``kind``: added, removed, retyped.

    ``old`` and ``new`` are DuckDB's names of the types ('' where the column is not).
    """

    name: str
    kind: str
    old: str
    new: str


class NumbersChange(Struct, frozen=True, kw_only=True):
    """A column of numbers that differs as a whole: ``count`` (of values), ``nulls``, ``mean``,
    ``min`` and ``max`` before and after.
    """

    name: str
    old: dict[str, float | None]
    new: dict[str, float | None]


class RowChange(Struct, frozen=True, kw_only=True):
    """One row. ``kind``: added, removed or changed; ``key`` is empty where none was given.

    Of a changed row ``old`` and ``new`` have the cells that differ; else the side that has the row
    has all cells.
    """

    kind: str
    key: dict[str, object]
    old: dict[str, object]
    new: dict[str, object]


class TableDiff(Struct, frozen=True, kw_only=True):
    """How two tables differ, by the columns that both have.

    With a ``key`` a row is its key, and ``cells`` has for each column in how many rows it changed.
    Without one a row is all its cells: it is added or removed, never changed. ``sample`` has some
    rows of each kind.
    """

    old_rows: int
    new_rows: int
    added: int
    removed: int
    changed: int
    key: tuple[str, ...]
    columns: tuple[ColumnChange, ...]
    cells: dict[str, int]
    numbers: tuple[NumbersChange, ...]
    sample: tuple[RowChange, ...]


class TextDiff(Struct, frozen=True, kw_only=True):
    """How two texts differ: lines added and removed, and a unified diff (``cut``: its beginning).

    Where they are too different to be compared line by line, ``text`` is ''.
    """

    added: int
    removed: int
    text: str
    cut: bool


class FileDiff(Struct, frozen=True, kw_only=True):
    """A path that differs (as in ``Change``), and how: as a table, as text, or ``note`` why not."""

    path: str
    kind: str
    old: FileInfo | None
    new: FileInfo | None
    table: TableDiff | None = None
    text: TextDiff | None = None
    note: str = ""
