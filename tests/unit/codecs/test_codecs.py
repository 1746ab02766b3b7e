from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather

from clew.base.errors import Invalid, NotFound
from clew.codecs import dump_value, load_value
from clew.repos import File

FRAME = pl.DataFrame({"a": [1, 2, None], "b": ["x", "ü", None], "c": [0.5, float("nan"), -1.0]})


@pytest.fixture
def keep(repos, store):
    """Commit files; load them by annotation."""

    def keep(*files):
        tree = repos.commit("raw", dict(files), replace=True).tree
        paths = [info.path for info in repos.entries(tree)]
        return lambda annotation=None, **more: load_value(store, tree, paths, annotation, **more)

    return keep


def code_of(act, *arguments, **more):
    with pytest.raises(Invalid) as caught:
        act(*arguments, **more)
    return caught.value.code


def through(keep, value, annotation=None, **more):
    return keep(*dump_value(value, "v"))(annotation or type(value), **more)


# there and back -------------------------------------------------------------------------------


def test_a_polars_frame_comes_back_equal(keep):
    frame = FRAME.with_columns(
        pl.lit("2013-07-01").str.to_datetime().alias("t"),
        pl.Series("cat", ["x", "y", "x"], dtype=pl.Categorical),
        pl.Series("enum", ["x", "y", "x"], dtype=pl.Enum(["y", "x"])),
        pl.Series("list", [[1], [], [2, 3]]),
        pl.Series("struct", [{"k": 1}, {"k": 2}, None]),
    )
    back = through(keep, frame)
    assert back.equals(frame)
    assert back.schema == frame.schema
    assert through(keep, frame.lazy(), pl.LazyFrame).collect().equals(frame)


def test_a_pandas_frame_comes_back_with_its_index(keep):
    frame = pd.DataFrame(
        {"n": [1, 2, 3], "c": pd.Categorical(["x", "y", "x"])},
        index=pd.Index(list("pqr"), name="i"),
    )
    pd.testing.assert_frame_equal(through(keep, frame), frame)
    plain = pd.DataFrame({"n": [1.5, None], "s": ["a", "b"]})
    pd.testing.assert_frame_equal(through(keep, plain), plain)


def test_arrow_tables_and_duckdb_relations_come_back_equal(keep):
    table = pa.table({"a": [1, None], "s": ["x", "y"]})
    assert through(keep, table) == table
    relation = duckdb.connect().sql("select 1 as a, 'x' as s union all select 2, 'y' order by a")
    back = through(keep, relation, duckdb.DuckDBPyRelation)
    assert back.order("a").fetchall() == [(1, "x"), (2, "y")]


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.array(["a", "b"]), np.array(5), np.array([], "i4")]
)
def test_a_numpy_array_comes_back_equal(keep, array):
    back = through(keep, array)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "value", [b"\x00\xff", "tëxt", {"b": [1, None, {"a": 0.5}]}, [1, 2], 7, 0.25, True]
)
def test_bytes_text_and_json_values_come_back_equal(keep, value):
    assert through(keep, value) == value


def test_files_have_the_suffix_of_their_type():
    for value, path in (
        (FRAME, "/v.parquet"),
        (np.zeros(1), "/v.npy"),
        (b"", "/v.bin"),
        ("", "/v.txt"),
        ({}, "/v.json"),
        (np.float64(1.5), "/v.json"),
    ):
        assert [file for file, _ in dump_value(value, "v")] == [path]
    assert dump_value(None, "v") == []


def test_several_frames_become_one_file_each(keep):
    parts = {"train": FRAME, "test": FRAME.head(1)}
    files = dump_value(parts, "split")
    assert [path for path, _ in files] == ["/split/train.parquet", "/split/test.parquet"]
    back = keep(*files)(dict[str, pl.DataFrame])
    assert {key: frame.height for key, frame in back.items()} == {"split/train": 3, "split/test": 1}
    assert [path for path, _ in dump_value((FRAME, b"x", "y"), "v")] == [
        "/v/0.parquet", "/v/1.bin", "/v/2.txt"
    ]  # fmt: skip
    assert [path for path, _ in dump_value({"a": [1, b"x"], "n": 1}, "v")] == [
        "/v/a/0.json", "/v/a/1.bin", "/v/n.json"
    ]  # fmt: skip


def test_a_path_keeps_the_file_or_all_below_the_directory(tmp_path):
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "a.txt").write_bytes(b"1")
    (tmp_path / "out" / "sub" / "b.txt").write_bytes(b"2")
    assert dump_value(tmp_path / "out", "v") == [
        ("/a.txt", tmp_path / "out" / "a.txt"),
        ("/sub/b.txt", tmp_path / "out" / "sub" / "b.txt"),
    ]
    assert dump_value(tmp_path / "out" / "a.txt", "v") == [("/a.txt", tmp_path / "out" / "a.txt")]
    assert code_of(dump_value, tmp_path / "none", "v") == "value.no_file"


# the same value, the same bytes -----------------------------------------------------------------


def test_equal_frames_give_equal_bytes_however_they_were_made():
    whole = pl.DataFrame({"a": range(1000), "s": [str(n % 7) for n in range(1000)]})
    chunked = pl.concat([whole[:300], whole[300:]], rechunk=False)
    assert dump_value(chunked, "v") == dump_value(whole, "v") == dump_value(whole.lazy(), "v")
    table = whole.to_arrow()
    pieces = pa.concat_tables([table.slice(0, 10), table.slice(10)])
    assert dump_value(pieces, "v") == dump_value(table, "v")
    assert dump_value({"b": 1, "a": 2}, "v") == dump_value({"a": 2, "b": 1}, "v")


CATEGORICAL = """
import sys
import polars as pl
from clew.codecs import dump_value
before = pl.Series(sys.argv[1].split(","), dtype=pl.Categorical)
frame = pl.DataFrame({"c": pl.Series(["m", "k", "m", None], dtype=pl.Categorical)})
sys.stdout.buffer.write(dump_value(frame, "v")[0][1])
"""


def test_equal_frames_give_equal_bytes_in_every_process():
    made = [
        subprocess.run([sys.executable, "-c", CATEGORICAL, seen], check=True, capture_output=True)
        for seen in (
            "a,b,c",
            "k,z,m",
        )  # what a process saw before must not show in its categoricals
    ]
    assert made[0].stdout == made[1].stdout


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.text(max_size=5)), max_size=30))
def test_any_frame_gives_the_same_bytes_twice(rows):
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "s": pl.String}, orient="row")
    assert dump_value(frame, "v") == dump_value(frame.clone(), "v")


# what an annotation says ------------------------------------------------------------------------


@pytest.fixture
def two(keep):
    return keep(("/1.csv", b"a,s\n1,x\n"), ("/2.csv", b"a,s\n2.5,y\n"))


@pytest.mark.parametrize(
    "kind", [pl.DataFrame, pd.DataFrame, "pl.DataFrame", Annotated[pl.DataFrame, "x"], None, Any]
)
def test_several_files_are_one_frame(two, kind):
    assert list(two(kind)["a"]) == [1.0, 2.5]


@pytest.mark.parametrize("kind", [Optional[pl.DataFrame], pl.DataFrame | None])  # noqa: UP045 - both
def test_an_optional_type_is_that_type(two, kind):
    assert two(kind).columns == ["a", "s"]


def test_every_frame_library_reads_every_table_format(keep, tmp_path):
    frame = pl.DataFrame({"a": [1, 2], "s": ["x", "y"]})
    feather.write_feather(frame.to_arrow(), tmp_path / "f")
    files = {
        "/t.parquet": dump_value(frame, "v")[0][1],
        "/t.csv": frame.write_csv().encode(),
        "/t.json": frame.write_json().encode(),
        "/t.jsonl": frame.write_ndjson().encode(),
        "/t.feather": (tmp_path / "f").read_bytes(),
        "/T.CSV": frame.write_csv().encode(),
    }
    for file in files.items():
        load = keep(file)
        assert load(pl.DataFrame).rows() == [(1, "x"), (2, "y")], file[0]
        assert load(pl.LazyFrame).collect().rows() == [(1, "x"), (2, "y")]
        assert load(pd.DataFrame).to_dict("list") == {"a": [1, 2], "s": ["x", "y"]}
        assert load(pa.Table).to_pydict() == {"a": [1, 2], "s": ["x", "y"]}
        assert load(duckdb.DuckDBPyRelation).fetchall() == [(1, "x"), (2, "y")]
        assert load(np.ndarray).tolist() == [[1, "x"], [2, "y"]]


def test_a_list_is_one_value_for_each_file(two, keep):
    assert [frame["a"][0] for frame in two(list[pl.DataFrame])] == [1, 2.5]
    assert two(list[bytes]) == [b"a,s\n1,x\n", b"a,s\n2.5,y\n"]
    assert two(tuple[str, ...]) == ("a,s\n1,x\n", "a,s\n2.5,y\n")
    assert sorted(two(dict[str, bytes])) == ["1", "2"]
    assert keep(("/a.json", b"[1, 2]"))(list[int]) == [1, 2]
    assert keep(("/a.json", b'{"k": 1}'))(dict[str, int]) == {"k": 1}


def test_how_json_arrives_follows_from_the_annotation_and_never_from_the_number_of_files(
    store, keep
):
    one, other = ("/a.json", b'{"k": 1}'), ("/b.json", b'{"k": 2}')
    for files, values in (([one], ({"k": 1},)), ([one, other], ({"k": 1}, {"k": 2}))):
        assert keep(*files)(tuple[dict, ...]) == values
        assert keep(*files)(tuple[dict[str, int], ...]) == values
    assert keep(one)(dict[str, int]) == {"k": 1}
    assert code_of(keep(one, other), dict[str, int]) == "input.many_files"
    assert keep(("/p.json", b"[1, 2]"))(tuple[int, int]) == (1, 2)


def test_nothing_to_load_is_an_empty_list_but_no_frame(store):
    from clew.store import EMPTY_TREE  # noqa: PLC0415 - this test alone needs it

    assert load_value(store, EMPTY_TREE, [], list[pl.DataFrame]) == []
    assert code_of(load_value, store, EMPTY_TREE, [], pl.DataFrame) == "input.empty"


def test_a_file_is_named_at_once_and_read_when_asked(two, keep):
    first, second = two(list[File])
    assert (first.path, first.name, first.stem, first.suffix, first.size) == (
        "/1.csv", "1.csv", "1", ".csv", 8
    )  # fmt: skip
    assert second.read() == b"a,s\n2.5,y\n"
    with second.open() as stream:
        stream.seek(4)
        assert stream.read(3) == b"2.5"
    assert code_of(two, File) == "input.many_files"
    assert keep(*dump_value(first, "copy"))(File).path == "/copy.csv"


def test_a_path_is_the_file_or_the_directory_of_all(two, keep, tmp_path):
    assert two(Path, scratch=tmp_path) == tmp_path
    assert (tmp_path / "2.csv").read_bytes() == b"a,s\n2.5,y\n"
    one = keep(("/d/x.bin", b"x"))
    assert one(Path, scratch=tmp_path) == tmp_path / "d" / "x.bin"
    assert one(Path, scratch=tmp_path, directory=True) == tmp_path
    each = two(list[Path], scratch=tmp_path, directory=True)
    assert all(path.is_file() for path in each), "a list has a file for each, never the directory"
    assert code_of(one, Path) == "codec.scratch"


def test_without_an_annotation_the_suffix_decides(keep, two):
    assert isinstance(two(), pl.DataFrame)
    assert keep(("/a.json", b'{"k": [1]}'))() == {"k": [1]}
    assert keep(("/a.bin", b"x"))() == b"x"
    assert keep(("/a.bin", b"x"), ("/b.json", b"1"))() == [b"x", 1]


def test_numpy_files_are_joined_along_the_first_axis(keep):
    files = [dump_value(np.ones((n, 2)), str(n))[0] for n in (1, 2)]
    assert keep(*files)(np.ndarray).shape == (3, 2)


# what cannot be ---------------------------------------------------------------------------------

BAD = [
    ("/x.parquet", b"not parquet", pl.DataFrame, "Parquet"),
    ("/x.parquet", b"", pd.DataFrame, "Parquet"),
    ("/x.parquet", b"PAR1xxxxPAR1", pa.Table, "Parquet"),
    ("/x.csv", b"", pl.DataFrame, "CSV"),
    ("/x.json", b"{", dict, "JSON"),
    ("/x.json", b"[1]", dict, "a JSON dict"),
    ("/x.json", b"\xff", None, "JSON"),
    ("/x.npy", b"\x00", np.ndarray, "NPY"),
    ("/x.feather", b"ARROW1", pl.DataFrame, "Arrow"),
    ("/x.txt", b"\xff", str, "UTF-8"),
]


@pytest.mark.parametrize(("path", "data", "kind", "said"), BAD)
def test_a_bad_file_is_named_with_its_format_and_the_reason(keep, path, data, kind, said):
    with pytest.raises(Invalid) as caught:
        keep((path, data))(kind)
    assert caught.value.code == "file.unreadable"
    assert path in caught.value.message
    assert said in caught.value.message


def test_a_file_that_holds_no_table_is_said(keep):
    assert code_of(keep(("/x.txt", b"x")), pl.DataFrame) == "file.unreadable"
    assert code_of(keep(("/x", b"x")), pd.DataFrame) == "file.unreadable"


@pytest.mark.parametrize("kind", [pl.DataFrame, pd.DataFrame, pa.Table])
def test_files_that_are_not_one_table_are_said(keep, kind):
    load = keep(("/1.csv", b"a\n1\n"), ("/2.csv", b"b\n1\n"))
    assert code_of(load, kind) == "files.differ"


def test_a_file_that_is_not_there_is_said(store, repos):
    tree = repos.commit("raw", {"/a": b""}).tree
    with pytest.raises(NotFound) as caught:
        load_value(store, tree, ["/b"], bytes)
    assert caught.value.code == "file.unknown"


def test_a_type_without_a_codec_is_said(keep):
    class Odd:
        pass

    assert code_of(keep(("/a", b"")), Odd) == "codec.unknown"
    assert code_of(dump_value, Odd(), "v") == "value.unknown"
    assert code_of(dump_value, {"a": Odd()}, "v") == "value.not_json"
    assert code_of(dump_value, np.array([object()]), "v") == "value.objects"
    assert code_of(dump_value, pd.DataFrame({"a": [1, "x"]}), "v") == "value.not_parquet"


LIGHT = """
import sys
import clew.codecs, clew.repos, clew.lineage, clew.db
heavy = {"polars", "pandas", "pyarrow", "duckdb", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_doors_import_no_table_library():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)
