"""Frames of pandas among those of other libraries: indexes, categories, several files."""

from __future__ import annotations

from typing import Annotated

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

ROWS = pd.DataFrame(
    {"carrier": ["UA", None, "AA", "UA", "UA"], "delay": [4.0, 1.0, None, 8.0, 2.0]}
)
FEWER = ROWS.dropna()
"""What filtering leaves: rows 0, 3 and 4, as its index tells."""


@pytest.fixture
def keep(repos, store):
    """Commit files; load them by annotation."""

    def keep(*files):
        tree = repos.commit("raw", dict(files), replace=True).tree
        paths = [info.path for info in repos.entries(tree)]
        return lambda annotation, **more: load_value(store, tree, paths, annotation, **more)

    return keep


def several(*frames, kind=None):
    return [dump_value(frame, f"v{at}", kind)[0] for at, frame in enumerate(frames)]


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        (pl.DataFrame, lambda frame: frame.columns),
        (pl.LazyFrame, lambda frame: frame.collect_schema().names()),
        (pa.Table, lambda table: table.column_names),
        (pa.RecordBatch, lambda batch: batch.schema.names),
        (duckdb.DuckDBPyRelation, lambda relation: relation.columns),
        (list[dict], lambda rows: list(rows[0])),
        (ds.Dataset, lambda found: found.to_table().column_names),
        (pa.RecordBatchReader, lambda reader: reader.read_all().column_names),
    ],
)
@pytest.mark.parametrize("files", [several(FEWER), several(FEWER, ROWS)], ids=["one", "two"])
def test_where_rows_stood_in_pandas_is_no_column_elsewhere(keep, tmp_path, kind, columns, files):
    assert columns(keep(*files)(kind, scratch=tmp_path / "here")) == ["carrier", "delay"]


def test_large_files_that_are_scanned_from_disk_have_no_such_column_either(
    keep, tmp_path, monkeypatch
):
    monkeypatch.setattr(of_polars, "SCANNED_BYTES", 1)
    monkeypatch.setattr(of_duckdb, "SCANNED_BYTES", 1)
    load = keep(
        *several(
            FEWER.rename(columns={"delay": 'the "delay"'}),
            FEWER.rename(columns={"delay": 'the "delay"'}),
        )
    )
    lazy = load(pl.LazyFrame, scratch=tmp_path / "a")
    assert lazy.collect().rows() == [("UA", 4.0), ("UA", 8.0), ("UA", 2.0)] * 2
    relation = load(duckdb.DuckDBPyRelation, scratch=tmp_path / "b")
    assert relation.columns == ["carrier", 'the "delay"']
    assert relation.fetchall() == [("UA", 4.0), ("UA", 8.0), ("UA", 2.0)] * 2


def test_pandas_itself_gets_its_index_back(keep):
    pd.testing.assert_frame_equal(keep(*several(FEWER))(pd.DataFrame), FEWER)


def test_an_array_of_a_table_has_its_columns_alone(keep):
    numbers = pd.DataFrame({"a": [1.0, np.nan, 3.0, 4.0]}).dropna()
    assert keep(*several(numbers))(np.ndarray).tolist() == [[1.0], [3.0], [4.0]]


def test_an_index_that_says_something_is_a_column_elsewhere(keep):
    by_name = ROWS.groupby("carrier").sum()
    unnamed = pd.DataFrame({"n": [1, 2]}, index=["x", "y"])
    assert keep(*several(by_name))(pl.DataFrame).columns == ["delay", "carrier"]
    assert keep(*several(unnamed))(pl.DataFrame).width == 2


def test_several_files_keep_an_index_that_says_something(keep):
    by_carrier = [ROWS.groupby("carrier").sum(), ROWS.tail(1).groupby("carrier").sum()]
    both = keep(*several(*by_carrier))(pd.DataFrame)
    assert both.groupby("carrier")["delay"].sum().to_dict() == {"AA": 0.0, "UA": 16.0}
    assert list(keep(*several(FEWER, FEWER))(pd.DataFrame).index) == list(range(6))


def test_files_of_which_some_have_an_index_are_not_one_table(keep):
    odd = ROWS.groupby("carrier").sum()
    with pytest.raises(Invalid) as caught:
        keep(*several(odd, odd.reset_index(drop=True)))(pd.DataFrame)
    assert caught.value.code == "files.differ"
    assert "the index carrier" in caught.value.message


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_formats_without_an_index_have_it_as_columns(keep, suffix):
    kind = Annotated[pd.DataFrame, suffix]
    for frame in (
        ROWS.groupby("carrier").sum(),
        ROWS.set_index(["carrier", "delay"]).assign(n=1),
        ROWS.set_index("carrier", drop=False),
        pd.DataFrame({"n": [1, 2]}, index=["x", "y"]),
    ):
        back = keep(*several(frame, kind=kind))(pd.DataFrame)
        names = [name for name in frame.index.names if name not in frame.columns]
        right = frame.reset_index(level=names) if names else frame.reset_index(drop=True)
        assert (back.isna() == right.isna()).all(axis=None)
        pd.testing.assert_frame_equal(  # pandas 2 has NaN or None for missing text, by the format
            back.where(back.notna(), np.nan), right.where(right.notna(), np.nan), check_dtype=False
        )
    plain = keep(*several(FEWER, kind=kind))(pd.DataFrame)
    assert list(plain.columns) == ["carrier", "delay"]


def test_categories_of_several_files_are_those_of_all(keep):
    first = pd.DataFrame({"c": pd.Categorical(["b", "a"])})
    second = pd.DataFrame({"c": pd.Categorical(["d", "a", None])})
    both = keep(*several(first, second))(pd.DataFrame)
    whole = pd.concat([first.astype(object), second.astype(object)], ignore_index=True)
    pd.testing.assert_frame_equal(both, whole.astype("category"), check_categorical=False)
    assert list(both["c"].cat.categories) == ["a", "b", "d"]


def test_ordered_categories_that_differ_are_not_put_into_one_order(keep):
    small = pd.CategoricalDtype(["low", "high"], ordered=True)
    other = pd.CategoricalDtype(["high", "low"], ordered=True)
    frames = [pd.DataFrame({"c": pd.Series(["low"], dtype=kind)}) for kind in (small, other)]
    assert keep(*several(frames[0], frames[0]))(pd.DataFrame)["c"].dtype == small
    assert not isinstance(keep(*several(*frames))(pd.DataFrame)["c"].dtype, pd.CategoricalDtype)
