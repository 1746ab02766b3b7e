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
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.base import PGTypeCompiler
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext
from sqlalchemy.pool import QueuePool

from clew.base.errors import ClewError, Conflict, Corrupt, Denied, Invalid, NotFound, Unavailable

BUSY_TIMEOUT_S = 30
CONNECT_S = 10
WRITING = "clew_writing"
"""Execution option of a connection that opens write transactions."""

LOOK_S = 1.0
"""How late at most an event is seen whose notification was lost with the connection."""

BEAT_S = 5.0
"""How often the connection of a lock is proved to be there."""

MIN_VERSION = 140000
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

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('clew:' || current_schema() || %s, 0))"
_HOLDER = """
SELECT a.application_name
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid,
     hashtextextended('clew:' || current_schema() || %s, 0) AS k(key)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = ((k.key >> 32) & 4294967295)::oid AND l.objid = (k.key & 4294967295)::oid
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
        raise _of_connecting(error, _place(url)) from None  # its trace holds the arguments
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


class Watch:
    """Tells cheaply whether events were committed since: by LISTEN, on a thread of its own.

    Thread-safe. ``on_change`` is called, on that thread, after every change of the counter. What
    is lost with a connection is made good by counting once a second in any case.
    """

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


class SessionLock:
    """A lock of the database, held by a connection: free when that ends, whatever the reason.

    Keeps :class:`clew.db.Lock`.
    """

    def __init__(self, connection: Session) -> None:
        self._connection = connection
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
        row = connection.execute(_TRY_LOCK, (f":{name}",)).fetchone()
        if row is None or not row[0]:
            holder = connection.execute(_HOLDER, (f":{name}",)).fetchone()
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
    return SessionLock(connection)


def backup(engine: Engine, name: str) -> str:  # noqa: ARG001 as SQLite has it
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
    writing = connection.get_execution_options().get(WRITING, False)
    try:
        # Several commands at once cannot be prepared, and one way to the server is saved.
        begin = _WRITE.format(key=session.clew_key) if writing else _READ
        session.execute(begin, prepare=False)
    except psycopg.Error as error:
        if session.closed:
            connection.invalidate(error)
        else:
            session.rollback()
        raise _error(error, _place(connection.engine.url)) from error


def _channel(key: int) -> str:
    return f"clew_{key & 0xFFFFFFFFFFFFFFFF:016x}"


# types ------------------------------------------------------------------------------------------


class _Integer(sa.BigInteger):
    """Whole numbers of 64 bits, as SQLite's are; truth counts as 0 and 1, sums stay whole."""

    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:  # noqa: ARG002 SQLAlchemy's signature
        return lambda value: None if value is None else int(value)

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:  # noqa: ARG002
        return lambda value: int(value) if isinstance(value, Decimal) else value


class _Text(sa.Text):
    """Text; PostgreSQL cannot keep NUL, so its picture stands for it."""

    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:  # noqa: ARG002 SQLAlchemy's signature
        return _without_nul


def _without_nul(value: str | None) -> str | None:
    return value.replace(_NUL, _FOR_NUL) if value is not None and _NUL in value else value


class _Types(PGTypeCompiler):
    """All whole numbers are BIGINT; text compares and sorts by its bytes, as SQLite's does."""

    def visit_INTEGER(self, type_: Any, **kw: Any) -> str:  # noqa: ARG002, N802 SQLAlchemy's name
        return "BIGINT"

    def visit_TEXT(self, type_: Any, **kw: Any) -> str:  # noqa: N802 SQLAlchemy's name
        text: str = super().visit_TEXT(type_, **kw)
        column = isinstance(kw.get("type_expression"), sa.Column)
        return f'{text} COLLATE "C"' if column and not type_.collation else text


class Dialect(PGDialect_psycopg):
    """PostgreSQL as Clew's tables mean it."""

    driver = "clew"
    supports_statement_cache = True
    type_compiler_cls = _Types
    colspecs = {  # noqa: RUF012 as SQLAlchemy declares it
        **PGDialect_psycopg.colspecs,
        sa.Integer: _Integer,
        sa.BigInteger: _Integer,
        sa.Text: _Text,
    }


_Known = tuple[type[ClewError], str, str, str]
"""Kind, code, message and hint of an error."""

# errors -----------------------------------------------------------------------------------------


def _translate(context: ExceptionContext) -> None:
    original = context.original_exception
    if isinstance(original, psycopg.Error) and context.engine is not None:
        place = _place(context.engine.url)
        if context.is_disconnect or original.sqlstate is not None or _closed(context):
            error = _known(original, place, ended=context.is_disconnect or _closed(context))
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
    return _known(error, place, ended=error.sqlstate is None) or error


def _known(error: psycopg.Error, place: str, *, ended: bool) -> ClewError | None:
    state = error.sqlstate or ""
    found = _ERRORS.get(state) or _ERRORS.get(state[:2])
    if found is None and ended:
        found = _UNREACHABLE
    return None if found is None else _said(found, error, place)


def _of_connecting(error: psycopg.Error, place: str) -> ClewError:
    """The library gives no SQLSTATE for what happens before there is a session: words must do."""
    text = str(error)
    found = next((known for words, known in _REFUSALS if words in text), _UNREACHABLE)
    return _said(found, error, place)


def _said(known: _Known, error: psycopg.Error, place: str) -> ClewError:
    kind, code, message, hint = known
    reason = f"(PostgreSQL: {_first_line(error)})"
    return kind(code, f"{message.format(place=place)} {reason}.", hint=hint)


def _first_line(error: psycopg.Error) -> str:
    """What the server says, or what the library says of getting there."""
    text = str(error).strip()
    found = text.partition("FATAL:")[2] or text.partition("\n")[0]
    return found.strip().partition("\n")[0].removeprefix("connection failed: ").rstrip(".")


def _place(url: URL) -> str:
    """A database as it may be shown: no password, and nothing of the query, which may hold one."""
    return url.set(drivername="postgresql", password=None, query={}).render_as_string()


_UNREACHABLE: _Known = (
    Unavailable,
    "db.unreachable",
    "The database {place} cannot be reached",
    "Check that PostgreSQL runs there and takes connections from here, then do it again.",
)
_DENIED: _Known = (
    Denied,
    "db.denied",
    "The database {place} refuses this user",
    "Check user and password (PGPASSWORD, ~/.pgpass or the URL) and the rights on the schema.",
)
_MISSING: _Known = (
    NotFound,
    "db.missing",
    "There is no database {place}",
    "Make it with `createdb`, or name another.",
)
_FULL: _Known = (
    Unavailable,
    "db.busy",
    "The server of {place} takes no more connections",
    "Raise max_connections, or end what holds them, then do it again.",
)
_BUSY: _Known = (
    Unavailable,
    "db.busy",
    f"Another process has held the database {{place}} for more than {BUSY_TIMEOUT_S} s",
    "Find what holds it in pg_stat_activity, end that, then do it again.",
)
_CORRUPT: _Known = (
    Corrupt,
    "db.corrupt",
    "The database {place} is damaged",
    "Restore it from a backup; the store is not affected.",
)
_REFUSALS: tuple[tuple[str, _Known], ...] = (
    ("password authentication failed", _DENIED),
    ("no password supplied", _DENIED),
    ("authentication failed", _DENIED),
    ("no pg_hba.conf entry", _DENIED),
    ("permission denied for database", _DENIED),
    ("is not permitted to log in", _DENIED),
    ('role "', _DENIED),
    ("too many clients", _FULL),
    ("remaining connection slots", _FULL),
    ("too many connections", _FULL),
    ('database "', _MISSING),
)
"""By words of https://www.postgresql.org/docs/current/client-authentication-problems.html."""

_ERRORS: dict[str, _Known] = {
    "08": _UNREACHABLE,
    "57P01": _UNREACHABLE,
    "57P02": _UNREACHABLE,
    "57P03": _UNREACHABLE,
    "57P05": _UNREACHABLE,
    "25P03": _UNREACHABLE,
    "28": _DENIED,
    "42501": _DENIED,
    "3D000": _MISSING,
    "53300": _FULL,
    "55P03": _BUSY,
    "40P01": _BUSY,
    "XX001": _CORRUPT,
    "XX002": _CORRUPT,
    "53100": (
        Unavailable,
        "disk.full",
        "The disk of the server of {place} is full; nothing of this change was kept",
        "Free space there, then do it again.",
    ),
    "25006": (
        Unavailable,
        "workspace.read_only",
        "The database {place} takes no writes: it is a standby or set to read-only",
        "Name the primary server.",
    ),
    "58030": (
        Unavailable,
        "disk.error",
        "The disk of the server of {place} failed; nothing of this change was kept",
        "Look into the log of PostgreSQL, then do it again.",
    ),
}
"""By SQLSTATE or its class (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
