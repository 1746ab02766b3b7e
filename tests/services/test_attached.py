"""Tables of a real PostgreSQL beside those of commits."""

import datetime
import io

import polars as pl
import psycopg
import pytest

from clew.base.errors import NotFound, Unavailable
from clew.base.settings import Settings
from clew.workspace import open_workspace


@pytest.fixture(scope="module")
def database(postgres):
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("create schema if not exists shop")
        connection.execute("drop table if exists shop.orders, people")
        connection.execute(
            """create table shop.orders (id bigint primary key, carrier text, price numeric(12, 3),
               free numeric, at timestamptz, day date, doc jsonb, tags text[], ok boolean,
               ratio double precision, raw bytea, unused text)"""
        )
        connection.execute(
            """insert into shop.orders
               select n, case n % 2 when 0 then 'UA' else 'AA' end, n / 8.0, n / 3.0,
                      timestamptz '2013-01-01 00:00+00' + n * interval '1 hour', date '2013-01-01',
                      '{"a": 1}', array['x', 'y'], n % 3 = 0, n / 2.0, '\\x00ff', 'never read'
               from generate_series(1, 120000) n"""
        )
        connection.execute("create table people (name text)")
    return postgres.url


@pytest.fixture
def workspace(tmp_path):
    made = open_workspace(Settings(home=tmp_path / ".clew", workers=2), create=True)
    made.create_repo("air/carriers")
    sink = io.BytesIO()
    pl.DataFrame({"carrier": ["UA", "AA"], "name": ["United", "American"]}).write_parquet(sink)
    made.put("air/carriers", {"c.parquet": sink.getvalue()})
    yield made
    made.close()


def test_a_commit_and_a_table_of_postgresql_join(workspace, database):
    found = workspace.sql(
        """select name, count(*) n, sum(price)::double s from carriers
           join pg.shop.orders using (carrier) group by 1 order by 1""",
        attach={"pg": database},
    )
    assert found.to_pydict() == {
        "name": ["American", "United"], "n": [60_000, 60_000], "s": [450_000_000.0, 450_007_500.0],
    }  # fmt: skip


def test_types_of_postgresql_are_kept(workspace, database):
    table = workspace.sql(
        "select * exclude (unused) from pg.shop.orders where id = 3", attach={"pg": database}
    )
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["id"], types["price"], types["free"]) == ("int64", "decimal128(12, 3)", "double")
    assert types["at"].startswith("timestamp[us, tz=")
    [row] = table.to_pylist()
    assert (str(row["price"]), row["ok"], row["raw"]) == ("0.375", True, b"\0\xff")
    assert row["at"] == datetime.datetime(2013, 1, 1, 3, tzinfo=datetime.UTC)
    assert (row["doc"], row["tags"]) == ('{"a": 1}', '["x", "y"]')


def test_what_is_not_there_is_said_without_the_password(workspace, database):
    with pytest.raises(NotFound) as raised:
        workspace.sql("select * from pg.shop.order", attach={"pg": database})
    assert "orders" in raised.value.hint
    assert workspace.sql("select count(*) n from pg.people", attach={"pg": database}).num_rows == 1
    wrong = database.replace("/clew", "/no_such_database")
    with pytest.raises(Unavailable) as refused:
        workspace.sql("select * from pg.people", attach={"pg": wrong})
    assert refused.value.code == "sql.attach"
    assert "secret" not in str(refused.value)
