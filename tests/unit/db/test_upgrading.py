"""An older database is brought to the schema of today: whole, with a copy before, or not at all."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from clew.base.errors import Conflict
from clew.db import ENGINE_LOCK, Database
from clew.db.upgrading import MIGRATIONS, head, history
from clew.testing.postgres import VARIABLE, database_url
from clew.testing.schema import all_tables

SECOND = """
import sqlalchemy as sa

def upgrade(op):
    with op.batch_alter_table("repos", recreate="always") as repos:
        repos.add_column(sa.Column("colour", sa.Text, nullable=False, server_default="blue"))
"""
FAILS = "def upgrade(op):\n    op.add_column('repos', None)\n"


@pytest.fixture
def history_of_two(tmp_path):
    directory = tmp_path / "migrations"
    directory.mkdir()
    first = history(MIGRATIONS)[1]
    (directory / first.name).write_text(first.read_text())
    (directory / "v0002_colour.py").write_text(SECOND)
    return directory


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A database of the first schema, with a repo and its branch."""
    monkeypatch.delenv(VARIABLE, raising=False)
    all_tables()
    db = Database.open(database_url(tmp_path))
    db.create()
    with db.begin() as tx:
        tx.execute(sa.text("insert into repos values ('raw', 'source', '', 1)"))
        tx.execute(sa.text("insert into branches (repo, name) values ('raw', 'main')"))
        tx.emit("repo.created", subject="raw")
    db.close()
    return database_url(tmp_path)


def ask(db, query):
    with db.read() as tx:
        return [tuple(row) for row in tx.execute(sa.text(query))]


def test_the_shipped_history_is_one_line():
    assert list(history(MIGRATIONS)) == list(range(1, head(MIGRATIONS) + 1))


def test_an_older_file_is_upgraded_when_it_is_opened_and_a_copy_kept(old, tmp_path, history_of_two):
    db = Database.open(old, migrations=history_of_two)
    assert not db.create()
    assert ask(db, "select name, colour from repos") == [("raw", "blue")]
    assert ask(db, "select repo, name from branches") == [("raw", "main")]
    assert ask(db, "select version from schema_version") == [(2,)]
    assert ask(db, "pragma foreign_keys") == [(1,)]
    assert db.events.last() == 1
    assert db.upgrade() == ""
    db.close()
    copy = Database.open(f"sqlite:///{tmp_path / 'clew.db.v1'}")
    assert not copy.create()
    assert ask(copy, "select name from repos") == [("raw",)]
    copy.close()


def test_an_upgrade_that_fails_leaves_all_as_it_was(old, tmp_path, history_of_two):
    (history_of_two / "v0003_fails.py").write_text(FAILS)
    db = Database.open(old, migrations=history_of_two)
    with pytest.raises(Exception, match="NoneType"):
        db.create()
    db.close()
    db = Database.open(old)
    assert not db.create()
    assert ask(db, "select name from repos") == [("raw",)]
    assert "colour" not in str(ask(db, "select sql from sqlite_master where name = 'repos'"))
    db.close()


def test_nothing_is_upgraded_while_somebody_works_on_it(old, history_of_two):
    db = Database.open(old, migrations=history_of_two)
    lock = db.lock(ENGINE_LOCK, "clew server")
    with pytest.raises(Conflict, match="clew server") as caught:
        db.create()
    assert caught.value.code == "lock.held"
    lock.release()
    db.create()
    db.close()


def test_a_newer_database_is_refused(old, history_of_two):
    newer = Database.open(old, migrations=history_of_two)
    newer.create()
    newer.close()
    db = Database.open(old)
    with pytest.raises(Conflict) as caught:
        db.create()
    assert caught.value.code == "db.newer"
    db.close()


def test_a_history_with_a_gap_is_a_fault(history_of_two: Path):
    (history_of_two / "v0004_late.py").write_text(SECOND)
    with pytest.raises(ValueError, match="one line"):
        history(history_of_two)
