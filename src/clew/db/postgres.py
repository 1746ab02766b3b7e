"""All that is particular to PostgreSQL: connections, transactions, upserts, errors, locks, watch.

Knows no table. The same names as in ``sqlite.py``; design/0015 says why it is done this way. A
workspace lives in the first schema of the search path, so a database can hold several.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any, LiteralString

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.base import PGTypeCompiler
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext
from sqlalchemy.pool import QueuePool

from clew.base.errors import ClewError, Conflict, Invalid, NotFound, Unavailable
from clew.db import sqlstates

BUSY_TIMEOUT_S = 30
CONNECT_S = 10
WRITING = "clew_writing"
"""Execution option of a connection that opens write transactions."""

LOOK_S = 1.0
"""How late at most an event is seen whose notification was lost with the connection."""

BEAT_S = 5.0
"""How often the connection of a lock is proved to be there."""

MIN_VERSION = 140000
FENCE = "clew_fence"
"""Execution option: the lock without which no write transaction begins."""

UPGRADES_ITSELF = False
"""Others work on it from other machines, and copies are for whoever runs the server."""

_DRIVER = "postgresql+clew"
_NUL, _FOR_NUL = "\0", "\N{SYMBOL FOR NULL}"

# The session as Clew needs it, and what names its locks and its channel: the schema. A client
# that is cut off is noticed within half a minute, so that what it had locked becomes free.
_SESSION = """
SELECT current_schema(), current_setting('server_encoding'),
       hashtextextended('clew:' || current_schema(), 0),
       set_config('lock_timeout', %s, false), set_config('idle_session_timeout', '0', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false)
"""

_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Each statement after the lock sees what the last writer committed; nobody commits before we do.
_WRITE = "BEGIN; SELECT pg_advisory_xact_lock({key})"
# Whether a lock is still held by the session that took it; asked once nobody else can write.
_HELD = """
; SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = {pid}
  AND classid = {high} AND objid = {low} AND objsubid = 1
"""

_LOCK_KEY = "SELECT hashtextextended('clew:' || current_schema() || %s, 0)"
_TRY_LOCK = "SELECT pg_try_advisory_lock(%s)"
_HOLDER = """
SELECT a.application_name
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = %s AND l.objid = %s
"""


class Session(psycopg.Connection[Any]):
    """A connection that knows the key of its workspace."""

    clew_key = 0


def make_engine(url: URL) -> Engine:
    """An engine whose connections begin transactions themselves.

    Any number of threads may take connections. Errors of PostgreSQL leave it as ClewErrors where
    a person can do something about them; none tells a password.
    """
    registry.register("postgresql.clew", __name__, "Dialect")
    url = url.set(drivername=_DRIVER)
    engine = sa.create_engine(
        url,
        creator=lambda: connect(url),
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=-1,
        use_native_hstore=False,
    )
    sa.event.listen(engine, "begin", _begin)
    sa.event.listen(engine, "handle_error", _translate)
    return engine


def connect(url: URL, name: str = "clew") -> Session:
    """A connection of its own, in autocommit, whose ``name`` the server shows.

    Raises:
        Unavailable: ``db.unreachable``; ``db.busy`` where the server takes no more.
        Denied: ``db.denied``.
        NotFound: ``db.missing`` for a database or a schema that is not there.
        Invalid: ``db.version``, ``db.encoding``.
    """
    dialect: Any = Dialect
    _, arguments = dialect(dbapi=psycopg).create_connect_args(url)
    defaults = {
        "connect_timeout": CONNECT_S,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "client_encoding": "utf8",
        "application_name": name.encode()[:63].decode(errors="ignore"),
    }
    try:
        connection = Session.connect(**{**defaults, **arguments, "autocommit": True})
    except psycopg.Error as error:
        # Its trace holds the arguments, and with them the password.
        raise sqlstates.of_connecting(str(error), _place(url)) from None
    try:
        _prepare(connection, url)
    except BaseException:
        connection.close()
        raise
    return connection


@lru_cache(maxsize=256)
def upsert(table: sa.Table, key: tuple[str, ...], refresh: tuple[str, ...]) -> sa.Executable:
    """To run with rows: insert; of those whose ``key`` exists, take over ``refresh`` only."""
    statement = insert(table)
    if not refresh:
        return statement.on_conflict_do_nothing(index_elements=list(key))
    values = {name: statement.excluded[name] for name in refresh}
    return statement.on_conflict_do_update(index_elements=list(key), set_=values)


def before_commit(connection: Connection) -> None:
    """Tell the watches of all processes, at the commit, that there are events."""
    session: Any = connection.connection.driver_connection
    connection.exec_driver_sql(f'NOTIFY "{_channel(session.clew_key)}"')


def go_on_from(connection: Connection, column: sa.Column[Any]) -> None:
    """Move the sequence behind a column after the greatest number there is."""
    sequence = sa.func.pg_get_serial_sequence(column.table.name, column.name)
    last = sa.select(sa.func.coalesce(sa.func.max(column), 0) + 1).scalar_subquery()
    connection.execute(sa.select(sa.func.setval(sequence, last, sa.false())))


class Watch:
    """Tells cheaply whether events were committed since: by LISTEN, on a thread of its own.

    Thread-safe. ``on_change`` is called, on that thread, after every change of the counter. What
    is lost with a connection is made good by counting once a second in any case.
    """

    exact = False  # the server tells a moment later
    poll_s = LOOK_S

    def __init__(self, engine: Engine) -> None:
        self._url = engine.url
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._closed = threading.Event()
        self._count = 0
        self._thread: threading.Thread | None = None
        self._bell = _Bell()
        self.on_change: Callable[[], None] = lambda: None

    def version(self) -> int:
        """Equal to the last answer only if nothing was committed in between."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._follow, name="clew-listen", daemon=True
                    )
                    self._thread.start()
            self._ready.wait(CONNECT_S)
        return self._count

    def close(self) -> None:
        """End the thread and its connection."""
        self._closed.set()
        self._bell.ring()
        if self._thread is not None:
            self._thread.join()
        self._bell.close()

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                with connect(self._url, "clew listens") as connection:
                    connection.execute(f'LISTEN "{_channel(connection.clew_key)}"')
                    self._changed()  # what came before we listened
                    while not self._closed.is_set():
                        _wait(connection, self._bell, LOOK_S)
                        self._changed()
            except (ClewError, psycopg.Error):  # whoever waits asks the database and is told
                self._changed()
                self._closed.wait(LOOK_S)

    def _changed(self) -> None:
        self._count += 1
        self._ready.set()
        self.on_change()


make_watch = Watch


def make_direct(_engine: Engine) -> None:
    """Nothing: what a statement costs here is the way to the server and back."""


class SessionLock:
    """A lock of the database, held by a connection: free when that ends, whatever the reason.

    Keeps :class:`clew.db.Lock`.
    """

    def __init__(self, connection: Session, key: int) -> None:
        self._connection = connection
        high, low = _halves(key)
        self.held = _HELD.format(pid=connection.info.backend_pid, high=high, low=low)
        """What asks the server, after other commands, whether the lock is held; a row if it is."""
        self._guard = threading.Lock()
        self._bell = _Bell()
        self._lost = False
        self._released = False
        self._acts: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._hold, name="clew-lock", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether the connection ended while the lock was held: another may have it now."""
        return self._lost

    def on_loss(self, act: Callable[[], None]) -> None:
        """Call ``act``, on a thread of the lock's own, when it is lost; at once if it is."""
        with self._guard:
            if not self._lost:
                self._acts.append(act)
                return
        act()

    def release(self) -> None:
        """Let others have it. Doing so twice is harmless."""
        if self._released:
            return
        self._released = True
        self._bell.ring()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._connection.close()
        self._bell.close()

    def __enter__(self) -> SessionLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _hold(self) -> None:
        try:
            while not self._released:
                _wait(self._connection, self._bell, BEAT_S)
                if not self._released:
                    self._connection.execute("SELECT 1")
        except psycopg.Error:
            with self._guard:
                self._lost = True
                acts = list(self._acts)
            for act in acts:
                act()


def lock(engine: Engine, name: str, owner: str) -> SessionLock:
    """Take the lock of a name over all machines at once; ``owner`` says in words who holds it.

    Raises:
        Conflict: ``lock.held``, naming the holder.
        Unavailable: ``db.unreachable``.
    """
    who = f"{owner} (process {os.getpid()} on {socket.gethostname()})"
    connection = connect(engine.url, who)
    try:
        key = _one(connection, _LOCK_KEY, f":{name}")
        if not _one(connection, _TRY_LOCK, key):
            holder = connection.execute(_HOLDER, _halves(key)).fetchone()
            raise Conflict(
                "lock.held",
                f"{name} is held by {holder[0] if holder else 'another process'}.",
                hint="Wait until it ends, or stop it, then do this again.",
            )
    except psycopg.Error as error:
        connection.close()
        raise _error(error, _place(engine.url)) from error
    except BaseException:
        connection.close()
        raise
    return SessionLock(connection, key)


def _one(connection: Session, query: LiteralString, value: object) -> Any:
    row = connection.execute(query, (value,)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    return row[0]


def _halves(key: int) -> tuple[int, int]:
    """The upper and the lower half of a key of 64 bits, as pg_locks shows them."""
    return key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF


def backup(engine: Engine, name: str) -> str:  # noqa: ARG001 - as SQLite has it
    """Nothing: who upgrades a server keeps a copy of it in their own way."""
    return ""


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """A write transaction in which tables may be changed."""
    with engine.execution_options(**{WRITING: True}).connect() as connection, connection.begin():
        yield connection


class _Bell:
    """What wakes a thread that waits for a connection."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        """To wait for."""
        return self._read

    def ring(self) -> None:
        """Wake."""
        os.write(self._write, b"x")

    def close(self) -> None:
        """No more."""
        os.close(self._read)
        os.close(self._write)


def _wait(connection: Session, bell: _Bell, timeout_s: float) -> None:
    """Until the server says something, ``bell`` rings, or time is over.

    Raises:
        psycopg.Error: the connection has ended.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    poll.register(bell.fileno(), select.POLLIN)
    ready = [descriptor for descriptor, _ in poll.poll(timeout_s * 1000)]
    if connection.fileno() in ready:
        connection.pgconn.consume_input()
        while connection.pgconn.notifies() is not None:
            pass


# transactions -----------------------------------------------------------------------------------


def _prepare(connection: Session, url: URL) -> None:
    version = connection.info.server_version
    if version < MIN_VERSION:
        raise Invalid(
            "db.version",
            f"PostgreSQL {version // 10000} at {_place(url)} is too old for Clew.",
            hint=f"Use PostgreSQL {MIN_VERSION // 10000} or newer.",
        )
    row = connection.execute(_SESSION, (f"{BUSY_TIMEOUT_S}s",)).fetchone()
    assert row is not None, "a SELECT without FROM has one row"
    schema, encoding, key = row[:3]
    if schema is None:
        raise NotFound(
            "db.missing",
            f"No schema of the search path exists in {_place(url)}.",
            hint="Make it with CREATE SCHEMA, or take it out of `options` in the URL.",
        )
    if encoding != "UTF8":
        raise Invalid(
            "db.encoding",
            f"The database {_place(url)} keeps text as {encoding}.",
            hint="Make it anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
        )
    connection.clew_key = key


def _begin(connection: Connection) -> None:
    session: Any = connection.connection.driver_connection
    options = connection.get_execution_options()
    fence: SessionLock | None = options.get(FENCE)
    try:
        # Several commands at once cannot be prepared, and one way to the server is saved.
        if not options.get(WRITING, False):
            session.execute(_READ, prepare=False)
            return
        write = _WRITE.format(key=session.clew_key) + (fence.held if fence is not None else "")
        cursor = session.execute(write, prepare=False)
        if fence is None:
            return
        while cursor.nextset():
            pass
        held = cursor.fetchone() is not None
    except psycopg.Error as error:
        if session.closed:
            connection.invalidate(error)
        else:
            session.rollback()
        raise _error(error, _place(connection.engine.url)) from error
    if not held:
        session.rollback()
        raise Unavailable(
            "lock.lost",
            "This process has lost the lock under which it works: another may have taken over.",
            hint="Nothing was written. Do it again in a moment.",
        )


def _channel(key: int) -> str:
    return f"clew_{key & 0xFFFFFFFFFFFFFFFF:016x}"


# types ------------------------------------------------------------------------------------------


class _Integer(sa.BigInteger):
    """Whole numbers of 64 bits, as SQLite's are; truth counts as 0 and 1, sums stay whole."""

    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        return lambda value: None if value is None else int(value)

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:  # noqa: ARG002 - as above
        return lambda value: int(value) if isinstance(value, Decimal) else value


class _Text(sa.Text):
    """Text; PostgreSQL cannot keep NUL, so its picture stands for it."""

    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        return _without_nul


def _without_nul(value: str | None) -> str | None:
    return value.replace(_NUL, _FOR_NUL) if value is not None and _NUL in value else value


class _Types(PGTypeCompiler):
    """All whole numbers are BIGINT; text compares and sorts by its bytes, as SQLite's does."""

    def visit_INTEGER(self, type_: Any, **kw: Any) -> str:  # noqa: ARG002, N802 - SQLAlchemy's name
        return "BIGINT"

    def visit_TEXT(self, type_: Any, **kw: Any) -> str:  # noqa: N802 - SQLAlchemy's name
        text: str = super().visit_TEXT(type_, **kw)
        column = isinstance(kw.get("type_expression"), sa.Column)
        return f'{text} COLLATE "C"' if column and not type_.collation else text


class Dialect(PGDialect_psycopg):
    """PostgreSQL as Clew's tables mean it."""

    driver = "clew"
    supports_statement_cache = True
    type_compiler_cls = _Types
    colspecs = {  # noqa: RUF012 - as SQLAlchemy declares it
        **PGDialect_psycopg.colspecs,
        sa.Integer: _Integer,
        sa.BigInteger: _Integer,
        sa.Text: _Text,
    }


# errors -----------------------------------------------------------------------------------------


def _translate(context: ExceptionContext) -> None:
    original = context.original_exception
    if isinstance(original, psycopg.Error) and context.engine is not None:
        place = _place(context.engine.url)
        ended = context.is_disconnect or _closed(context)
        error = sqlstates.known(original.sqlstate or "", str(original), place, ended=ended)
        if error is not None:
            raise error from original


def _closed(context: ExceptionContext) -> bool:
    connection = context.connection
    if connection is None or connection.invalidated:
        return True
    raw: Any = connection.connection.driver_connection
    return bool(raw is None or raw.closed)


def _error(error: psycopg.Error, place: str) -> Exception:
    """A ClewError where there is one, else the error itself."""
    ended = error.sqlstate is None
    return sqlstates.known(error.sqlstate or "", str(error), place, ended=ended) or error


def _place(url: URL) -> str:
    """A database as it may be shown: no password, and nothing of the query, which may hold one."""
    return url.set(drivername="postgresql", password=None, query={}).render_as_string()
