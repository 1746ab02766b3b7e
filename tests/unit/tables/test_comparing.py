"""How two versions of a file differ: rows, cells and columns of tables, lines of texts."""

import difflib
import io
import random

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.repos import File
from clew.store import Store
from clew.tables import compare_tables, compare_texts


@pytest.fixture
def files(tmp_path):
    store = Store.open(tmp_path / "store")

    def put(frame, suffix=".parquet"):
        sink = io.BytesIO()
        if isinstance(frame, bytes):
            sink.write(frame)
        else:
            frame.write_parquet(sink) if suffix == ".parquet" else frame.write_csv(sink)
        with store.writer() as writer:
            digest, size = writer.put(sink.getvalue())
        return File.of(store, f"/t{suffix}", digest, size)

    return put


def frame(rows, **more):
    return pl.DataFrame(
        rows, schema={"id": pl.Int64, "v": pl.String, "x": pl.Float64}, orient="row"
    )


OLD = [(1, "a", 1.0), (2, "b", None), (3, "c", 3.0), (4, "d", float("nan"))]


def test_with_a_key_rows_are_added_removed_and_changed(files):
    new = [(4, "d", float("nan")), (2, "b", 2.5), (1, "A", 1.5), (5, "e", 5.0)]
    found = compare_tables(files(frame(OLD)), files(frame(new)), key=["id"])
    assert (found.added, found.removed, found.changed) == (1, 1, 2)
    assert (found.old_rows, found.new_rows) == (4, 4)
    assert found.cells == {"v": 1, "x": 2}
    told = {(row.kind, row.key["id"]): (row.old, row.new) for row in found.sample}
    assert told == {
        ("changed", 1): ({"v": "a", "x": 1.0}, {"v": "A", "x": 1.5}),
        ("changed", 2): ({"x": None}, {"x": 2.5}),
        ("added", 5): ({}, {"id": 5, "v": "e", "x": 5.0}),
        ("removed", 3): ({"id": 3, "v": "c", "x": 3.0}, {}),
    }


def test_without_a_key_rows_are_what_they_hold_as_often_as_they_do(files):
    new = [(1, "a", 1.0), (1, "a", 1.0), (2, "b", None), (3, "z", 3.0)]
    found = compare_tables(files(frame(OLD)), files(frame(new)))
    assert (found.added, found.removed, found.changed) == (2, 2, 0)
    assert {(row.kind, (row.new or row.old)["v"]) for row in found.sample} == {
        ("added", "a"), ("added", "z"), ("removed", "c"), ("removed", "d"),
    }  # fmt: skip


def test_the_order_of_rows_and_of_columns_and_the_format_do_not_count(files):
    shuffled = frame(OLD[:3]).select("x", "id", "v").sample(fraction=1, shuffle=True, seed=3)
    for key in ([], ["id"]):
        found = compare_tables(files(frame(OLD[:3])), files(shuffled, ".csv"), key=key)
        assert (found.added, found.removed, found.changed, found.columns) == (0, 0, 0, ())
        assert found.numbers == ()


def test_columns_that_came_went_or_have_another_type(files):
    old = frame(OLD[:3])
    new = old.drop("v").with_columns(pl.col("id").cast(pl.Float64), w=pl.lit(True))
    found = compare_tables(files(old), files(new), key=["id"])
    assert {(c.name, c.kind, c.old, c.new) for c in found.columns} == {
        ("v", "removed", "VARCHAR", ""), ("w", "added", "", "BOOLEAN"),
        ("id", "retyped", "BIGINT", "DOUBLE"),
    }  # fmt: skip
    assert (found.added, found.removed, found.changed) == (0, 0, 0)


def test_where_rows_stood_in_pandas_is_no_difference(files):
    whole = pd.DataFrame({"id": [1, 2, 3], "x": [1.0, None, 3.0]})
    found = compare_tables(
        files(parquet_of(whole.dropna())), files(parquet_of(whole.dropna().reset_index(drop=True)))
    )
    assert (found.added, found.removed, found.columns) == (0, 0, ())
    (only,) = compare_tables(files(parquet_of(whole)), files(parquet_of(whole.dropna()))).sample
    assert only.old == {"id": 2, "x": None}


def parquet_of(table) -> bytes:
    sink = io.BytesIO()
    table.to_parquet(sink)
    return sink.getvalue()


def test_numbers_are_summed_up_where_they_differ(files):
    new = frame([*OLD[:2], (3, "c", 9.0)])
    found = compare_tables(files(frame(OLD[:3])), files(new))
    [x] = found.numbers
    assert (x.name, x.old["max"], x.new["max"], x.old["nulls"]) == ("x", 3.0, 9.0, 1.0)
    assert (x.old["mean"], x.new["mean"]) == (2.0, 5.0)


def test_a_key_must_be_a_column_and_one_for_each_row(files):
    old, new = files(frame(OLD)), files(frame([*OLD, OLD[0]]))
    with pytest.raises(Invalid) as raised:
        compare_tables(old, new, key=["nope"])
    assert raised.value.code == "diff.key"
    with pytest.raises(Invalid) as raised:
        compare_tables(old, new, key=["id"])
    assert raised.value.code == "diff.key_twice"
    assert "id = 1" in raised.value.message


def test_a_key_may_be_null_and_of_several_columns(files):
    old = frame([(None, "a", 1.0), (None, "b", 2.0), (1, None, 3.0)])
    new = frame([(None, "a", 1.0), (None, "b", 2.5), (1, None, 3.0)])
    found = compare_tables(files(old), files(new), key=["id", "v"])
    assert (found.added, found.removed, found.changed) == (0, 0, 1)
    assert found.sample[0].key == {"id": None, "v": "b"}


def test_a_side_that_is_not_there_has_no_rows(files):
    found = compare_tables(None, files(frame(OLD)))
    assert (found.old_rows, found.added, found.removed) == (0, 4, 0)
    assert compare_tables(files(frame(OLD)), None).removed == 4


def test_the_sample_is_bounded_and_the_same_each_time(files):
    old = pl.DataFrame({"id": range(3000), "v": [0] * 3000})
    new = old.with_columns(v=pl.lit(1))
    one = compare_tables(files(old), files(new), key=["id"], limit=7)
    assert one == compare_tables(files(old), files(new), key=["id"], limit=7)
    assert [row.key["id"] for row in one.sample] == list(range(7))
    assert one.changed == 3000


rows = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", None])), max_size=12)


@settings(max_examples=15)
@given(old=rows, new=rows)
def test_rows_without_a_key_differ_as_multisets_do(tmp_path_factory, old, new):
    store = Store.open(tmp_path_factory.mktemp("s") / "store")
    sides = []
    for side in (old, new):
        sink = io.BytesIO()
        pl.DataFrame(side, schema={"n": pl.Int64, "t": pl.String}, orient="row").write_parquet(sink)
        with store.writer() as writer:
            digest, size = writer.put(sink.getvalue())
        sides.append(File.of(store, "/t.parquet", digest, size))
    found = compare_tables(*sides)
    more = sum(max(0, new.count(one) - old.count(one)) for one in set(new))
    less = sum(max(0, old.count(one) - new.count(one)) for one in set(old))
    assert (found.added, found.removed) == (more, less)


# texts --------------------------------------------------------------------------------------------


def test_a_text_differs_as_difflib_says():
    draw = random.Random(1)
    for _ in range(30):
        old = [f"line {draw.randrange(30)}\n" for _ in range(draw.randrange(60))]
        new = [line for line in old if draw.random() > 0.1]
        new[draw.randrange(len(new) + 1) : 0] = ["new\n"] * draw.randrange(3)
        found = compare_texts("/t", "".join(old).encode(), "".join(new).encode())
        there = [found.text[found.text.index("@@") :]] if "@@" in found.text else []
        expected = "".join(difflib.unified_diff(old, new, "a/t", "b/t"))
        applied = sum(line.startswith("+") for line in expected.splitlines()[2:])
        assert len(new) - len(old) == found.added - found.removed
        assert found.added == applied or there


def test_a_unified_diff_has_the_line_numbers_of_the_whole():
    old = [f"{n}\n" for n in range(100)]
    new = [*old[:50], "x\n", *old[51:]]
    found = compare_texts("/t", "".join(old).encode(), "".join(new).encode())
    assert found.text == "".join(difflib.unified_diff(old, new, "a/t", "b/t"))
    assert (found.added, found.removed, found.cut) == (1, 1, False)


def test_a_missing_line_end_shows():
    found = compare_texts("/t", b"a\nb", b"a\nb\n")
    assert "\\ No newline at end of file" in found.text
    assert (found.added, found.removed) == (1, 1)


def test_what_is_no_text_is_not_compared():
    assert compare_texts("/t", b"a\0b", b"a") is None
    assert compare_texts("/t", b"\xff\xfe", b"a") is None


def test_a_new_text_has_lines_and_an_old_one_had():
    assert compare_texts("/t", None, b"a\nb\n").added == 2
    assert compare_texts("/t", b"a\nb\n", None).removed == 2


def test_texts_that_have_nothing_in_common_are_counted_only():
    old = "".join(f"a{n}\n" for n in range(9000)).encode()
    new = "".join(f"b{n}\n" for n in range(9000)).encode()
    found = compare_texts("/t", old, new)
    assert (found.added, found.removed, found.text, found.cut) == (9000, 9000, "", True)
