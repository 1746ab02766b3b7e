"""SQL over files: which tables a query names, what it may not, and what is read for an answer."""

import io
import json
import sqlite3

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from clew.base.errors import ClewError, Corrupt, Denied, Invalid, NotFound, Unavailable
from clew.repos import File
from clew.store import Store
from clew.tables import Query, tabular


@pytest.fixture
def put(store):
    def put(path, content):
        with store.writer() as writer:
            digest, size = writer.put(content)
        return File.of(store, path, digest, size)

    return put


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def arrow(stream=False, **columns):
    table, sink = pa.table(columns), io.BytesIO()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def ask(text, attached=None, **tables):
    query = Query(text, attached)
    for reference in query.references:
        query.give(reference, tables[reference.parts[-1]])
    with query.rows() as reader:
        return reader.read_all().to_pydict()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('select * from "late-flights/flights@main^2" f', [("late-flights/flights@main^2",)]),
        ("select * from clew('a/b:/2013-*.csv')", [("a/b:/2013-*.csv",)]),
        ("from a join p.b using (x)", [("a",), ("p", "b")]),
        ("with a as (select * from b) select * from a, c", [("b",), ("c",)]),
        ("with a as (select * from a) select * from a", [("a",)]),
        ("with recursive n as (select 1 x union all select x+1 from n where x<3) from n", []),
        ("select (select max(x) from b where b.y = a.y) from a where x in (from c)",
         [("a",), ("b",), ("c",)]),
        ("select 'from d' -- from e\nfrom a /* from f */", [("a",)]),
        ("describe a", [("a",)]),
        ("(select 1 x from a) union all by name (select 2 x from b)", [("a",), ("b",)]),
    ],
)  # fmt: skip
def test_the_tables_of_a_query_are_those_that_its_parser_finds(text, named):
    assert sorted(one.parts for one in Query(text).references) == sorted(named)


def test_a_version_stands_beside_the_name():
    [one] = Query("select * from flights at (version => 'main^1')").references
    assert (one.parts, one.version) == (("flights",), "main^1")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("selct 1", "sql.syntax"),
        ("", "sql.one_statement"),
        ("select 1; select 2", "sql.one_statement"),
        ("create table a as select 1", "sql.not_select"),
        ("copy (select 1) to '/tmp/x.csv'", "sql.not_select"),
        ("attach '/tmp/x.db'", "sql.not_select"),
        ("install httpfs", "sql.not_select"),
        ("set memory_limit = '1TB'", "sql.not_select"),
        ("select * from read_csv('/etc/passwd')", "sql.function"),
        ("select * from read_text('/etc/passwd')", "sql.function"),
        ("select * from glob('/etc/*')", "sql.function"),
        ("select (select content from read_text('/etc/passwd'))", "sql.function"),
        ("with x as (from read_parquet('/x')) from x", "sql.function"),
        ("select * from query('select 1')", "sql.function"),
        ("select * from duckdb_settings()", "sql.function"),
        ("select * from clew(a)", "sql.address"),
        ("select * from a at (timestamp => now())", "sql.version"),
    ],
)
def test_what_is_no_question_about_commits_is_refused(text, code):
    with pytest.raises(ClewError) as raised:
        Query(text)
    assert raised.value.code == code
    assert raised.value.hint


def test_a_syntax_error_says_where():
    with pytest.raises(Invalid) as raised:
        Query("select *\nfrom a wher x")
    assert "line 2" in raised.value.message


def test_a_name_that_looks_like_a_file_of_this_machine_is_none(tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\n")
    for text in (f"from '{tmp_path}/x.csv'", "select * from information_schema.tables"):
        query = Query(text)
        assert len(query.references) == 1  # a table that somebody must give, or not
        with pytest.raises(NotFound) as raised, query.rows() as reader:
            reader.read_all()
        assert raised.value.code == "sql.table_unknown"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/t.parquet", parquet(a=[1, 2], b=["x", None])),
        ("/t.csv", b"a,b\n1,x\n2,\n"),
        ("/t.jsonl", b'{"a": 1, "b": "x"}\n{"a": 2, "b": null}\n'),
        ("/t.json", json.dumps([{"a": 1, "b": "x"}, {"a": 2, "b": None}]).encode()),
        ("/t.arrow", arrow(a=[1, 2], b=["x", None])),
        ("/t.feather", arrow(stream=True, a=[1, 2], b=["x", None])),
    ],
)
def test_every_format_is_a_table(put, path, content):
    found = ask(
        "select a, coalesce(nullif(b, ''), '-') b from t order by a", t=[put(path, content)]
    )
    assert found == {"a": [1, 2], "b": ["x", "-"]}


def test_files_of_several_formats_and_columns_are_one_table(put):
    files = [
        put("/1.parquet", parquet(a=[1], b=["x"])),
        put("/2.parquet", parquet(a=[2.5], c=[True])),
        put("/3.csv", b"c,a\nfalse,3\n"),
        put("/README.md", b"# not a table"),
        put("/meta.json", b'{"not": "rows"}'),
    ]
    assert ask("select a, b, c from t order by a", t=files) == {
        "a": [1.0, 2.5, 3.0],
        "b": ["x", None, None],
        "c": [None, True, False],
    }


def of_pandas(frame):
    sink = io.BytesIO()
    frame.to_parquet(sink)
    return sink.getvalue()


def test_where_rows_stood_in_pandas_is_no_column(put):
    fewer = pd.DataFrame({"a": [1.0, None, 3.0]}).dropna()
    sink = io.BytesIO()
    pa.feather.write_feather(pa.Table.from_pandas(fewer), sink)
    files = [
        put("/1.parquet", of_pandas(fewer)),
        put("/2.parquet", parquet(a=[2.0])),
        put("/3.feather", sink.getvalue()),
    ]
    assert ask("select * from t order by a", t=files) == {"a": [1.0, 1.0, 2.0, 3.0, 3.0]}
    named = pd.DataFrame({"a": [1]}, index=["x"])
    assert list(ask("select * from t", t=[put("/4.parquet", of_pandas(named))])) == [
        "a", "__index_level_0__"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "files",
    [
        [("/1.parquet", parquet(a=[1])), ("/2.parquet", parquet(a=["x"]))],
        [("/1.parquet", parquet(a=[1])), ("/2.csv", b"a\nx\n")],
    ],
)
def test_numbers_and_text_are_not_one_column_and_the_files_are_named(put, files):
    with pytest.raises(Invalid) as caught:
        ask("select a from t", t=[put(*one) for one in files])
    assert caught.value.code == "files.differ"
    (first, _), (second, _) = files
    assert f"the column a is int64 in {first} and string in {second}" in caught.value.message


@pytest.mark.parametrize("whole_bytes", [1 << 20, 5, 0])
def test_what_is_text_in_one_file_of_csv_is_text_in_all(put, monkeypatch, whole_bytes):
    monkeypatch.setattr(tabular, "_WHOLE_BYTES", whole_bytes)
    files = [put("/1.csv", b"a,b\n007,1\n"), put("/2.csv", b"a,b\nx,2\n"), put("/3.csv", b"a\n")]
    assert ask("select a, b from t where b > 0 order by b", t=files) == {
        "a": ["007", "x"], "b": [1, 2]
    }  # fmt: skip


def test_a_column_of_csv_without_a_value_goes_with_any_other(put):
    files = [put("/1.csv", b"a,b\n1,1\n"), put("/2.csv", b"a,b\n,2\n"), put("/3.csv", b"a,b\n")]
    assert ask("select a from t order by a", t=files) == {"a": [1, None]}


def test_two_versions_meet_in_one_query(put):
    query = Query("select n.a from v n anti join v o at (version => 'old') using (a)")
    for reference in query.references:
        old = reference.version == "old"
        query.give(reference, [put("/v.parquet", parquet(a=[1, 2] if old else [1, 2, 3]))])
    with query.rows() as reader:
        assert reader.read_all().to_pydict() == {"a": [3]}


def test_an_address_in_the_function_is_its_table(put):
    query = Query("""select sum(a) s from clew('x/y@main:/it''s.csv')""")
    query.give(query.references[0], [put("/it's.csv", b"a\n20\n22\n")])
    with query.rows() as reader:
        assert reader.read_all().to_pydict()["s"] == [42]


def test_only_what_a_query_needs_is_fetched(store, monkeypatch):
    """Of 40 columns in 8 row groups one column of one group: a small part of the chunks."""
    rows = 80_000
    frame = pl.DataFrame(
        {"n": range(rows)}
        | {f"c{i}": pl.Series(range(rows)).shuffle(seed=i).cast(pl.Float64) for i in range(40)}
    )
    sink = io.BytesIO()
    frame.write_parquet(sink, row_group_size=rows // 8, compression="uncompressed")
    with store.writer() as writer:
        digest, size = writer.put(sink.getvalue())
    file = File.of(store, "/wide.parquet", digest, size)
    fetched, fetch = set(), store._catalog.fetch
    monkeypatch.setattr(
        store._catalog, "fetch", lambda tag, key: fetched.add(key) or fetch(tag, key)
    )
    found = ask("select max(c7) from t where n >= 70001", t=[file])
    assert next(iter(found.values()))[0] == frame["c7"][70_001:].max()
    assert len(fetched) <= 5 < size // (1 << 20) // 2


def test_a_file_that_is_no_table_is_named(put):
    with pytest.raises(Invalid) as raised:
        ask("from t", t=[put("/broken.parquet", b"PAR1 not at all")])
    assert raised.value.code == "file.unreadable"
    assert "/broken.parquet" in raised.value.message
    with pytest.raises(Invalid) as raised:
        ask("from t", t=[put("/a.txt", b"text")])
    assert raised.value.code == "sql.no_table"


def test_a_damaged_chunk_is_corrupt_and_not_a_failed_query(store, put, tmp_path):
    file = put("/t.parquet", parquet(a=pa.array(range(400_000)).cast(pa.float64())))
    [pack] = (tmp_path / "store" / "packs").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 1
    pack.write_bytes(data)
    other = Store.open(tmp_path / "store")
    with pytest.raises(Corrupt):
        ask("select sum(a) from t", t=[File.of(other, file.path, file.digest, file.size)])


def test_a_query_ends_when_its_time_is_up():
    query = Query(
        "select count(*) from range(10000000000) a, range(100) b where a.range <> b.range"
    )
    with pytest.raises(Unavailable) as raised, query.rows(timeout_s=0.2) as reader:
        reader.read_all()
    assert raised.value.code == "sql.timeout"


def test_a_query_has_no_more_memory_than_it_is_given(tmp_path):
    text = "select count(*) from (select distinct range, hash(range) from range(5000000))"
    with (
        pytest.raises(Unavailable) as raised,
        Query(text).rows(memory_bytes=20 << 20, threads=1) as reader,
    ):
        reader.read_all()
    assert raised.value.code == "sql.memory"
    with Query(text).rows(memory_bytes=60 << 20, threads=1, spill=tmp_path) as reader:
        assert reader.read_all().column(0).to_pylist() == [5_000_000]  # with a disk it can be done


# sources outside ----------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    place = tmp_path / "old.db"
    with sqlite3.connect(place) as connection:
        connection.executescript(
            """
            create table names (carrier text, name text, since datetime, score real, n integer,
                                paid numeric(10, 2), raw blob, ok boolean);
            insert into names values
                ('UA', 'United', '1926-04-06 00:00:00', 1.5, 1, 12.25, x'00ff', 1),
                ('AA', null, null, null, null, null, null, null);
            create view short as select carrier from names;
            create table "odd name" ("a b" integer);
            create table wrong (n integer);
            insert into wrong values ('not a number');
            """
        )
    connection.close()
    return str(place)


def test_a_sqlite_file_is_joined_with_files(put, database):
    files = [put("/f.csv", b"carrier,delay\nUA,3\nUA,5\nAA,1\n")]
    text = """select f.carrier, any_value(name) as name, sum(delay) as delay
              from f join old.names using (carrier) group by 1 order by 1"""
    assert ask(text, {"old": database}, f=files) == {
        "carrier": ["AA", "UA"], "name": [None, "United"], "delay": [1, 8],
    }  # fmt: skip
    assert ask("select count(*) c from old.short a, old.short b", {"old": database}) == {"c": [4]}
    assert ask('select * from old."odd name"', {"old": database}) == {"a b": []}


def test_types_of_a_database_are_kept(database):
    query = Query("select * from old.names", {"old": database})
    with query.rows() as reader:
        table = reader.read_all()
    assert [str(field.type) for field in table.schema] == [
        "string", "string", "timestamp[us]", "double", "int64", "decimal128(10, 2)", "binary",
        "bool",
    ]  # fmt: skip
    assert str(table.to_pylist()[0]["paid"]) == "12.25"


def test_what_is_wrong_with_a_source_is_said(database, tmp_path):
    cases = [
        ("select * from old.nmes", {"old": database}, NotFound, "sql.table_unknown"),
        ("select * from old", {"old": database}, Invalid, "sql.attached_table"),
        ("select * from old.wrong", {"old": database}, Invalid, "sql.attached_value"),
        ("select * from here", {"here": str(tmp_path / "none")}, NotFound, "file.missing"),
        ("select 1", {"a b": "x"}, Invalid, "sql.attach_name"),
        ("select * from pg.t", {"pg": "postgresql://nobody@127.0.0.1:1/x"}, Unavailable, None),
    ]
    for text, attached, kind, code in cases:
        with pytest.raises(kind) as raised:
            ask(text, attached)
        assert code is None or raised.value.code == code
    assert "secret" not in str(raised.value)


def test_a_database_is_only_read(database):
    with pytest.raises(Denied):
        Query("select * from sqlite_scan('x', 'y')", {"old": database})
    with pytest.raises(Invalid) as raised:
        Query("delete from old.names", {"old": database})
    assert raised.value.code == "sql.not_select"


def test_files_and_directories_outside_are_tables(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "one.csv").write_text("a\n1\n")
    (tmp_path / "d" / "two.parquet").write_bytes(parquet(a=[2]))
    place = {"d": str(tmp_path / "d"), "one": str(tmp_path / "d" / "one.csv")}
    assert ask("select sum(a)::int s from d", place) == {"s": [3]}
    assert ask("select a from d.two", place) == {"a": [2]}
    assert ask("select a from one", place) == {"a": [1]}
    with pytest.raises(NotFound):
        ask("select a from d.three", place)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".arrow"])
def test_an_answer_is_written_as_its_suffix_says(put, tmp_path, suffix):
    query = Query("select a, b from t order by a")
    query.give(query.references[0], [put("/t.csv", b"a,b\n2,y\n1,x\n")])
    target = tmp_path / f"out{suffix}"
    assert query.to_file(target) == 2
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".arrow": pl.read_ipc}[suffix]
    assert read(target).to_dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(Invalid) as raised:
        query.to_file(tmp_path / "out.xlsx")
    assert raised.value.code == "sql.format"
