"""Every kind of database keeps the law of Database."""

import threading

import pytest

from clew.base.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from clew.db import Database
from clew.testing.counting import count_up
from clew.testing.db import DatabaseConformance
from clew.testing.postgres import PASSWORD, PostgresServer


@pytest.fixture(scope="module")
def server():
    try:
        server = PostgresServer.make()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    yield server
    server.remove()


class TestSqlite(DatabaseConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path / 'clew.db'}"


class TestPostgres(DatabaseConformance):
    @pytest.fixture
    def url(self, server, tmp_path):
        return server.schema(tmp_path.as_posix())

    def test_a_lost_connection_loses_the_lock_and_fences_its_holder_off(self, db, server):
        told = threading.Event()
        lock = db.lock("engine", "the first")
        db.fence(lock)
        count_up(db)
        lock.on_loss(told.set)
        end = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
        assert server.execute(end + "WHERE application_name LIKE 'the first%'") == [(True,)]
        with pytest.raises(Unavailable) as caught:
            count_up(db)
        assert caught.value.code == "lock.lost"
        other = db.lock("engine", "the second", wait_s=30)
        assert told.wait(30)
        assert lock.lost
        lock.release()
        db.fence(other)
        count_up(db)
        assert db.events.last() == 2
        db.fence(None)
        other.release()

    def test_a_restart_of_the_server_is_outlived(self, db, server):
        count_up(db)
        with db.read(), db.read(), db.read():  # so that the pool keeps several
            count_up(db)
        server.stop()
        with pytest.raises(Unavailable) as caught:
            count_up(db)
        assert caught.value.code == "db.unreachable"
        assert PASSWORD not in str(caught.value)
        server.start()
        count_up(db)
        assert [event.data["count"] for event in db.events.after(0)] == [1, 2, 3]
        assert not db.events.wait(db.events.last(), 0)

    def test_a_connection_that_breaks_in_a_transaction_is_said(self, db, server):
        def break_in_between():
            with db.begin() as tx:
                tx.emit("thing.made", subject="x")
                server.execute(
                    "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
                    "WHERE state = 'idle in transaction'"
                )
                tx.emit("thing.made", subject="y")

        with pytest.raises(Unavailable) as caught:
            break_in_between()
        assert caught.value.code == "db.unreachable"
        count_up(db)
        assert [event.kind for event in db.events.after(0)] == ["thing.counted"]

    @pytest.mark.parametrize(
        ("change", "kind", "code"),
        [
            (("for%20tests", "wrong"), Denied, "db.denied"),
            (("/clew?", "/nowhere?"), NotFound, "db.missing"),
            (("search_path%3D", "search_path%3Dno"), NotFound, "db.missing"),
            (("127.0.0.1:", "127.0.0.1:x"), Invalid, "db.url"),
        ],
    )
    def test_what_cannot_be_reached_is_said_without_the_password(self, url, change, kind, code):
        with pytest.raises(kind) as caught:
            Database.open(url.replace(*change)).create()
        assert caught.value.code == code
        for secret in (PASSWORD, "not%20a%20secret"):
            assert secret not in str(caught.value) + repr(caught.value.__cause__)

    def test_a_server_that_is_not_there_is_unreachable(self):
        database = Database.open("postgresql://u:hidden@127.0.0.1:1/clew")
        with pytest.raises(Unavailable) as caught:
            database.create()
        database.close()
        assert caught.value.code == "db.unreachable"
        assert "hidden" not in str(caught.value)

    def test_a_standby_says_that_it_takes_no_writes(self, db, url):
        reading = Database.open(url + "%20-cdefault_transaction_read_only%3Don")
        with pytest.raises(Unavailable) as caught:
            count_up(reading)
        reading.close()
        assert caught.value.code == "workspace.read_only"

    def test_a_role_without_rights_is_denied(self, server, url):
        server.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        start = url.index("//") + 2
        guest = Database.open(url[:start] + "guest:guest" + url[url.index("@") :])
        with pytest.raises((Denied, NotFound)):
            guest.create()
        guest.close()

    def test_two_schemas_of_a_database_do_not_know_each_other(self, db, server, tmp_path):
        other = Database.open(server.schema(f"{tmp_path}/other"))
        assert other.identity() is None
        other.create()
        assert other.identity() != db.identity()
        mine, theirs = db.lock("engine", "a"), other.lock("engine", "b")
        with pytest.raises(Conflict):
            other.lock("engine", "c")
        mine.release()
        theirs.release()
        other.close()

    def test_every_text_column_compares_by_bytes(self, db, server):
        other = server.execute(
            "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
            "JOIN pg_collation k ON k.oid = a.attcollation "
            "WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text LIKE 't%' "
            "AND a.attnum > 0 AND k.collname <> 'C'"
        )
        assert other == []
