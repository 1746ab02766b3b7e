"""The beginning of a file, for a person to look at: rows of a table, or lines of text.

The one file of this room that knows pyarrow, imported when the first table is shown.
"""

from __future__ import annotations

import io
import itertools
from typing import Any

from msgspec import Struct

from clew.base.columns import is_row_place
from clew.base.records import FileInfo
from clew.server.web.evidence import Table

_ROWS = 20
_COLUMNS = 40
_LARGEST = 64 << 20
_TEXT_BYTES = 20_000
_TABLES = (".parquet", ".feather", ".arrow")


class Preview(Struct, frozen=True, kw_only=True):
    """What can be shown of a file: a table with its row count, or text, or why neither."""

    table: Table | None = None
    types: tuple[str, ...] = ()
    rows: int | None = None
    hidden_columns: int = 0
    text: str = ""
    cut: bool = False
    why_not: str = ""


def can_show(info: FileInfo) -> bool:
    """Whether a file is small enough to be read for a look."""
    return info.size_bytes <= _LARGEST


def preview(path: str, content: bytes) -> Preview:
    """The first rows of a Parquet or Arrow file, the first lines of text."""
    if path.endswith(_TABLES):
        return _table(path, content)
    try:
        text = content[:_TEXT_BYTES].decode()
    except UnicodeDecodeError as error:
        if error.start < min(len(content), _TEXT_BYTES) - 4:
            return Preview(why_not="The file is neither a table nor text.")
        text = content[: error.start].decode()
    if "\0" in text:
        return Preview(why_not="The file is neither a table nor text.")
    return Preview(text=text, cut=len(content) > _TEXT_BYTES)


def _table(path: str, content: bytes) -> Preview:
    import pyarrow  # noqa: PLC0415 - heavy, and needed by this page alone

    try:
        frame, rows = _read(path, content)
    except (pyarrow.ArrowInvalid, OSError) as error:
        return Preview(why_not=f"The table cannot be read: {error}")
    frame = frame.select(
        [at for at, one in enumerate(frame.schema) if not is_row_place(one.name, one.type)]
    )
    shown = frame.select(range(min(_COLUMNS, frame.num_columns)))
    return Preview(
        table=Table(
            columns=tuple(shown.column_names),
            rows=tuple(tuple(row.values()) for row in shown.to_pylist()),
        ),
        types=tuple(str(field.type) for field in shown.schema),
        rows=rows,
        hidden_columns=frame.num_columns - shown.num_columns,
    )


def _read(path: str, content: bytes) -> tuple[Any, int]:
    """The first rows as an Arrow table, and how many rows there are in all."""
    import pyarrow  # noqa: PLC0415 - as above
    from pyarrow import feather, parquet  # noqa: PLC0415 - as above

    if not path.endswith(".parquet"):
        whole = feather.read_table(io.BytesIO(content))
        return whole.slice(0, _ROWS), whole.num_rows
    file = parquet.ParquetFile(io.BytesIO(content))
    batches = list(itertools.islice(file.iter_batches(batch_size=_ROWS), 1))
    return pyarrow.Table.from_batches(batches, schema=file.schema_arrow), file.metadata.num_rows
