"""A tabular file in a few numbers: rows, columns, types, nulls, bounds, distinct values.

Knows pyarrow and streams; nothing of where the file is kept. Of Parquet the footer is read, and the
columns only where the file is small enough to count distinct values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, BinaryIO

from clew.base.columns import is_row_place
from clew.base.errors import Invalid
from clew.base.records import ColumnProfile

FORMATS = {
    ".parquet": "Parquet",
    ".csv": "CSV",
    ".feather": "Arrow",
    ".arrow": "Arrow",
    ".ipc": "Arrow",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
}
"""Suffixes of files that can be described."""

COUNTED_BYTES = 64 << 20
"""Parquet files up to this size are read to count distinct values."""

MOST_DISTINCT = 100_000
"""Beyond so many different values a column's are not counted any further."""

_TEXT = 200


def describe(stream: BinaryIO, suffix: str, size_bytes: int) -> tuple[int, list[ColumnProfile]]:
    """Rows and columns of a file of one of the ``FORMATS``.

    Raises:
        Invalid: ``file.unreadable`` where it is not what its suffix says.
    """
    arrow = import_module("pyarrow")
    try:
        if suffix == ".parquet":
            return _parquet(stream, size_bytes)
        schema, batches = _batches(stream, suffix)
        columns = [_Column(field.name, str(field.type)) for field in schema]
        rows = _count(columns, batches)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise Invalid(
            "file.unreadable",
            f"The file is not readable as {FORMATS[suffix]}: {reason}.",
            hint="Look at the file, and commit one that can be read in its place.",
        ) from error
    return rows, _profiles(columns)


def _profiles(columns: Sequence[_Column]) -> list[ColumnProfile]:
    return [one.profile() for one in columns if not is_row_place(one.name, one.type)]


def _parquet(stream: BinaryIO, size_bytes: int) -> tuple[int, list[ColumnProfile]]:
    file = import_module("pyarrow.parquet").ParquetFile(stream)
    schema, footer = file.schema_arrow, file.metadata
    columns = [_Column(field.name, str(field.type)) for field in schema]
    if size_bytes <= COUNTED_BYTES:
        _count(columns, file.iter_batches())
        return footer.num_rows, _profiles(columns)
    leaves = {footer.schema.column(at).path: at for at in range(footer.num_columns)}
    kept = [one for one in columns if not is_row_place(one.name, one.type)]
    return footer.num_rows, [_of_footer(column, footer, leaves) for column in kept]


def _of_footer(column: _Column, footer: Any, leaves: dict[str, int]) -> ColumnProfile:
    at = leaves.get(column.name)
    groups = range(footer.num_row_groups)
    found = [] if at is None else [footer.row_group(g).column(at).statistics for g in groups]
    if not found or any(one is None for one in found):
        return ColumnProfile(name=column.name, type=column.type)
    bounded = all(one.has_min_max for one in found)
    nulls = all(one.has_null_count for one in found)
    return ColumnProfile(
        name=column.name,
        type=column.type,
        nulls=sum(one.null_count for one in found) if nulls else None,
        low=_text(min(one.min for one in found)) if bounded else None,
        high=_text(max(one.max for one in found)) if bounded else None,
    )


def _batches(stream: BinaryIO, suffix: str) -> tuple[Any, Iterator[Any]]:
    if suffix == ".csv":
        table = import_module("pyarrow.csv").read_csv(stream)
    elif FORMATS[suffix] == "JSON lines":
        table = import_module("pyarrow.json").read_json(stream)
    else:
        return _ipc(stream)
    return table.schema, iter(table.to_batches())


def _ipc(stream: BinaryIO) -> tuple[Any, Iterator[Any]]:
    ipc = import_module("pyarrow.ipc")
    is_file = stream.read(6) == b"ARROW1"
    stream.seek(0)
    if not is_file:
        reader = ipc.open_stream(stream)
        return reader.schema, iter(reader)
    reader = ipc.open_file(stream)
    return reader.schema, (reader.get_batch(at) for at in range(reader.num_record_batches))


def _count(columns: list[_Column], batches: Iterator[Any]) -> int:
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        for column, values in zip(columns, batch.columns, strict=True):
            column.add(values)
    return rows


class _Column:
    """What is known of a column after some of its values."""

    def __init__(self, name: str, type: str) -> None:
        self.name = name
        self.type = type
        self._nulls = 0
        self._low: Any = None
        self._high: Any = None
        self._bounded = True
        self._values: Any = None
        self._counted = True

    def add(self, values: Any) -> None:
        self._nulls += values.null_count
        self._bound(values)
        self._distinguish(values)

    def profile(self) -> ColumnProfile:
        return ColumnProfile(
            name=self.name,
            type=self.type,
            nulls=self._nulls,
            low=_text(self._low) if self._bounded else None,
            high=_text(self._high) if self._bounded else None,
            distinct=self._distinct() if self._counted else None,
        )

    def _bound(self, values: Any) -> None:
        if not self._bounded:
            return
        arrow = import_module("pyarrow")
        compute = import_module("pyarrow.compute")
        try:
            found = compute.min_max(_dense(values))
        except arrow.ArrowNotImplementedError:  # lists, structs
            self._bounded = False
            return
        low, high = found["min"].as_py(), found["max"].as_py()
        if low is not None:
            self._low = low if self._low is None else min(self._low, low)
            self._high = high if self._high is None else max(self._high, high)

    def _distinguish(self, values: Any) -> None:
        if not self._counted:
            return
        arrow = import_module("pyarrow")
        try:
            fresh = _dense(values).drop_null().unique()
            known = fresh if self._values is None else arrow.concat_arrays([self._values, fresh])
            self._values = known.unique()
        except arrow.ArrowNotImplementedError:
            self._counted = False
            return
        if len(self._values) > MOST_DISTINCT:
            self._counted, self._values = False, None

    def _distinct(self) -> int:
        return 0 if self._values is None else len(self._values)


def _dense(values: Any) -> Any:
    """Values of a dictionary column written out, as each batch may have a dictionary of its own."""
    types = import_module("pyarrow.types")
    return values.dictionary_decode() if types.is_dictionary(values.type) else values


def _text(value: Any) -> str | None:
    """A value for people, cut where it is long."""
    if value is None:
        return None
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= _TEXT else text[:_TEXT] + "…"
