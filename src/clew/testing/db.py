"""The law of Database as tests that every kind of database passes.

Subclass ``DatabaseConformance`` in a test module, with a name that begins with ``Test``, and give
it a fixture ``url`` of an empty database. Knows nothing of any kind.
"""

# ruff: noqa: D102 - a test's name is its sentence

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from clew.base.errors import Conflict
from clew.db import Database
from clew.db.schema import events
from clew.testing.counting import count_up, things
from clew.testing.schema import all_tables, differences, migrate

_PROGRAM = """
import os, sys, time
import sqlalchemy as sa
from clew.db import Database
from clew.db.schema import events
from clew.testing.counting import count_up, things
db = Database.open(sys.argv[2])
"""
_PROGRAMS = {
    "count": """
print("ready", flush=True)
sys.stdin.readline()
for _ in range(10):
    count_up(db)
""",
    "hang": """
with db.begin() as tx:
    tx.execute(things.insert(), {"name": "half", "count": 1, "flag": 0})
    tx.emit("thing.half", subject="half")
    print("ready", flush=True)
    time.sleep(600)
""",
    "emit": """
print("ready", flush=True)
sys.stdin.readline()
with db.begin() as tx:
    tx.emit("thing.told", subject="from afar")
sys.stdin.readline()
""",
    "hold": """
lock = db.lock("engine", "another program")
print("ready", flush=True)
time.sleep(600)
""",
}


class DatabaseConformance:
    """What rooms rely on, whatever keeps the rows."""

    @pytest.fixture
    def db(self, url: str) -> Iterator[Database]:
        all_tables()
        database = Database.open(url)
        database.create()
        with database.begin() as tx:
            tx.execute(sa.schema.CreateTable(things))
            tx.execute(things.insert(), {"name": "n", "count": 0, "flag": 0})
        yield database
        database.close()

    def test_what_raises_is_rolled_back_with_its_events(self, db: Database) -> None:
        def fail() -> None:
            with db.begin() as tx:
                tx.execute(things.insert(), {"name": "x", "count": 1, "flag": 0})
                tx.emit("thing.made", subject="x")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert _names(db) == ["n"]
        assert db.events.last() == 0

    def test_a_reader_sees_one_state_and_the_next_the_newest(self, db: Database) -> None:
        with db.read() as tx:
            before = tx.execute(sa.select(things.c.count)).scalar_one()
            count_up(db)
            assert tx.execute(sa.select(things.c.count)).scalar_one() == before
        with db.read() as tx:
            assert tx.execute(sa.select(things.c.count)).scalar_one() == before + 1

    def test_text_compares_and_sorts_by_its_bytes(self, db: Database) -> None:
        words = ["a", "B", "b", "_", "-a", "é", "ä", "Ä", "z", "\U0001f600", "10", "9", "a b"]
        with db.begin() as tx:
            tx.execute(things.delete())
            tx.execute(things.insert(), [{"name": w, "count": 0, "flag": 0} for w in words])
            ordered = list(tx.execute(sa.select(things.c.name).order_by(things.c.name)).scalars())
            upper = sa.select(things.c.name).where(things.c.name >= "A", things.c.name < "a")
            assert set(tx.execute(upper).scalars()) == {"B", "_"}
        assert ordered == sorted(words, key=str.encode)

    def test_whole_numbers_have_64_bits_and_take_truth(self, db: Database) -> None:
        big = 2**62
        with db.begin() as tx:
            tx.execute(things.insert(), {"name": "big", "count": big, "flag": True})
            found = tx.execute(sa.select(things).where(things.c.count == big)).one()
            total = tx.execute(sa.select(sa.func.sum(things.c.flag))).scalar_one()
        assert tuple(found)[1:3] == (big, 1)
        assert total == 1
        assert type(total) is int

    def test_json_and_text_keep_what_programs_say(self, db: Database) -> None:
        note = {"text": "nul \0, quote ', percent %, é", "list": [1, 2.5, None, True]}
        with db.begin() as tx:
            tx.execute(things.insert(), {"name": "j", "count": 0, "flag": 0, "note": note})
            tx.emit("thing.said", subject="nul \0 in an error of a user")
        with db.read() as tx:
            kept = tx.execute(sa.select(things.c.note).where(things.c.name == "j")).scalar_one()
        assert kept == note
        assert db.events.after(0)[0].subject.endswith("in an error of a user")

    def test_numbers_go_on_after_those_that_were_given(self, db: Database) -> None:
        given = {"seq": 41, "at_us": 0, "kind": "thing.kept", "subject": "x", "data": {}}
        with db.begin() as tx:
            tx.execute(events.insert(), given)
            tx.go_on_from(events.c.seq)
        count_up(db)
        assert [event.seq for event in db.events.after(0)] == [41, 42]

    def test_upsert_leaves_what_exists_but_for_the_columns_to_refresh(self, db: Database) -> None:
        rows = [{"name": "n", "count": 7, "flag": 9}, {"name": "m", "count": 1, "flag": 1}]
        with db.begin() as tx:
            tx.upsert(things, rows, key=["name"], refresh=["count"])
            tx.upsert(things, [{"name": "m", "count": 5, "flag": 5}], key=["name"])
            found = tx.execute(sa.select(things.c.name, things.c.count, things.c.flag)).all()
        assert sorted(map(tuple, found)) == [("m", 1, 1), ("n", 7, 0)]

    def test_a_large_choice_of_keys_can_be_asked_for(self, db: Database) -> None:
        wanted = [f"k{number}" for number in range(20_000)] + ["n"]
        with db.read() as tx:
            rows = tx.execute(sa.select(things.c.name).where(things.c.name.in_(wanted)))
            assert list(rows.scalars()) == ["n"]

    def test_writers_of_many_processes_lose_nothing_and_events_come_in_order(
        self, db: Database, url: str
    ) -> None:
        seen: list[object] = []
        at = 0
        with _programs("count", url, 8) as programs:
            for program in programs:
                _say(program)
            while len(seen) < 80 and db.events.wait(at, 60):  # whoever follows misses none
                found = db.events.after(at)
                seen += [event.data["count"] for event in found]
                at = found[-1].seq
            assert [program.wait(60) for program in programs] == [0] * 8
        assert seen == list(range(1, 81))

    def test_a_writer_killed_in_its_transaction_leaves_nothing_and_holds_nobody_up(
        self, db: Database, url: str
    ) -> None:
        with _programs("hang", url, 1) as [program]:
            os.kill(program.pid, signal.SIGKILL)
            program.wait()
            count_up(db)
        assert _names(db) == ["n"]
        assert [event.kind for event in db.events.after(0)] == ["thing.counted"]

    def test_a_waiter_hears_of_another_process(self, db: Database, url: str) -> None:
        with _programs("emit", url, 1) as [program]:
            assert not db.events.wait(0, 0)
            _say(program)
            assert db.events.wait(0, 30)
            _say(program)
        assert db.events.after(0)[0].subject == "from afar"

    def test_a_waiter_hears_of_another_thread(self, db: Database) -> None:
        heard: list[bool] = []
        waiter = threading.Thread(target=lambda: heard.append(db.events.wait(0, 30)))
        waiter.start()
        count_up(db)
        waiter.join()
        assert heard == [True]

    def test_a_lock_has_one_holder_who_is_named_and_death_frees_it(
        self, db: Database, url: str
    ) -> None:
        with _programs("hold", url, 1) as [program]:
            with pytest.raises(Conflict) as caught:
                db.lock("engine", "me")
            assert caught.value.code == "lock.held"
            assert f"another program (process {program.pid}" in caught.value.message
            db.lock("else", "me").release()
            os.kill(program.pid, signal.SIGKILL)
            program.wait()
            lock = db.lock("engine", "me", wait_s=30)
        assert not lock.lost
        lock.release()
        lock.release()
        db.lock("engine", "me").release()

    def test_a_fence_that_holds_lets_writers_pass(self, db: Database) -> None:
        lock = db.lock("engine", "me")
        db.fence(lock)
        count_up(db)
        db.fence(None)
        lock.release()
        count_up(db)
        assert db.events.last() == 2

    def test_the_migrations_make_what_the_tables_say(self, url: str) -> None:
        all_tables()
        with closing(Database.open(url)) as database:
            migrate(database)
            assert differences(database) == []

    def test_a_new_database_is_what_the_tables_say(self, db: Database) -> None:
        with db.begin() as tx:
            tx.execute(sa.schema.DropTable(things))
        assert differences(db) == []

    def test_a_workspace_is_made_once(self, db: Database) -> None:
        made = db.identity()
        assert made is not None
        assert not db.create(store="elsewhere")
        assert db.identity() == made


def _names(db: Database) -> list[str]:
    with db.read() as tx:
        return list(tx.execute(sa.select(things.c.name).order_by(things.c.name)).scalars())


@contextmanager
def _programs(name: str, url: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Programs that are at work, or wait for a line; ended at the end."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM + _PROGRAMS[name], name, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for program in running:
            assert program.stdout is not None, "it was asked for"
            assert program.stdout.readline() == "ready\n"
        yield running
    finally:
        for program in running:
            program.kill()
            program.communicate()


def _say(program: Any) -> None:
    program.stdin.write("go\n")
    program.stdin.flush()
