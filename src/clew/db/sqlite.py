"""All that is particular to SQLite: connections, transactions, upserts, errors, change watch.

Knows no table. Another database needs another file with the same names, as ``postgres.py``.

``synchronous=FULL`` is chosen over NORMAL on purpose, see design/0004.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext
from sqlalchemy.pool import QueuePool

from clew.base.errors import ClewError, Corrupt, Unavailable
from clew.db.direct import OPTION, Direct
from clew.db.locks import FileLock

BUSY_TIMEOUT_S = 30
WRITING = "clew_writing"
"""Execution option of a connection that opens write transactions."""

FENCE = "clew_fence"
"""Execution option: the lock that must be held. A lock file is never lost: nothing to see to."""

UPGRADES_ITSELF = True
"""It is one file, used from one machine, and a copy of it is quickly made."""

_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-4000",  # of each connection; the system keeps the file in memory too
    "PRAGMA temp_store=MEMORY",
)


def make_engine(url: URL) -> Engine:
    """An engine whose connections are in WAL mode and begin transactions themselves.

    Any number of threads may take connections. Errors of SQLite leave it as ClewErrors where a
    person can do something about them.
    """
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=-1,
        pool_use_lifo=True,  # few connections are used as long as few are needed, and stay warm
        connect_args={
            "timeout": BUSY_TIMEOUT_S,
            "isolation_level": None,  # the module's own implicit BEGIN would come too late
            "check_same_thread": False,
            "cached_statements": 512,
        },
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    sa.event.listen(engine, "handle_error", _translate)
    return engine


@lru_cache(maxsize=256)
def upsert(table: sa.Table, key: tuple[str, ...], refresh: tuple[str, ...]) -> sa.Executable:
    """To run with rows: insert; of those whose ``key`` exists, take over ``refresh`` only.

    Made once for each use, as building and compiling it costs ten times what running it does.
    """
    statement = insert(table)
    if not refresh:
        return statement.on_conflict_do_nothing(index_elements=list(key))
    values = {name: statement.excluded[name] for name in refresh}
    return statement.on_conflict_do_update(index_elements=list(key), set_=values)


def before_commit(connection: Connection) -> None:
    """Nothing: whoever waits looks at the file."""


def go_on_from(connection: Connection, column: sa.Column[Any]) -> None:
    """Nothing: AUTOINCREMENT goes on after the greatest number by itself."""


def lock(engine: Engine, name: str, owner: str) -> FileLock:
    """Take the lock of a name at once; ``owner`` says in words who holds it.

    Raises:
        Conflict: ``lock.held``, naming the holder.
    """
    return FileLock.acquire(_file(engine).parent / f"{name}.lock", owner)


@contextlib.contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """A write transaction in which a table may be made anew under its name.

    Foreign keys are checked at the end: in force, they would empty the tables that point there.
    """
    with engine.execution_options(**{WRITING: True}).connect() as connection:
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                if broken is not None:
                    raise RuntimeError(f"rows of {broken[0]} point to nothing in {broken[2]}")
        finally:
            raw.execute("PRAGMA foreign_keys=ON")


def backup(engine: Engine, name: str) -> str:
    """Copy the whole database to a file of ``name`` beside it, atomically; where that is."""
    file = _file(engine)
    target = file.with_name(name)
    temporary = file.with_name(f"{name}.tmp")
    temporary.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(file)) as source,
        contextlib.closing(sqlite3.connect(temporary)) as copy,
    ):
        source.backup(copy)
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(target)
    return str(target)


class Watch:
    """Tells cheaply whether anybody has committed since: a counter that changes with commits.

    Thread-safe. ``PRAGMA data_version`` moves on this connection when another one, of any
    process, commits; this one never writes. Nobody calls ``on_change`` here.
    """

    exact = True
    poll_s = 0.02

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._connection: Connection | None = None
        self.on_change: Callable[[], None] = lambda: None

    def version(self) -> int:
        """Equal to the last answer if and only if nothing was committed in between."""
        with self._lock:
            if self._connection is None:
                self._connection = self._engine.connect()
            raw = self._connection.connection.cursor()
            try:
                raw.execute("PRAGMA data_version")
                row = raw.fetchone()
            finally:
                raw.close()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


make_watch = Watch


def make_direct(engine: Engine) -> Direct:
    """What runs the statements of transactions without SQLAlchemy in between."""
    return Direct(engine, sqlite3.Error, _told)


def _prepare(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    _to_wal(cursor)
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _to_wal(cursor: sqlite3.Cursor) -> None:
    """Switch to WAL once. Two first openers may collide, and SQLite does not wait for that."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if OPTION not in options:
        writing = options.get(WRITING, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _translate(context: ExceptionContext) -> None:
    original = context.original_exception
    if isinstance(original, sqlite3.Error):
        error = _told(context.engine, original)
        if error is not None:
            raise error from original


def _told(engine: Engine | None, original: Exception) -> ClewError | None:
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_CANTOPEN and _is_read_only(engine):
        code = sqlite3.SQLITE_READONLY
    if code == sqlite3.SQLITE_IOERR and _is_full(engine):
        code = sqlite3.SQLITE_FULL
    return _error(code, str(original))


def _file(engine: Engine) -> Path:
    return Path(str(engine.url.database).removeprefix("file:"))


def _is_read_only(engine: Engine | None) -> bool:
    """Whether the file is there and nothing can be made beside it, as WAL mode has to."""
    file = Path(str(engine.url.database)) if engine is not None else None
    return file is not None and file.exists() and not os.access(file.parent, os.W_OK)


def _is_full(engine: Engine | None) -> bool:
    """Whether there is no room beside the file for the memory that readers share."""
    if engine is None:
        return False
    try:
        disk = os.statvfs(_file(engine).parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _SHARED_BYTES


def _error(code: int, text: str) -> ClewError | None:
    if code not in _ERRORS:
        return None
    kind, name, message, hint = _ERRORS[code]
    return kind(name, f"{message} (SQLite: {text}).", hint=hint)


_SHARED_BYTES = 32 << 10
"""What a reader in WAL mode has SQLite make; where it cannot, that is an I/O error."""

_BUSY = (
    Unavailable,
    "db.busy",
    f"Another process has held the database for more than {BUSY_TIMEOUT_S} s",
    "Find what holds it (a backup, a shell), end that, then do it again.",
)
_CORRUPT = (
    Corrupt,
    "db.corrupt",
    "The database file of the workspace is damaged",
    "Restore clew.db from a backup; the store beside it is not affected.",
)
_ERRORS: dict[int, tuple[type[ClewError], str, str, str]] = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTADB: _CORRUPT,
    sqlite3.SQLITE_FULL: (
        Unavailable,
        "disk.full",
        "The disk is full; nothing of this change was kept",
        "Free space on the disk of the workspace, then do it again.",
    ),
    sqlite3.SQLITE_READONLY: (
        Unavailable,
        "workspace.read_only",
        "The database of the workspace is read-only",
        "Make the .clew directory and its files writable for this user.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        Unavailable,
        "db.cannot_open",
        "The database file cannot be opened",
        "Check that its directory exists and that this user may write there.",
    ),
    sqlite3.SQLITE_IOERR: (
        Unavailable,
        "disk.error",
        "The disk failed under the database; nothing of this change was kept",
        "Look into the system log, then do it again.",
    ),
}
"""By SQLite's primary result code (https://www.sqlite.org/rescode.html)."""
