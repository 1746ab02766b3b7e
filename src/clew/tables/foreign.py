"""Tables of other databases as Arrow: SQLite, PostgreSQL, MySQL, through their Python drivers.

Reads with plain SELECTs of the columns that are needed; knows nothing of the query they are for.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.pool import NullPool

from clew.base.errors import ClewError, Invalid, NotFound, Unavailable

SCHEMES = ("sqlite", "postgresql", "postgres", "mysql", "mariadb")
_DRIVERS = {
    "postgresql": ("postgresql+psycopg", 'pip install "clew[postgres]"'),
    "postgres": ("postgresql+psycopg", 'pip install "clew[postgres]"'),
    "mysql": ("mysql+pymysql", "pip install pymysql"),
    "mariadb": ("mysql+pymysql", "pip install pymysql"),
}
_SQLITE_MAGIC = b"SQLite format 3\0"
_BATCH_ROWS = 50_000


def is_database(source: str) -> bool:
    """Whether a source is the URL of a database, or a SQLite file."""
    if source.partition("://")[0] in SCHEMES and "://" in source:
        return True
    path = Path(source)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC


def read_table(
    source: str, schema: str | None, table: str, columns: frozenset[str] | None
) -> pa.Table:
    """A table or view of a database, of its ``columns`` those that are there (None: all).

    Numbers without declared places become 64-bit floats; what Arrow has no type for becomes text.

    Raises:
        NotFound: ``sql.table_unknown``.
        Unavailable: ``sql.attach``, ``extra.missing``.
        Invalid: ``sql.attached_value`` for a value that is not of its column's type.
    """
    engine = _engine(source)
    try:
        with _reached(source), engine.connect() as connection:
            found = _columns(connection, schema, table)
            chosen = [one for one in found if columns is None or one["name"].lower() in columns]
            return _read(connection, schema, table, chosen or found[:1])
    finally:
        engine.dispose()


def _engine(source: str) -> Engine:
    if "://" not in source:
        place = Path(source).absolute().as_uri().removeprefix("file://")
        return sa.create_engine(f"sqlite:///file:{place}?mode=ro&uri=true", poolclass=NullPool)
    url = make_url(source)
    driver, install = _DRIVERS.get(url.drivername, (url.drivername, ""))
    try:
        return sa.create_engine(url.set(drivername=driver), poolclass=NullPool)
    except ModuleNotFoundError as error:
        raise Unavailable(
            "extra.missing", f"This needs {error.name}, which is not installed.", hint=install
        ) from None


@contextmanager
def _reached(source: str) -> Iterator[None]:
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.ArgumentError) as error:
        said = str(getattr(error, "orig", None) or error).strip().split("\n")[0].rstrip(".")
        shown = make_url(source).render_as_string() if "://" in source else source
        raise Unavailable(
            "sql.attach",
            f"{shown} cannot be read: {said}.",
            hint="Check its address, and whether this user may read it.",
        ) from None


def _columns(connection: Any, schema: str | None, table: str) -> list[dict[str, Any]]:
    inspector = sa.inspect(connection)
    try:
        found: list[dict[str, Any]] = inspector.get_columns(table, schema=schema)
    except sa.exc.NoSuchTableError:
        found = []
    if found:
        return found
    names = [*inspector.get_table_names(schema=schema), *inspector.get_view_names(schema=schema)]
    near = get_close_matches(table, names, 3, 0.5) or sorted(names)[:5]
    raise NotFound(
        "sql.table_unknown",
        f"The attached database has no table {table}.",
        hint=f"It has {', '.join(near)}." if near else "It has no tables at all.",
    )


def _read(
    connection: Any, schema: str | None, table: str, columns: list[dict[str, Any]]
) -> pa.Table:
    makers = [_maker(one["type"]) for one in columns]
    fields = pa.schema(
        [pa.field(one["name"], kind) for one, (kind, _) in zip(columns, makers, strict=True)]
    )
    query = sa.select(*(sa.column(one["name"], one["type"]) for one in columns)).select_from(
        sa.table(table, schema=schema)
    )
    rows = connection.execution_options(stream_results=True, yield_per=_BATCH_ROWS).execute(query)
    batches = []
    for part in rows.partitions():
        values = list(zip(*part, strict=True))
        arrays = [
            _array(field, given, make)
            for field, given, (_, make) in zip(fields, values, makers, strict=True)
        ]
        batches.append(pa.record_batch(arrays, schema=fields))
    return pa.Table.from_batches(batches, schema=fields)


Make = Callable[[Any], Any] | None


def _maker(kind: Any) -> tuple[Any, Make]:
    """The Arrow type of a column, and what its values need to become of that type."""
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        if kind.precision and kind.precision <= 38 and kind.scale is not None:
            return pa.decimal128(kind.precision, kind.scale), None
        return pa.float64(), float
    if isinstance(kind, sa.DateTime):
        return pa.timestamp("us", "UTC" if kind.timezone else None), None
    for known, arrow, make in _TYPES:
        if isinstance(kind, known):
            return arrow, make
    return pa.string(), _text


_TYPES: tuple[tuple[Any, Any, Make], ...] = (
    (sa.Boolean, pa.bool_(), bool),
    (sa.Integer, pa.int64(), None),
    (sa.Float, pa.float64(), float),
    (sa.Date, pa.date32(), None),
    (sa.Time, pa.time64("us"), None),
    (sa.Interval, pa.duration("us"), None),
    (sa.LargeBinary, pa.binary(), bytes),
)


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def _array(field: Any, values: Any, make: Make) -> Any:
    try:
        if make is not None:
            values = [None if value is None else make(value) for value in values]
        return pa.array(values, field.type)
    except ClewError:
        raise
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        said = str(error).split("\n")[0].rstrip(".")
        raise Invalid(
            "sql.attached_value",
            f"The column {field.name} holds a value that is no {field.type}: {said}.",
            hint="Leave the column out, or let a view of that database cast it.",
        ) from None
