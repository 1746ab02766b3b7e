"""A statement that is kept runs without SQLAlchemy from its second time on: the same answer."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from clew.base.errors import Unavailable
from clew.db import Database, Json, metadata

things = sa.Table(
    "test_direct_things",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("good", sa.Boolean, nullable=False),
    sa.Column("weight", sa.Float),
    sa.Column("more", Json),
    sa.Column("bytes", sa.LargeBinary),
    sqlite_autoincrement=True,
)
ADD = things.insert()
ADD_TOLD = things.insert().returning(things)
SET = things.update().where(things.c.name == sa.bindparam("of"))
SET_TOLD = SET.returning(things.c.number, things.c.more)
DROP = things.delete().where(things.c.name.in_(sa.bindparam("names", expanding=True)))
ALL = sa.select(things).order_by(things.c.number)
AMONG = sa.select(things.c.name).where(things.c.name.in_(sa.bindparam("names", expanding=True)))
NOT_AMONG = sa.select(things.c.name).where(
    things.c.name.not_in(sa.bindparam("names", expanding=True)), things.c.good.in_([True, False])
)
COUNT = sa.select(sa.func.count(), sa.func.max(things.c.weight).label("most")).select_from(things)


def row(name, **values):
    return {"name": name, "good": True, "weight": 1.5, "more": {"a": [1]}, "bytes": b"\0", **values}


def names(db):
    with db.read() as tx:
        return [one.name for one in tx.execute(ALL)]


def test_rows_come_back_as_they_were_put_however_often_it_is_done(db):
    with db.begin() as tx:
        for name in "abc":
            tx.execute(ADD, row(name, good=name != "b", more=None if name == "c" else {"n": name}))
        tx.execute(ADD, [row(name) for name in "de"])
        tx.execute(ADD, [row("f")])
    for _ in range(3):
        with db.read() as tx:
            found = tx.execute(ALL).all()
            assert [one.name for one in found] == list("abcdef")
            assert [one.good for one in found][:3] == [True, False, True]
            assert [one.more for one in found][:3] == [{"n": "a"}, {"n": "b"}, None]
            assert (found[0].weight, found[0].bytes) == (1.5, b"\0")
            assert tuple(found[0])[:2] == (1, "a")
            assert tx.execute(COUNT).one() == (6, 1.5)
            assert tx.execute(COUNT).one().most == 1.5
            assert tx.execute(COUNT).scalar() == 6


@pytest.mark.parametrize("asked", [[], ["a"], ["a", "c"], ["x"], ["c", "b", "a", "x"]])
def test_lists_of_every_length_are_looked_for(db, asked):
    with db.begin() as tx:
        tx.execute(ADD, [row(name) for name in "abc"])
    for _ in range(3):
        with db.read() as tx:
            found = set(tx.execute(AMONG, {"names": asked}).scalars())
            others = set(tx.execute(NOT_AMONG, {"names": asked}).scalars())
        assert found == set(asked) & set("abc")
        assert others == set("abc") - found


def test_changes_tell_how_many_rows_they_were_and_what_they_are_now(db):
    with db.begin() as tx:
        for number, name in enumerate("abc", 1):
            assert tx.execute(ADD_TOLD, row(name)).one().number == number
    for at in range(3):
        with db.begin() as tx:
            assert tx.execute(SET, {"of": "a", "weight": at}).rowcount == 1
            assert tx.execute(SET, {"of": "x", "weight": at}).rowcount == 0
            told = tx.execute(SET_TOLD, {"of": "b", "more": [at], "good": False})
            assert tuple(told.one()) == (2, [at])
    with db.begin() as tx:
        assert tx.execute(DROP, {"names": ["a", "c"]}).rowcount == 2
    assert names(db) == ["b"]


def test_one_and_first_say_what_is_missing_and_what_is_too_much(db):
    with db.begin() as tx:
        tx.execute(ADD, [row(name) for name in "ab"])
    for _ in range(3):
        with db.read() as tx:
            assert tx.execute(ALL).first().name == "a"
            assert tx.execute(AMONG, {"names": ["x"]}).first() is None
            assert tx.execute(AMONG, {"names": ["x"]}).one_or_none() is None
            assert tx.execute(AMONG, {"names": ["x"]}).scalar() is None
            with pytest.raises(sa.exc.NoResultFound):
                tx.execute(AMONG, {"names": ["x"]}).one()
            with pytest.raises(sa.exc.MultipleResultsFound):
                tx.execute(ALL).one()


def test_a_broken_rule_is_the_same_error_each_time_and_undoes_the_whole_transaction(db):
    def twice():
        with db.begin() as tx:
            tx.execute(ADD, row("a"))
            tx.execute(ADD, row("a"))

    for _ in range(3):
        with pytest.raises(sa.exc.IntegrityError):
            twice()
        assert names(db) == []


def test_a_commit_that_fails_leaves_nothing_behind_for_the_next_transaction(db):
    with db.begin() as tx:
        tx.execute(sa.text("create table parents (id integer primary key)"))
        tx.execute(
            sa.text(
                "create table children (parent integer references parents (id) "
                "deferrable initially deferred)"
            )
        )
    for _ in range(3):
        with pytest.raises(sa.exc.IntegrityError), db.begin() as tx:  # SQLAlchemy's way
            tx.execute(sa.text("insert into children values (7)"))
        with db.begin() as tx:
            assert tx.execute(sa.text("select count(*) from children")).scalar() == 0
            tx.execute(ADD, row(f"n{len(names(db))}"))
    assert len(names(db)) == 3


def test_statements_of_both_ways_are_one_transaction(db):
    def both(*, fails):
        with db.begin() as tx:
            tx.execute(ADD, row("kept"))
            tx.execute(sa.insert(things).values(**row("made")))
            assert len(tx.execute(sa.select(things)).all()) == 2
            tx.execute(SET, {"of": "made", "weight": 2.0})
            if fails:
                raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            both(fails=True)
        assert names(db) == []
    both(fails=False)
    assert names(db) == ["kept", "made"]


def test_what_is_read_in_one_transaction_is_one_state(db):
    with db.begin() as tx:
        tx.execute(ADD, row("a"))
    for number in range(3):
        with db.read() as tx:
            before = tx.execute(ALL).all()
            with db.begin() as other:
                other.execute(ADD, row(f"b{number}"))
            assert tx.execute(ALL).all() == before
    assert len(names(db)) == 4


def test_an_open_answer_does_not_keep_a_transaction_from_its_end(db):
    with db.begin() as tx:
        tx.execute(ADD, [row(name) for name in "abc"])
    for number in range(3):
        with db.begin() as tx:
            some = iter(tx.execute(ALL))
            assert next(some).name == "a"
            tx.execute(ADD, row(f"d{number}"))
    assert len(names(db)) == 6


def test_a_database_that_cannot_be_written_says_so(tmp_path, db):
    with db.begin() as tx:
        tx.execute(ADD, row("a"))
    with db.read() as tx, pytest.raises(RuntimeError, match="read transaction"):
        tx.execute(ADD, row("b"))
    other = Database.open(f"sqlite:///{tmp_path / 'nowhere' / 'clew.db'}")
    try:
        for _ in range(2):
            with pytest.raises(Unavailable) as caught, other.read():
                pass
            assert caught.value.code == "db.cannot_open"
    finally:
        other.close()
