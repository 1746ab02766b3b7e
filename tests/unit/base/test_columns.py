"""Which columns say nothing, and which are of a kind, however libraries write their types."""

from __future__ import annotations

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from clew.base.columns import NOTHING, is_row_place, kind_of, mixed

KINDS = {
    "number": [
        pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.decimal128(12, 2),
        pl.Int8, pl.UInt64, pl.Int128, pl.Float32, pl.Decimal(12, 2),
        "BIGINT", "UHUGEINT", "INTEGER", "DOUBLE", "int64", "Float64",
    ],
    "truth": [pa.bool_(), pl.Boolean, "BOOLEAN", "bool"],
    "text": [
        pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
        pl.String, pl.Categorical, pl.Enum(["a"]), "VARCHAR", "string",
    ],
    "moment": [
        pa.date32(), pa.timestamp("us", "UTC"), pl.Date, pl.Datetime("us", "UTC"), "DATE",
        "TIMESTAMP WITH TIME ZONE", "datetime64[ns, UTC]",
    ],
    "time of day": [pa.time64("ns"), pl.Time, "TIME"],
    "duration": [pa.duration("s"), pl.Duration("ms"), "timedelta64[ns]"],
    "bytes": [pa.binary(), pa.large_binary(), pl.Binary, "BLOB"],
    "list": [pa.list_(pa.int8()), pl.List(pl.Int8), pl.Array(pl.Int8, 2)],
    "record": [pa.struct({"a": pa.int8()}), pl.Struct({"a": pl.Int8})],
    NOTHING: [pa.null(), pl.Null],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "written"), [(kind, one) for kind, each in KINDS.items() for one in each], ids=str
)
def test_types_of_all_libraries_are_of_one_kind(kind, written):
    assert kind_of(written) == kind


@pytest.mark.parametrize("whole", [pa.int64(), pl.Int64, pa.uint8(), "BIGINT"], ids=str)
def test_where_rows_stood_is_told_by_name_and_whole_numbers(whole):
    assert is_row_place("__index_level_0__", whole)
    assert is_row_place("__index_level_12__", whole)
    assert not is_row_place("index_level_0", whole)
    assert not is_row_place("__index_level_0__x", whole)


def test_an_index_that_says_something_is_a_column():
    relation = duckdb.sql("SELECT INTERVAL 1 DAY AS a, 'x' AS b, 1.5 AS c")
    for kind in (*relation.types, pa.string(), pl.Date, pl.Float64):
        assert not is_row_place("__index_level_0__", kind)


def test_the_first_column_that_does_not_go_together_is_named_with_both_files():
    types = [{"a": pa.int8(), "b": pa.null()}, {"a": pa.float64(), "b": pa.string()}]
    assert mixed(["/1", "/2"], types) == ""
    odd = {"a": pa.string(), "b": pa.string()}
    assert mixed(["/1", "/2", "/3"], [*types, odd]) == (
        "the column a is int8 in /1 and string in /3"
    )
