from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

import clew.db
from clew.base.errors import Conflict, Corrupt, Invalid, Unavailable
from clew.db import Database, Json, metadata

words = sa.Table(
    "test_words",
    metadata,
    sa.Column("word", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("note", Json),
)
uses = sa.Table(
    "test_uses", metadata, sa.Column("word", sa.ForeignKey(words.c.word), primary_key=True)
)
ALL = sa.select(words.c.word).order_by(words.c.word)


def put(db, word, count=1, note=None):
    with db.begin() as tx:
        tx.execute(words.insert(), {"word": word, "count": count, "note": note})


def all_words(db):
    with db.read() as tx:
        return list(tx.execute(ALL).scalars())


def test_a_block_that_ends_well_is_committed_and_one_that_raises_is_not(db):
    put(db, "kept")

    def fail():
        with db.begin() as tx:
            tx.execute(words.insert(), {"word": "lost", "count": 1})
            tx.emit("test.lost", subject="x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all_words(db) == ["kept"]
    assert db.events.last() == 0


def test_json_columns_give_back_builtins(db):
    put(db, "a", note={"b": [1, 2.5, None, "ü"]})
    with db.read() as tx:
        assert tx.execute(sa.select(words.c.note)).scalar() == {"b": [1, 2.5, None, "ü"]}


def test_a_read_transaction_sees_one_state(db):
    put(db, "one")
    with db.read() as tx:
        assert list(tx.execute(ALL).scalars()) == ["one"]
        put(db, "two")
        assert list(tx.execute(ALL).scalars()) == ["one"]
    assert all_words(db) == ["one", "two"]


def test_a_read_transaction_refuses_to_write(db):
    with db.read() as tx:
        with pytest.raises(RuntimeError, match="begin"):
            tx.execute(words.insert(), {"word": "x", "count": 1})
        with pytest.raises(RuntimeError, match="begin"):
            tx.emit("test.x", subject="x")


def test_write_transactions_do_not_nest(db):
    with db.begin(), pytest.raises(RuntimeError, match="pass its Tx on"), db.begin():
        pass
    put(db, "after")


def test_foreign_keys_are_enforced(db):
    with pytest.raises(sa.exc.IntegrityError), db.begin() as tx:
        tx.execute(uses.insert(), {"word": "nobody"})


def test_upsert_leaves_what_exists_but_for_the_columns_to_refresh(db):
    put(db, "a", 1, "old")
    with db.begin() as tx:
        rows = [{"word": "a", "count": 2, "note": "new"}, {"word": "b", "count": 3, "note": None}]
        tx.upsert(words, rows, key=["word"])
        assert list(tx.execute(sa.select(words.c.count).order_by(words.c.word)).scalars()) == [1, 3]
        tx.upsert(words, rows, key=["word"], refresh=["note"])
        row = tx.execute(sa.select(words).where(words.c.word == "a")).one()
    assert tuple(row) == ("a", 1, "new")


def test_acts_run_after_the_commit_and_may_write(db):
    seen = []
    with db.begin() as tx:
        tx.execute(words.insert(), {"word": "a", "count": 1})
        tx.after_commit(lambda: seen.append(all_words(db)))
        tx.after_commit(lambda: put(db, "b"))
        assert seen == []
    assert seen == [["a"]]
    assert all_words(db) == ["a", "b"]


def test_acts_of_a_rolled_back_transaction_never_run(db):
    seen = []

    def fail():
        with db.begin() as tx:
            tx.after_commit(lambda: seen.append(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == []


def test_threads_write_one_after_another_and_lose_nothing(db):
    put(db, "n", 0)

    def add():
        for _ in range(20):
            with db.begin() as tx:
                count = tx.execute(sa.select(words.c.count)).scalar()
                tx.execute(words.update().values(count=count + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as tx:
        assert tx.execute(sa.select(words.c.count)).scalar() == 80


ADD = """
import sys, sqlalchemy as sa
from clew.db import Database
db = Database.open(sys.argv[1])
for _ in range(25):
    with db.begin() as tx:
        count = tx.execute(sa.text("select count from test_words")).scalar()
        tx.execute(sa.text("update test_words set count = :n"), {"n": count + 1})
        tx.emit("test.added", subject="n")
"""


def test_processes_write_one_after_another_and_lose_nothing(db, tmp_path):
    put(db, "n", 0)
    url = f"sqlite:///{tmp_path / 'clew.db'}"
    children = [subprocess.Popen([sys.executable, "-c", ADD, url]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    with db.read() as tx:
        assert tx.execute(sa.select(words.c.count)).scalar() == 75
    assert [event.seq for event in db.events.after(0)] == list(range(1, 76))


CREATE = """
import sys
from clew.db import Database
Database.open(sys.argv[1]).create()
"""


def test_processes_may_create_the_same_database_at_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'clew.db'}"
    children = [subprocess.Popen([sys.executable, "-c", CREATE, url]) for _ in range(4)]
    assert [child.wait() for child in children] == [0, 0, 0, 0]


def test_creating_again_adds_the_tables_that_are_missing(db, tmp_path):
    with db.begin() as tx:
        tx.execute(sa.text("drop table test_uses"))
    db.create()
    with db.read() as tx:
        assert tx.execute(sa.select(uses)).all() == []


@pytest.mark.parametrize(("version", "code"), [(10**6, "db.newer"), (-1, "db.older")])
def test_a_database_of_another_version_is_refused(db, version, code):
    with db.begin() as tx:
        tx.execute(sa.text("update schema_version set version = :v"), {"v": version})
    with pytest.raises(Conflict) as caught:
        db.create()
    assert caught.value.code == code
    assert caught.value.hint


def test_a_full_disk_is_said_and_nothing_is_kept(db):
    def fill():
        with db.begin() as tx:
            pages = tx.execute(sa.text("pragma page_count")).scalar()
            tx.execute(sa.text(f"pragma max_page_count={pages}"))
            for number in range(100):
                tx.execute(words.insert(), {"word": str(number), "count": 1, "note": "x" * 10_000})

    with pytest.raises(Unavailable) as caught:
        fill()
    assert caught.value.code == "disk.full"
    assert all_words(db) == []


def test_a_read_only_database_is_said(db, tmp_path):
    other = Database.open(f"sqlite:///file:{tmp_path / 'clew.db'}?mode=ro&uri=true")
    with pytest.raises(Unavailable) as caught:
        put(other, "x")
    other.close()
    assert caught.value.code == "workspace.read_only"


@pytest.mark.parametrize("damage", [b"this is not a database at all" * 200, None])
def test_a_damaged_file_is_said(tmp_path, damage):
    path = tmp_path / "clew.db"
    if damage is None:  # a database whose later pages are overwritten
        database = Database.open(f"sqlite:///{path}")
        database.create()
        for number in range(200):
            put(database, str(number), note="x" * 500)
        database.close()
        content = path.read_bytes()
        damage = content[:4096] + b"\xff" * (len(content) - 4096)
    path.write_bytes(damage)
    database = Database.open(f"sqlite:///{path}")
    with pytest.raises(Corrupt) as caught:
        all_words(database)
    database.close()
    assert caught.value.code == "db.corrupt"


def test_a_directory_that_is_missing_is_said(tmp_path):
    database = Database.open(f"sqlite:///{tmp_path / 'none' / 'clew.db'}")
    with pytest.raises(Unavailable) as caught:
        database.create()
    assert caught.value.code == "db.cannot_open"


def test_a_lock_that_is_never_given_back_is_said(db, tmp_path, monkeypatch):
    monkeypatch.setattr("clew.db.sqlite.BUSY_TIMEOUT_S", 0.05)
    holder = sqlite3.connect(tmp_path / "clew.db", isolation_level=None)
    holder.execute("begin immediate")
    impatient = Database.open(f"sqlite:///{tmp_path / 'clew.db'}")
    with pytest.raises(Unavailable) as caught:
        put(impatient, "x")
    assert caught.value.code == "db.busy"
    holder.execute("commit")
    put(impatient, "x")
    holder.close()
    impatient.close()


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "mysql://host/db"])
def test_an_url_that_is_not_a_database_is_refused(url):
    with pytest.raises(Invalid) as caught:
        Database.open(url)
    assert caught.value.code == "db.url"


def test_commits_are_durable_at_once(db):
    with db.read() as tx:
        assert tx.execute(sa.text("pragma journal_mode")).scalar() == "wal"
        assert tx.execute(sa.text("pragma synchronous")).scalar() == 2


def test_the_door_is_as_agreed():
    assert set(clew.db.__all__) == {
        "ENGINE_LOCK",
        "Database",
        "Events",
        "FileLock",
        "Identity",
        "Json",
        "Lock",
        "Tx",
        "beside",
        "fact",
        "metadata",
    }
