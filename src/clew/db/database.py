"""A database of rows and its transactions.

Knows no table of any room, and nothing particular to SQLite: that is in ``sqlite.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult, Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql.dml import UpdateBase

from clew.base import clock
from clew.base.errors import Conflict, Invalid
from clew.db import sqlite
from clew.db.events import Events
from clew.db.schema import SCHEMA_VERSION, events, metadata, schema_version


class Tx:
    """One transaction. Belongs to the thread that opened it and ends with its ``with`` block."""

    def __init__(self, connection: Connection, *, writing: bool) -> None:
        self._connection = connection
        self._writing = writing
        self._after: list[Callable[[], None]] = []
        self.emitted = 0
        """How many events this transaction has recorded."""

    def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[*tuple[Any, ...]]:
        """Run a statement; with a list of parameters, once for each."""
        if not self._writing and isinstance(statement, UpdateBase):
            raise RuntimeError("a read transaction cannot write: open one with begin()")
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
            self._connection.execute(sqlite.upsert(table, tuple(key), tuple(refresh)), rows)

    def emit(
        self,
        kind: str,
        *,
        subject: str,
        global_id: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a fact, kept if and only if this transaction commits."""
        self._must_write()
        row = {
            "at_us": clock.to_us(clock.now()),
            "kind": kind,
            "global_id": global_id,
            "subject": subject,
            "data": dict(data or {}),
        }
        self._connection.execute(events.insert(), row)
        self.emitted += 1

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


class Database:
    """Rows in one file, for many threads and processes. Open it with :meth:`open`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{sqlite.WRITING: True})
        self._watch = sqlite.Watch(engine)
        self._write_lock = Lock()
        self._write_thread: int | None = None
        self.events = Events(self.read, self._watch)

    @classmethod
    def open(cls, url: str) -> Database:
        """The database at ``sqlite:///path``; the file is made on first use, tables by ``create``.

        Raises:
            Invalid: ``db.url``.
        """
        try:
            parsed = sa.make_url(url)
        except ArgumentError:
            raise _bad_url(url) from None
        if parsed.get_backend_name() != "sqlite" or not parsed.database:
            raise _bad_url(url)
        return cls(sqlite.make_engine(parsed))

    def create(self) -> None:
        """Make whatever table of ``metadata`` is missing. Cheap when nothing is.

        All rooms whose tables should exist must be imported before.

        Raises:
            Conflict: ``db.newer`` or ``db.older`` where another version of Clew made the file.
        """
        if not self._complete():
            with self.begin() as tx:
                connection = tx._connection
                metadata.create_all(connection, checkfirst=True)
                if tx.execute(sa.select(schema_version.c.version)).first() is None:
                    row = {"version": SCHEMA_VERSION, "created_us": clock.to_us(clock.now())}
                    tx.execute(schema_version.insert(), row)

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """A write transaction: commits at the end of the block, rolls back on any error.

        One at a time over all threads and processes; others wait. What it reads is the newest.
        It cannot be nested: pass the ``Tx`` on instead.

        Raises:
            Unavailable: ``db.busy``, ``disk.full``, ``workspace.read_only``, ``disk.error``.
            Corrupt: ``db.corrupt``.
        """
        if self._write_thread == get_ident():
            raise RuntimeError("this thread has a write transaction open already: pass its Tx on")
        with self._write_lock:
            self._write_thread = get_ident()
            try:
                with self._writer.connect() as connection, connection.begin():
                    tx = Tx(connection, writing=True)
                    yield tx
            finally:
                self._write_thread = None
        if tx.emitted:
            self.events.notify()
        tx._committed()

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A read transaction: all queries in it see one and the same state. Never waits."""
        with self._engine.connect() as connection, connection.begin():
            yield Tx(connection, writing=False)

    def close(self) -> None:
        """Let go of all connections; no transaction may be open."""
        self._watch.close()
        self._engine.dispose()

    def _complete(self) -> bool:
        """Whether all tables exist, after a check that they are of this version."""
        with self.read() as tx:
            names = set(sa.inspect(tx._connection).get_table_names())
            if schema_version.name in names:
                _check_version(tx.execute(sa.select(schema_version.c.version)).scalar())
            return names >= set(metadata.tables)


def _check_version(version: int | None) -> None:
    if version is not None and version > SCHEMA_VERSION:
        raise Conflict(
            "db.newer",
            f"This workspace was written by a newer Clew (schema {version}; this one knows "
            f"{SCHEMA_VERSION}).",
            hint="Upgrade: pip install --upgrade clew",
        )
    if version is not None and version < SCHEMA_VERSION:
        raise Conflict(
            "db.older",
            f"This workspace was written by an older Clew (schema {version}; this one needs "
            f"{SCHEMA_VERSION}).",
            hint="Open it with the version of Clew that made it, or start a new workspace.",
        )


def _bad_url(url: str) -> Invalid:
    return Invalid(
        "db.url",
        f"{url!r} is not the URL of a database that Clew can use.",
        hint="Use sqlite:///path/to/clew.db",
    )
