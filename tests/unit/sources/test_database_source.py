"""Rows behind a watermark are committed, each once: ties, late rows, batches, crashes."""

from __future__ import annotations

import io
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import clew
from clew.base.errors import Invalid, Unavailable

START = datetime(2024, 1, 1)


@pytest.fixture
def shop(house):
    file = house.place / "shop.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("create table orders (id integer, price real, note text, updated_at text)")
        db.commit()
    return file


def insert(file, *rows):
    with closing(sqlite3.connect(file)) as db:
        db.executemany("insert into orders values (?, ?, ?, ?)", rows)
        db.commit()


def row(number, minute, note="n"):
    return (number, number / 2, note, str(START + timedelta(minutes=minute)))


def feed(file, **options):
    options = {"watermark": "updated_at", "every": "1m"} | options
    return clew.database("select * from orders", url=f"sqlite:///{file}", **options)


def rows_of(house):
    found = []
    for content in house.files().values():
        found += pq.read_table(io.BytesIO(content)).to_pylist()
    return found


def ids(house):
    return sorted(one["id"] for one in rows_of(house))


def test_each_poll_commits_what_is_new_as_one_more_parquet_file(house, shop):
    house.define(feed(shop))
    assert house.poll() == []
    insert(shop, row(1, 0), row(2, 1))
    assert house.poll() == ["2 rows up to updated_at 2024-01-01 00:01:00"]
    assert house.poll() == []
    insert(shop, row(3, 2, None))
    assert len(house.poll()) == 1
    first, second = sorted(house.files())
    assert (first[-14:], second[-14:]) == ("000001.parquet", "000002.parquet")
    assert rows_of(house)[2] == {
        "id": 3,
        "price": 1.5,
        "note": None,
        "updated_at": "2024-01-01 00:02:00",
    }
    info = house.sources.get("orders")
    assert (info.commits, info.items, info.state) == (2, 3, "waiting")


def test_rows_that_share_the_watermark_of_the_last_are_not_lost(house, shop):
    house.define(feed(shop))
    insert(shop, row(1, 5))
    house.poll()
    insert(shop, row(2, 5), row(1, 5))  # the same again is one more row
    house.poll()
    assert ids(house) == [1, 1, 2]


def test_late_rows_are_found_within_the_overlap_and_not_after_it(house, shop):
    house.define(feed(shop, overlap="10m"))
    insert(shop, row(1, 60))
    house.poll()
    insert(shop, row(2, 52), row(3, 30))
    house.poll()
    assert ids(house) == [1, 2]
    assert house.poll() == []


def test_a_row_that_is_updated_comes_again(house, shop):
    house.define(feed(shop, key="id"))
    insert(shop, row(1, 0, "new"))
    house.poll()
    with closing(sqlite3.connect(shop)) as db:
        db.execute("update orders set note = 'paid', updated_at = '2024-01-01 00:09:00'")
        db.commit()
    house.poll()
    assert [one["note"] for one in rows_of(house)] == ["new", "paid"]


def test_batches_have_a_limit_and_a_poll_goes_on_until_all_is_there(house, shop):
    house.define(feed(shop, batch_rows=3))
    insert(shop, *(row(n, n // 4) for n in range(10)))
    assert len(house.poll()) == 4
    assert ids(house) == list(range(10))


def test_numbers_may_be_the_watermark_and_the_overlap(house, shop):
    house.define(feed(shop, watermark="id", overlap=5))
    insert(shop, row(10, 0))
    house.poll()
    insert(shop, row(6, 0), row(11, 0), row(2, 0))
    house.poll()
    assert ids(house) == [6, 10, 11]


def test_columns_keep_their_types_over_increments(house, shop):
    house.define(feed(shop))
    insert(shop, (1, 1.5, "a", "2024-01-01 00:00:00"))
    house.poll()
    insert(shop, (2, 2, None, "2024-01-01 00:01:00"))
    house.poll()
    schemas = {str(pq.read_schema(io.BytesIO(one))) for one in house.files().values()}
    assert len(schemas) == 1


def test_without_a_watermark_the_answer_is_one_file_that_is_committed_when_it_differs(house, shop):
    house.define(feed(shop, watermark=""))
    insert(shop, row(1, 0))
    assert len(house.poll()) == 1
    assert house.poll() == []
    insert(shop, row(2, 0))
    assert len(house.poll()) == 1
    assert list(house.files()) == ["/orders.parquet"]
    assert ids(house) == [1, 2]


def test_colons_in_a_query_are_no_parameters(house, shop):
    insert(shop, row(1, 0, "12:30"))
    query = "select * from orders where note = '12:30' and 'a:b' like '%:b'"
    house.define(clew.database(query, url=f"sqlite:///{shop}", watermark="id"))
    house.poll()
    assert ids(house) == [1]


def test_a_query_that_is_wrong_is_said_and_tried_again_later_and_later(house, shop):
    house.define(clew.database("select * from missing", url=f"sqlite:///{shop}"))
    waits = []
    for _ in range(3):
        with pytest.raises(Invalid) as raised:
            house.poll()
        assert raised.value.code == "source.query"
        info = house.sources.get("orders")
        waits.append((info.next_at - info.polled_at).total_seconds())
    assert waits == [1, 2, 4]
    assert (info.state, info.failures) == ("failing", 3)
    with closing(sqlite3.connect(shop)) as db:
        db.execute("create table missing (a)")
    house.poll()
    info = house.sources.get("orders")
    assert (info.state, info.failures, info.error) == ("waiting", 0, "")
    kinds = [one.kind for one in house.db.events.after(0) if one.kind.startswith("source.")]
    assert kinds == ["source.failed", "source.committed", "source.recovered"]


def test_a_password_is_taken_from_where_it_is_and_never_shown(house, shop):
    with pytest.raises(Invalid) as raised:
        clew.database("select 1", url="postgresql://me:secret@host/db")
    assert raised.value.code == "source.secret"
    house.secrets["env:SHOP"] = "postgresql://me:hush@127.0.0.1:1/db"
    house.define(clew.database("select 1", url="env:SHOP"))
    with pytest.raises(Unavailable) as error:
        house.poll()
    info = house.sources.get("orders")
    assert "hush" not in f"{error.value} {info}"
    assert "env:SHOP" in info.place


def test_a_source_that_is_defined_again_goes_on_where_it_was(house, shop):
    house.define(feed(shop))
    insert(shop, row(1, 0))
    house.poll()
    house.define(feed(shop, every="1h"))
    assert house.poll() == []
    house.define(feed(shop, watermark="id"))  # another watermark: another position
    assert len(house.poll()) == 1


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("insert"), st.integers(0, 3)),
            st.tuples(st.just("poll"), st.integers(1, 4)),
            st.tuples(st.just("crash"), st.integers(0, 2)),
        ),
        max_size=14,
    )
)
def test_every_row_is_committed_once_whatever_dies_when(make_house, tmp_path_factory, steps):
    """A crash: the transaction fails, or all that is in memory is gone after it."""
    house = make_house(tmp_path_factory.mktemp("rows"))
    file = house.place / "shop.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("create table orders (id integer, price real, note text, updated_at text)")
        db.commit()
    house.define(feed(file, overlap="3m", batch_rows=2))
    inserted: list[int] = []
    high = 0
    try:
        for act, number in steps:
            if act == "insert":
                high += 1
                late = max(0, high - number)  # at most as late as the overlap
                inserted.append(len(inserted))
                insert(file, row(inserted[-1], late))
            elif act == "poll":
                for _ in range(number):
                    house.sources.turn("shop/orders")
            else:
                crash(house, number)
        house.poll()
        assert Counter(ids(house)) == Counter(inserted)
    finally:
        house.close()


class Died(BaseException):
    pass


def crash(house, where):
    """Die in the transaction of a commit, or right after it, or before anything was read."""

    def die(*_):
        raise Died

    if where == 0:
        house.repos.listeners.append(die)
    elif where == 1:
        original, house.sources._polled = house.sources._polled, die
    try:
        house.sources.turn("shop/orders")
    except Died:
        pass
    finally:
        if where == 0:
            house.repos.listeners.remove(die)
        elif where == 1:
            house.sources._polled = original
        house.sources.close()
        house.sources = house.new_sources()
