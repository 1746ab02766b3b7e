"""Statements of SQLAlchemy run on the driver's own connection: compiled once, bound by position.

A statement that is executed a second time as the same object is kept as text with the order of its
parameters; what is made anew for each use, and what this cannot do, runs through SQLAlchemy on the
same connection, in the same transaction. Knows no table and no driver. See design/0022.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase

from clew.base.errors import ClewError

OPTION = "clew_direct"
"""Execution option of connections whose transactions are begun here."""

KEPT = 8
"""So many connections are kept open between transactions."""

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
_LIST = re.compile(r"\(__\[POSTCOMPILE_(\w+)\]\)")
_Convert = Callable[[Any], Any]


class Raw(Protocol):
    """A connection of a driver, as ``sqlite3`` has them: nothing begins by itself."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def execute(self, text: str, values: Sequence[Any] = (), /) -> Any:
        """Run a statement; a cursor."""
        ...

    def executemany(self, text: str, values: Sequence[Sequence[Any]], /) -> Any:
        """Run a statement for each of several sets of values; a cursor."""
        ...

    def commit(self) -> None:
        """End the transaction."""
        ...

    def rollback(self) -> None:
        """Undo the transaction."""
        ...


class Found:
    """Rows of a statement, in order and each once; or how many rows it has changed."""

    __slots__ = ("_made", "_rows", "rowcount")

    def __init__(
        self, rows: Iterator[Any], made: Callable[[Any], Any] | None, rowcount: int
    ) -> None:
        self._rows = rows
        self._made = made
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows) if self._made is None else map(self._made, self._rows)

    def all(self) -> Sequence[Any]:
        """The rows."""
        return list(self)

    def first(self) -> Any | None:
        """The first row, or None; the others are not read."""
        row = next(self._rows, None)
        self._close()
        return None if row is None or self._made is None else self._made(row)

    def one(self) -> Any:
        """The only row. Raises NoResultFound or MultipleResultsFound of SQLAlchemy."""
        row = self.one_or_none()
        if row is None:
            raise sa.exc.NoResultFound("No row was found when one was required")
        return row

    def one_or_none(self) -> Any | None:
        """The only row, or None. Raises MultipleResultsFound of SQLAlchemy."""
        row = next(self._rows, None)
        if row is not None and next(self._rows, None) is not None:
            raise sa.exc.MultipleResultsFound("Multiple rows were found when one was required")
        return None if row is None or self._made is None else self._made(row)

    def scalar(self) -> Any | None:
        """The first value of the first row, or None."""
        row = self.first()
        return None if row is None else row[0]

    def scalar_one(self) -> Any:
        """The first value of the only row. Raises what :meth:`one` raises."""
        return self.one()[0]

    def scalars(self) -> Scalars:
        """The first value of each row."""
        return Scalars(row[0] for row in self)

    def _close(self) -> None:
        close = getattr(self._rows, "close", None)
        if close is not None:  # a cursor that may have more
            close()


class Scalars:
    """First values of rows, in order and each once."""

    __slots__ = ("_values",)

    def __init__(self, values: Iterator[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return self._values

    def all(self) -> Sequence[Any]:
        """The values."""
        return list(self._values)

    def first(self) -> Any | None:
        """The first value, or None."""
        return next(self._values, None)


class _Plan:
    """A statement for one set of parameter names: its text, and how to fill it in."""

    __slots__ = ("_binds", "_columns", "_lists", "_made", "_results", "_text", "returns", "writes")

    def __init__(
        self,
        statement: sa.Executable,
        compiled: SQLCompiler,
        names: Sequence[str],
        dialect: Dialect,
    ) -> None:
        """Raises LookupError where it cannot be run so."""
        self._text = compiled.string
        self._lists = set(_LIST.findall(self._text))
        expanding = {name for name, bind in compiled.binds.items() if bind.expanding}
        if (
            compiled.literal_execute_params
            or compiled.insert_prefetch
            or compiled.update_prefetch
            or self._text.count("POSTCOMPILE") != len(_LIST.findall(self._text))
        ):
            raise LookupError
        self._binds: list[tuple[str, str | None, Any, _Convert | None]] = []
        for name in compiled.positiontup or ():
            bind = compiled.binds[name]
            given = bind.key if bind.key in names else name if name in names else None
            if given is None and bind.required:
                raise LookupError
            convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if name in expanding and (convert is not None or bind.type._is_tuple_type):
                raise LookupError
            constant = None
            if given is None:
                constant = bind.effective_value
                constant = constant if convert is None else convert(constant)
            self._binds.append((name, given, constant, convert))
        self.writes = isinstance(statement, UpdateBase)
        columns = list(statement.exported_columns) if hasattr(statement, "exported_columns") else []
        self._columns = len(columns)
        self.returns = bool(columns)
        found = [column.type.dialect_impl(dialect) for column in columns]
        converts = [kind.result_processor(dialect, None) for kind in found]
        self._results = [(at, one) for at, one in enumerate(converts) if one is not None]
        self._made: Callable[[Any], Any] | None = None

    def run(self, raw: Raw, parameters: Mapping[str, Any]) -> Found:
        """Run it, once."""
        text, values = self._filled(parameters)
        cursor = raw.execute(text, values)
        if not self.returns:
            return Found(iter(()), None, cursor.rowcount)
        made = self._made or self._maker(cursor)
        if self.writes:  # to its end, or the transaction could not be committed
            return Found(iter(cursor.fetchall()), made, cursor.rowcount)
        return Found(cursor, made, cursor.rowcount)

    def run_each(self, raw: Raw, rows: Sequence[Mapping[str, Any]]) -> Found:
        """Run it for each of several sets of parameters of the same names."""
        cursor = raw.executemany(self._text, [self._filled(row)[1] for row in rows])
        return Found(iter(()), None, cursor.rowcount)

    @property
    def takes_lists(self) -> bool:
        """Whether its text differs with the lengths of its parameters."""
        return bool(self._lists)

    def _filled(self, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
        values: list[Any] = []
        lengths: dict[str, int] = {}
        for name, given, constant, convert in self._binds:
            value = constant if given is None else parameters[given]
            if name in self._lists:
                lengths[name] = len(value)
                values += value
            elif convert is None or given is None:
                values.append(value)
            else:
                values.append(convert(value))
        if not lengths:
            return self._text, values
        return _LIST.sub(lambda at: _marks(lengths[at[1]]), self._text), values

    def _maker(self, cursor: Any) -> Callable[[Any], Any]:
        """What makes a row of a tuple; the names of its columns are known when it has run."""
        names = [one[0] for one in cursor.description]
        row: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # the names are of the query
        made: _Convert = row._make
        if len(names) != self._columns:
            raise RuntimeError(f"{len(names)} columns came of {self._columns}: {self._text}")
        results = self._results

        def converted(plain: Sequence[Any]) -> Any:
            values = list(plain)
            for at, convert in results:
                values[at] = convert(values[at])
            return made(values)

        self._made = converted if results else made
        return self._made


class Direct:
    """Transactions on connections of an engine that are kept open. Thread-safe."""

    def __init__(
        self,
        engine: Engine,
        errors: type[Exception],
        translate: Callable[[Engine, Exception], ClewError | None],
    ) -> None:
        """``errors`` is what the driver raises; ``translate`` says those that a person can mend."""
        self._engine = engine
        self._errors = errors
        self._translate = translate
        self._free: list[Connection] = []
        self._closed = False
        self._plans: WeakKeyDictionary[sa.Executable, dict[Any, _Plan | None]] = WeakKeyDictionary()

    @contextmanager
    def begun(self, *, writing: bool) -> Iterator[Connection]:
        """A connection in a transaction: committed at the end, rolled back on any error."""
        connection = self._take()
        raw = _raw(connection)
        try:
            try:
                raw.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
                yield connection
                self._commit(connection, raw)
            except BaseException:
                self._roll_back(connection, raw)
                raise
        except self._errors as error:
            self._give(connection, sound=not raw.in_transaction)
            raise self._told(error) from error
        except BaseException:
            self._give(connection, sound=not raw.in_transaction)
            raise
        self._give(connection, sound=True)

    def execute(
        self, connection: Connection, statement: sa.Executable, parameters: Parameters
    ) -> Found | None:
        """Run a statement; None where that is for SQLAlchemy to do."""
        many = isinstance(parameters, Sequence)
        first: Mapping[str, Any] = (parameters[0] if many else parameters) or {}  # type: ignore[assignment,index]  # as ``many`` says
        plan = self._plan(statement, tuple(first), many=many and len(parameters or ()) > 1)
        if plan is None:
            return None
        raw = _raw(connection)
        try:
            if many and len(parameters or ()) > 1:
                return plan.run_each(raw, parameters)  # type: ignore[arg-type]  # as ``many`` says
            return plan.run(raw, first)
        except self._errors as error:
            raise self._told(error) from error

    def close(self) -> None:
        """Let go of the connections; one that a thread still has is closed when given back."""
        self._closed = True
        while self._free:
            self._free.pop().close()

    def _plan(
        self, statement: sa.Executable, names: tuple[str, ...], *, many: bool
    ) -> _Plan | None:
        known = self._plans.get(statement)
        if known is None:  # it may be made anew for each use: kept from the second on
            self._plans[statement] = {}
            return None
        if names not in known:
            known[names] = self._made(statement, names)
        plan = known[names]
        if plan is None or (many and (plan.returns or plan.takes_lists)):
            return None
        return plan

    def _made(self, statement: sa.Executable, names: tuple[str, ...]) -> _Plan | None:
        dialect = self._engine.dialect
        if not isinstance(statement, (sa.Select, sa.CompoundSelect, UpdateBase)):
            return None
        keys = list(names) if isinstance(statement, UpdateBase) else None
        compiled = statement.compile(dialect=dialect, column_keys=keys)
        assert isinstance(compiled, SQLCompiler)
        try:
            return _Plan(statement, compiled, names, dialect)
        except LookupError:
            return None

    def _take(self) -> Connection:
        try:
            return self._free.pop()
        except IndexError:
            return self._engine.connect().execution_options(**{OPTION: True})

    def _give(self, connection: Connection, *, sound: bool) -> None:
        if not sound:
            connection.invalidate()
        if not sound or self._closed or len(self._free) >= KEPT:
            connection.close()
        else:
            self._free.append(connection)

    def _commit(self, connection: Connection, raw: Raw) -> None:
        if connection.in_transaction():  # something ran through SQLAlchemy
            connection.commit()
        else:
            raw.commit()

    def _roll_back(self, connection: Connection, raw: Raw) -> None:
        if connection.get_transaction() is not None:  # also one whose commit has failed
            connection.rollback()
        if raw.in_transaction:
            raw.rollback()

    def _told(self, error: Exception) -> BaseException:
        """An error of the driver as the ClewError that it is, else as SQLAlchemy wraps it."""
        told = self._translate(self._engine, error)
        return told or sa.exc.DBAPIError.instance(None, None, error, self._errors)


def _raw(connection: Connection) -> Raw:
    raw: Any = connection.connection.driver_connection
    assert raw is not None
    return raw  # type: ignore[no-any-return]  # a driver's, which has no types


def _marks(count: int) -> str:
    """A list of so many values; the empty one holds nothing."""
    return f"({', '.join('?' * count)})" if count else "(SELECT 1 FROM (SELECT 1) WHERE 1 != 1)"
