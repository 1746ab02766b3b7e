"""Columns of the prediction log as Parquet, and rows of it back.

Knows nothing of spools or commits; the only file of this room that knows pyarrow.
"""
# ruff: noqa: PLC0415 - pyarrow is heavy and the door stays cheap

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, BinaryIO

from clew.serving.columns import IN, Columns

_GROUP_ROWS = 16_384
_NAMED = {
    "bool": "bool_", "string": "string", "large_string": "string",
    "double": "float64", "float": "float32", "halffloat": "float32",
}  # fmt: skip
_SAME = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def write(columns: Columns) -> bytes:
    """A Parquet file. Inputs have the types of the signature, outputs those of their values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = _types(columns, pa)
    arrays = {name: _array(values, types.get(name), pa) for name, values in columns.values.items()}
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays), sink, compression="zstd", row_group_size=_GROUP_ROWS)
    return sink.getvalue()


def _types(columns: Columns, pa: Any) -> dict[str, Any]:
    types = {
        "at": pa.timestamp("us", tz="UTC"),
        "row": pa.int32(),
        "status": pa.int16(),
        "error": pa.string(),
    }
    if columns.signature.frame == "numpy":
        return types
    for column in columns.signature.inputs:
        name = column.type if column.type in _SAME else _NAMED.get(column.type)
        if name:
            types[IN + column.name] = getattr(pa, name)()
    return types


def _array(values: list[object], kind: Any, pa: Any) -> Any:
    if kind is None and all(value is None for value in values):
        kind = pa.string()
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowException, OverflowError):
        # a model that answers now with this, now with that type: as text, so that nothing is lost
        return pa.array([None if value is None else str(value) for value in values])


def rows_of_ids(file: BinaryIO, low: str, high: str) -> list[dict[str, object]]:
    """Rows whose id lies from ``low`` to ``high``, in their order; ``at`` in microseconds."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found = pq.read_table(file, filters=(pc.field("id") >= low) & (pc.field("id") <= high))
    return _rows(found)


def last_rows(file: BinaryIO, ids: int) -> list[dict[str, object]]:
    """Rows of the greatest ``ids`` ids of a file."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    last = sorted(set(table.column("id").to_pylist()))[-ids:]
    return _rows(table.filter(pc.field("id") >= last[0]))


def _rows(table: Any) -> list[dict[str, object]]:
    import pyarrow as pa

    at = table.schema.get_field_index("at")
    plain = table.set_column(at, "at", table.column("at").cast(pa.int64()))
    rows: Sequence[dict[str, object]] = plain.to_pylist()
    return sorted(rows, key=lambda row: (str(row["id"]), int(str(row["row"]))))
