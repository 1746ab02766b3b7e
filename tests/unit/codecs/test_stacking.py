"""Several files as one table: numbers go with numbers, text with text, nothing with all."""

from __future__ import annotations

import datetime
import io

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from clew.base.errors import Invalid
from clew.codecs import duckdb as of_duckdb
from clew.codecs import dump_value, load_value
from clew.codecs import polars as of_polars

FRAMES = [pl.DataFrame, pl.LazyFrame, pd.DataFrame, pa.Table, duckdb.DuckDBPyRelation]
SCANNED = [pl.LazyFrame, duckdb.DuckDBPyRelation, ds.Dataset, pa.RecordBatchReader]


@pytest.fixture
def keep(repos, store, tmp_path):
    """Commit files; load them by annotation."""

    def keep(*files):
        tree = repos.commit("raw", dict(files), replace=True).tree
        paths = [info.path for info in repos.entries(tree)]
        return lambda kind: load_value(store, tree, paths, kind, scratch=tmp_path / "scratch")

    return keep


def csv(*texts: str):
    return [(f"/{at}.csv", text.encode()) for at, text in enumerate(texts, 1)]


def parquet(*frames: pl.DataFrame):
    return [dump_value(frame, str(at))[0] for at, frame in enumerate(frames, 1)]


def column(table) -> list:
    """The values of column x, whatever holds it."""
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    if isinstance(table, ds.Dataset):
        table = table.to_table()
    if isinstance(table, pa.RecordBatchReader):
        table = table.read_all()
    if isinstance(table, duckdb.DuckDBPyRelation):
        table = table.to_arrow_table()
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False)
    values = table["x"]
    return values.to_list() if isinstance(values, pl.Series) else values.to_pylist()


@pytest.fixture
def on_disk(monkeypatch):
    monkeypatch.setattr(of_polars, "SCANNED_BYTES", 1)
    monkeypatch.setattr(of_duckdb, "SCANNED_BYTES", 1)


TEXTS = [
    (csv("x\n007\n2\n", "x\n3\nA12\n"), ["007", "2", "3", "A12"]),
    (csv("x\nunknown\n", "x\n1.50\n"), ["unknown", "1.50"]),
    (csv("x\ntrue\nfalse\n", "x\n1\n0\n"), ["true", "false", "1", "0"]),
    (csv("x\n2013-01-01\n", "x\nnever\n"), ["2013-01-01", "never"]),
    (csv("x,y\n1,1\n", "x,y\n,1\n", "x,y\nword,1\n"), ["1", None, "word"]),
]


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize(("files", "values"), TEXTS)
def test_what_is_text_in_one_file_of_csv_is_text_as_it_was_written_in_all(
    keep, kind, files, values
):
    assert column(keep(*files)(kind)) == values


MIXED = [
    [*csv("x\n1\n"), *parquet(pl.DataFrame({"x": [True]}))],
    [*csv("x\n1\n"), *parquet(pl.DataFrame({"x": ["1"]}))],
    [*csv("x\nA\n"), *parquet(pl.DataFrame({"x": [1]}))],
    parquet(pl.DataFrame({"x": [1]}), pl.DataFrame({"x": ["1"]})),
    parquet(pl.DataFrame({"x": ["a"]}, schema={"x": pl.Categorical}), pl.DataFrame({"x": [1.0]})),
    [*csv("x\n1\n"), ("/2.json", b'[{"x": "one"}]')],
]


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("files", MIXED)
def test_numbers_do_not_become_text_without_a_word(keep, kind, files):
    with pytest.raises(Invalid, match="the column x is ") as caught:
        column(keep(*files)(kind))
    assert caught.value.code == "files.differ"
    assert f" in {files[0][0]} and " in caught.value.message
    assert f" in {files[-1][0]}." in caught.value.message
    assert "list[...]" in caught.value.hint


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("kind", SCANNED)
def test_nor_do_they_where_files_are_scanned_from_disk(keep, kind):
    load = keep(*parquet(pl.DataFrame({"x": ["1"]}), pl.DataFrame({"x": [1]})))
    with pytest.raises(Invalid, match=r"x is \w+ in /1.parquet and [iI]nt64 in /2") as caught:
        column(load(kind))
    assert caught.value.code == "files.differ"


@pytest.mark.parametrize("kind", FRAMES)
def test_numbers_of_all_widths_are_one_column(keep, kind):
    files = csv("x\n1\n2\n", "x\n0.5\n")
    assert column(keep(*files)(kind)) == [1.0, 2.0, 0.5]
    widths = [pl.DataFrame({"x": [1]}, schema={"x": one}) for one in (pl.Int8, pl.UInt32, pl.Int64)]
    assert column(keep(*parquet(*widths))(kind)) == [1, 1, 1]


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("kind", SCANNED)
def test_so_they_are_where_files_are_scanned_from_disk(keep, kind):
    files = parquet(pl.DataFrame({"x": [1]}, schema={"x": pl.Int32}), pl.DataFrame({"x": [0.5]}))
    assert column(keep(*files)(kind)) == [1.0, 0.5]


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize(
    ("values", "right"),
    [
        ("1\n2\n", [1, 2]),
        ("0.5\n", [0.5]),
        ("a\nb\n", ["a", "b"]),
        ("true\nfalse\n", [True, False]),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_column_without_a_value_goes_with_any_other(keep, kind, values, right, first):
    empty, full = "x,y\n,1\n,1\n", "x,y\n" + "".join(f"{one},1\n" for one in values.split())
    files = csv(empty, full) if first else csv(full, empty)
    assert column(keep(*files)(kind)) == ([None, None, *right] if first else [*right, None, None])


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame, pa.Table])
def test_a_file_with_a_header_alone_adds_no_row_and_changes_no_type(keep, kind):
    assert column(keep(*csv("x\n1\n2\n", "x\n"))(kind)) == [1, 2]
    assert column(keep(*csv("x\n", "x\n1\n2\n"))(kind)) == [1, 2]


def test_without_a_value_in_any_file_it_keeps_its_type(keep):
    nothing = pl.DataFrame({"x": [None]}, schema={"x": pl.Int32})
    files = parquet(nothing, nothing.with_columns(x=pl.lit(None, pl.Int64)))
    assert keep(*files)(pl.DataFrame).schema["x"] == pl.Int64
    assert keep(*files)(pa.Table).schema.field("x").type == pa.int64()


def test_days_and_moments_go_together_and_not_with_text(keep):
    day = datetime.date(2026, 1, 2)
    files = csv("x\n2026-01-02\n", "x\n2026-01-02 03:04:05\n")
    assert column(keep(*files)(pl.DataFrame)) == [
        datetime.datetime(2026, 1, 2), datetime.datetime(2026, 1, 2, 3, 4, 5)
    ]  # fmt: skip
    files = parquet(pl.DataFrame({"x": [day]}), pl.DataFrame({"x": ["soon"]}))
    for kind in FRAMES:
        with pytest.raises(Invalid, match="the column x"):
            keep(*files)(kind)


def test_a_truth_with_gaps_is_no_text_of_pandas(keep):
    files = csv("x\ntrue\nfalse\n", "x,\ntrue,\n,\n".replace(",", ""))
    assert column(keep(*files)(pd.DataFrame))[:3] == [True, False, True]


def test_arrays_of_text_and_of_numbers_are_not_one_array(keep):
    def npy(values):
        sink = io.BytesIO()
        np.save(sink, np.array(values))
        return sink.getvalue()

    both = keep(("/1.npy", npy([1, 2])), ("/2.npy", npy([0.5])))
    assert both(np.ndarray).tolist() == [1.0, 2.0, 0.5]
    texts = keep(("/1.npy", npy(["a"])), ("/2.npy", npy(["longer"])))
    assert texts(np.ndarray).tolist() == ["a", "longer"]
    with pytest.raises(Invalid) as caught:
        keep(("/1.npy", npy([1, 2])), ("/2.npy", npy(["a"])))(np.ndarray)
    assert caught.value.code == "files.differ"
