"""A database of rows and its transactions.

Knows no table of any room, and nothing particular to SQLite or to PostgreSQL: that is in the
files of their names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from threading import Lock as Mutex
from threading import get_ident
from typing import Any, Protocol, TypeAlias, cast

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection, CursorResult, Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.dml import UpdateBase

from clew.base import clock
from clew.base.errors import Conflict, Invalid, Unavailable
from clew.base.ids import new_id
from clew.db import upgrading
from clew.db.direct import Direct, Found
from clew.db.events import LAST, Events, Watch
from clew.db.locks import Lock
from clew.db.schema import events, metadata, schema_version, workspaces

ENGINE_LOCK = "engine"
"""The lock of whoever works on a workspace; an upgrade takes it too."""
LOCK_POLL_S = 0.05
_BACKENDS = {
    "sqlite": "clew.db.sqlite",
    "postgresql": "clew.db.postgres",
    "postgres": "clew.db.postgres",
}


class Backend(Protocol):
    """What a kind of database has to offer: the names of ``sqlite.py`` and ``postgres.py``."""

    WRITING: str
    FENCE: str
    UPGRADES_ITSELF: bool

    def make_engine(self, url: sa.URL) -> Engine:
        """An engine whose connections begin transactions themselves."""
        ...

    def make_watch(self, engine: Engine) -> ClosingWatch:
        """What tells of commits."""
        ...

    def make_direct(self, engine: Engine) -> Direct | None:
        """What runs transactions in place of SQLAlchemy, where there is such a thing."""
        ...

    def upsert(
        self, table: sa.Table, key: tuple[str, ...], refresh: tuple[str, ...]
    ) -> sa.Executable:
        """To run with rows: insert; of those whose ``key`` exists, take over ``refresh``."""
        ...

    def before_commit(self, connection: Connection) -> None:
        """The last act of a transaction that has recorded events."""
        ...

    def go_on_from(self, connection: Connection, column: sa.Column[Any]) -> None:
        """Let a column that counts itself go on after its greatest number."""
        ...

    def lock(self, engine: Engine, name: str, owner: str) -> Lock:
        """Take a lock at once; Conflict ``lock.held`` names who has it."""
        ...

    def backup(self, engine: Engine, name: str) -> str:
        """Keep a copy of all rows; where it is."""
        ...

    def changing(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A write transaction in which tables may be made anew."""
        ...


class ClosingWatch(Watch, Protocol):
    """A watch that holds something."""

    def close(self) -> None:
        """Let go of it."""
        ...


class Identity(Struct, frozen=True, kw_only=True):
    """Which workspace a database holds, and where its bytes are ('': on one machine's disk)."""

    id: str
    store: str


_EMIT = events.insert()

Answer: TypeAlias = CursorResult[*tuple[Any, ...]] | Found
"""Rows of a statement, each once; or how many it has changed (``rowcount``)."""


class Tx:
    """One transaction. Belongs to the thread that opened it and ends with its ``with`` block."""

    def __init__(
        self, connection: Connection, backend: Backend, direct: Direct | None, *, writing: bool
    ) -> None:
        self._connection = connection
        self._backend = backend
        self._direct = direct
        self._writing = writing
        self._after: list[Callable[[], None]] = []
        self.emitted = 0
        """How many events this transaction has recorded."""

    def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> Answer:
        """Run a statement; with a list of parameters, once for each.

        One that is kept and executed again costs a fifth of one that is made for each use.
        """
        if not self._writing and isinstance(statement, UpdateBase):
            raise RuntimeError("a read transaction cannot write: open one with begin()")
        if self._direct is not None:
            found = self._direct.execute(self._connection, statement, parameters)
            if found is not None:
                return found
        return self._connection.execute(statement, parameters)

    def upsert(
        self,
        table: sa.Table,
        rows: Sequence[dict[str, Any]],
        *,
        key: Sequence[str],
        refresh: Sequence[str] = (),
    ) -> None:
        """Insert rows. Where ``key`` exists, only the ``refresh`` columns are taken over."""
        self._must_write()
        if rows:
            statement = self._backend.upsert(table, tuple(key), tuple(refresh))
            self.execute(statement, rows)

    def go_on_from(self, column: sa.Column[Any]) -> None:
        """After rows were written with numbers of their own: the next number is a greater one."""
        self._must_write()
        self._backend.go_on_from(self._connection, column)

    def emit(
        self,
        kind: str,
        *,
        subject: str,
        global_id: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a fact, kept if and only if this transaction commits."""
        self.emit_all([fact(kind, subject=subject, global_id=global_id, data=data)])

    def emit_all(self, facts: Sequence[dict[str, Any]]) -> None:
        """Record what :func:`fact` made, in order, as :meth:`emit` would one after the other."""
        self._must_write()
        if facts:
            self.execute(_EMIT, facts)
            self.emitted += len(facts)

    def last_event(self) -> int:
        """Number of the newest event that this transaction sees, its own included; 0: none."""
        return self.execute(LAST).scalar() or 0

    def after_commit(self, act: Callable[[], None]) -> None:
        """Call ``act`` once this is committed and others may write; never if it is rolled back.

        Acts run in order, in this thread, and must not raise.
        """
        self._must_write()
        self._after.append(act)

    def _must_write(self) -> None:
        if not self._writing:
            raise RuntimeError("a read transaction cannot write: open one with begin()")

    def _committed(self) -> None:
        for act in self._after:
            act()


def fact(
    kind: str,
    *,
    subject: str,
    global_id: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A fact for :meth:`Tx.emit_all`, of this moment."""
    return {
        "at_us": clock.to_us(clock.now()),
        "kind": kind,
        "global_id": global_id,
        "subject": subject,
        "data": dict(data or {}),
    }


class Database:
    """Rows for many threads and processes. Open it with :meth:`open`."""

    def __init__(self, engine: Engine, backend: Backend, migrations: Path) -> None:
        self._engine = engine
        self._backend = backend
        self._migrations = migrations
        self._writer = engine.execution_options(**{backend.WRITING: True})
        self._fenced: Engine | None = None
        self._watch = backend.make_watch(engine)
        self._direct = backend.make_direct(engine)
        self._write_lock = Mutex()
        self._write_thread: int | None = None
        self.events = Events(self.read, self._watch)

    @classmethod
    def open(cls, url: str, *, migrations: Path = upgrading.MIGRATIONS) -> Database:
        """The database at ``sqlite:///path`` or ``postgresql://user@host/name``.

        A file is made on first use, a database of PostgreSQL is there already; tables are made by
        :meth:`create`. Nothing is connected yet. ``migrations`` is the history of the schema.

        Raises:
            Invalid: ``db.url``; ``extra.missing`` where the driver of PostgreSQL is not installed.
        """
        try:
            parsed = sa.make_url(url)
        except (ArgumentError, ValueError):  # a port that is no number
            raise _bad_url() from None
        kind = parsed.drivername.partition("+")[0]
        if kind not in _BACKENDS or (kind == "sqlite" and not parsed.database):
            raise _bad_url()
        try:
            # By name: whoever works on SQLite does not pay for the driver of PostgreSQL.
            backend = cast("Backend", import_module(_BACKENDS[kind]))
        except ModuleNotFoundError as error:
            raise Invalid(
                "extra.missing",
                f"Rows in PostgreSQL need {error.name}, which is not installed.",
                hint='pip install "clew[postgres]"',
            ) from error
        return cls(backend.make_engine(parsed), backend, migrations)

    @property
    def place(self) -> str:
        """Where the rows are, as it may be shown: without the password."""
        url = self._engine.url
        if self._backend.UPGRADES_ITSELF:
            return url.render_as_string()
        return url.set(drivername="postgresql", password=None, query={}).render_as_string()

    def create(self, *, store: str = "") -> bool:
        """Make whatever table is missing; whether the workspace is new. Cheap when it is not.

        All rooms whose tables should exist must be imported before. An older SQLite file is
        upgraded, after a copy of it was put beside it; an older PostgreSQL database waits for
        :meth:`upgrade`. ``store`` is kept with a new workspace: where its bytes are.

        Raises:
            Conflict: ``db.newer``; ``db.older`` where an upgrade has to be asked for, or there is
                none; ``lock.held`` where an upgrade is due and somebody works on the workspace.
        """
        version, complete = self._state()
        if version is not None and version < self._head:
            if not self._backend.UPGRADES_ITSELF:
                raise _older(version, self._head)
            self.upgrade()
        elif complete:
            return False
        with self.begin() as tx:
            metadata.create_all(tx._connection, checkfirst=True)
            if tx.execute(sa.select(schema_version.c.version)).first() is not None:
                return False
            now_us = clock.to_us(clock.now())
            tx.execute(schema_version.insert(), {"version": self._head, "created_us": now_us})
            row = {"id": new_id(), "store": store, "created_us": now_us}
            tx.execute(workspaces.insert(), row)
        return True

    def upgrade(self) -> str:
        """Bring the schema of an older Clew to this one; where the copy made before is, or ''.

        All or nothing. Does nothing where nothing is to be done.

        Raises:
            Conflict: ``db.newer``; ``db.older`` where it is too old; ``lock.held``.
        """
        version, _ = self._state()
        if version is None or version == self._head:
            return ""
        lock = self.lock(ENGINE_LOCK, "clew upgrade")
        try:
            copy = self._backend.backup(self._engine, f"clew.db.v{version}")
            with self._backend.changing(self._engine) as connection:
                now = connection.execute(sa.select(schema_version.c.version)).scalar()
                if now == version:
                    upgrading.upgrade(connection, version, self._migrations)
                    connection.execute(schema_version.update().values(version=self._head))
            return copy
        finally:
            lock.release()

    def identity(self) -> Identity | None:
        """Which workspace is in here; None where there is none yet."""
        with self.read() as tx:
            if not sa.inspect(tx._connection).has_table(workspaces.name):
                return None
            row = tx.execute(sa.select(workspaces)).first()
            return None if row is None else Identity(id=row.id, store=row.store)

    def lock(self, name: str, owner: str, *, wait_s: float = 0.0) -> Lock:
        """Be the only holder of a name over all who share this database.

        On SQLite a file beside it, on PostgreSQL a lock of a connection: it can be lost, and says
        so. ``owner`` says in words who has it. Waits up to ``wait_s`` for it.

        Raises:
            Conflict: ``lock.held``, naming the holder.
            Unavailable: ``db.unreachable``.
        """
        deadline = time.monotonic() + wait_s
        while True:
            try:
                return self._backend.lock(self._engine, name, owner)
            except Conflict:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(min(LOCK_POLL_S, wait_s))

    def fence(self, lock: Lock | None) -> None:
        """Let write transactions of this object begin only while ``lock`` is held; None: always.

        What was lost is noticed inside the transaction, by the database itself: whoever takes the
        lock next finds nothing written by its former holder from then on. ``lock`` is one of
        :meth:`lock`. Where it is gone, :meth:`begin` raises Unavailable ``lock.lost``.
        """
        fenced = {self._backend.FENCE: lock}
        self._fenced = None if lock is None else self._writer.execution_options(**fenced)

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """A write transaction: commits at the end of the block, rolls back on any error.

        One at a time over all threads and processes; others wait. What it reads is the newest.
        It cannot be nested: pass the ``Tx`` on instead.

        Raises:
            Unavailable: ``db.busy``, ``disk.full``, ``workspace.read_only``, ``disk.error``,
                ``db.unreachable``, ``lock.lost``.
            Corrupt: ``db.corrupt``.
        """
        if self._write_thread == get_ident():
            raise RuntimeError("this thread has a write transaction open already: pass its Tx on")
        with self._write_lock:
            self._write_thread = get_ident()
            try:
                with self._begun(writing=True) as connection:
                    tx = Tx(connection, self._backend, self._direct, writing=True)
                    yield tx
                    if tx.emitted:
                        self._backend.before_commit(connection)
            finally:
                self._write_thread = None
        if tx.emitted:
            self.events.notify()
        tx._committed()

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A read transaction: all queries in it see one and the same state. Never waits."""
        with self._begun(writing=False) as connection:
            yield Tx(connection, self._backend, self._direct, writing=False)

    def close(self) -> None:
        """Let go of all connections; one that a thread still has is closed when given back."""
        self._watch.close()
        if self._direct is not None:
            self._direct.close()
        sa.event.listen(self._engine.pool, "checkin", lambda _, record: record.invalidate())
        self._engine.dispose()

    def _begun(self, *, writing: bool) -> AbstractContextManager[Connection]:
        if self._direct is not None:  # its locks are never lost: there is no fence to see to
            return self._direct.begun(writing=writing)
        return _begun((self._fenced or self._writer) if writing else self._engine)

    @property
    def _head(self) -> int:
        return upgrading.head(self._migrations)

    def _state(self) -> tuple[int | None, bool]:
        """The version of the schema, None before there is one, and whether all tables exist."""
        with self.read() as tx:
            names = set(sa.inspect(tx._connection).get_table_names())
            version = None
            if schema_version.name in names:
                version = tx.execute(sa.select(schema_version.c.version)).scalar()
        if version is not None and version > self._head:
            raise _newer(version, self._head)
        if version is not None and version < 1:
            raise _older(version, self._head)
        return version, names >= set(metadata.tables)


@contextmanager
def _begun(engine: Engine) -> Iterator[Connection]:
    """A connection in a transaction. Those that the server has ended meanwhile are replaced."""
    while True:
        fresh = not isinstance(engine.pool, QueuePool) or engine.pool.checkedin() == 0
        with engine.connect() as connection:
            try:
                transaction = connection.begin()
            except Unavailable as error:
                if fresh or error.code != "db.unreachable":
                    raise
                continue  # it was kept from before, and nothing was done on it yet
            with transaction:
                yield connection
            return


def _newer(version: int, head: int) -> Conflict:
    return Conflict(
        "db.newer",
        f"This workspace was written by a newer Clew (schema {version}; this one knows {head}).",
        hint="Upgrade: pip install --upgrade clew",
    )


def _older(version: int, head: int) -> Conflict:
    return Conflict(
        "db.older",
        f"This workspace was written by an older Clew (schema {version}; this one needs {head}).",
        hint="Keep a copy of the database (pg_dump), stop what works on it, then: clew upgrade",
    )


def _bad_url() -> Invalid:
    return Invalid(
        "db.url",
        "That is not the URL of a database that Clew can use.",
        hint="Use sqlite:///path/to/clew.db or postgresql://user@host/database",
    )
