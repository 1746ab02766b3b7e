"""Columns of the prediction log as Parquet, and rows of it back.

Knows nothing of spools or commits; the only file of this room that knows pyarrow.
"""
# ruff: noqa: PLC0415 - pyarrow is heavy and the door stays cheap

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from clew.serving.columns import IN, OUT, Columns

_GROUP_ROWS = 16_384
_NAMED = {
    "bool": "bool_", "string": "string", "large_string": "string",
    "double": "float64", "float": "float32", "halffloat": "float32",
}  # fmt: skip
JOINED = (
    "id", "row", "at", "endpoint", "revision", "model_version", "global_id", "status", "arm",
    "propensity", "unit",
)  # fmt: skip
FEEDBACK = (
    "id", "row", "name", "label", "reward", "correct", "error", "predicted_at", "at", "endpoint",
    "revision", "model_version", "global_id", "arm", "propensity", "unit", "log_commit",
)  # fmt: skip
"""Columns of the repo of feedback. ``label`` is JSON; ``log_commit`` holds the prediction."""
_UNLIKE = {"id", "at", "latency_ms"}
"""Columns whose values are all different, or nearly."""
_SAMPLE = 1024
_SAME = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def write(columns: Columns) -> bytes:
    """A Parquet file. Inputs have the types of the signature, outputs those of their values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = _types(columns, pa)
    block = {name: _block(values, pa) for name, values in columns.last.items()}
    arrays = {}
    for name in sorted([*columns.values, *(block.keys() - columns.values)], key=columns.place):
        last = block.get(name)
        if last is None:
            arrays[name] = _array(columns.values[name], types.get(name), pa)
            continue
        values = columns.values.get(name, [None] * (columns.rows - len(last)))
        above = _array(values, last.type, pa)
        arrays[name] = (
            pa.chunked_array([above, last])
            if above.type == last.type
            else _array(values + last.to_pylist(), None, pa)
        )
    sink, table = io.BytesIO(), pa.table(arrays)
    repeated = [_path(name, table, pa) for name in arrays if _repeats(name, columns)]
    pq.write_table(
        table, sink, compression="zstd", row_group_size=_GROUP_ROWS, use_dictionary=repeated
    )
    return sink.getvalue()


def _repeats(name: str, columns: Columns) -> bool:
    """Whether a dictionary of its values pays: looking for one costs more than writing numbers that
    are all different. A sample tells.
    """
    if name not in columns.last:
        return name not in _UNLIKE
    flat = columns.last[name].ravel()
    sample = flat[:: max(1, len(flat) // _SAMPLE)]
    return len(np.unique(sample)) <= 0.75 * len(sample)


def _path(name: str, table: Any, pa: Any) -> str:
    """What Parquet calls a column: that of a list is below it."""
    return f"{name}.list.element" if pa.types.is_list(table.field(name).type) else name


def _block(values: Any, pa: Any) -> Any:
    """One value a row, or (of a matrix) one list of them."""
    if values.ndim == 1:
        return pa.array(values)
    rows, width = values.shape
    ends = pa.array(range(0, rows * width + 1, width), pa.int32())
    return pa.ListArray.from_arrays(ends, values.ravel())


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
    first = values[0] if values else None
    alike = values.count(first) == len(values)
    if kind is None and first is None and alike:
        kind = pa.string()
    if alike and (first is None or (kind is None and isinstance(first, str))):
        return pa.repeat(pa.scalar(first, kind or pa.string()), len(values))
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


def answers_of(file: BinaryIO, ids: Collection[str]) -> list[dict[str, object]]:
    """What feedback is joined to: rows of these ids, with who answered and the outputs."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    whole = pq.ParquetFile(file)
    wanted = [name for name in whole.schema_arrow.names if name in JOINED or name.startswith(OUT)]
    table = whole.read(columns=wanted)
    rows = table.filter(pc.is_in(table.column("id"), pa.array(list(ids), pa.string())))
    found: list[dict[str, object]] = rows.to_pylist()
    return found


def ids_in(file: BinaryIO, ids: Collection[str]) -> set[str]:
    """Those of some ids that a file of the log holds."""
    import pyarrow.parquet as pq

    held = pq.read_table(file, columns=["id"]).column("id").to_pylist()
    return set(ids).intersection(held)


def write_feedback(rows: Sequence[Mapping[str, object]]) -> bytes:
    """A Parquet file of feedback, one row each; times in microseconds since the Unix epoch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    moment = pa.timestamp("us", tz="UTC")
    kinds = {
        "row": pa.int32(), "propensity": pa.float64(), "reward": pa.float64(),
        "correct": pa.int8(), "error": pa.float64(), "predicted_at": moment, "at": moment,
    }  # fmt: skip
    columns = {
        name: pa.array([row[name] for row in rows], kinds.get(name, pa.string()))
        for name in FEEDBACK
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd", row_group_size=_GROUP_ROWS)
    return sink.getvalue()


def _rows(table: Any) -> list[dict[str, object]]:
    import pyarrow as pa

    at = table.schema.get_field_index("at")
    plain = table.set_column(at, "at", table.column("at").cast(pa.int64()))
    rows: Sequence[dict[str, object]] = plain.to_pylist()
    return sorted(rows, key=lambda row: (str(row["id"]), int(str(row["row"]))))
