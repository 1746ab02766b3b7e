"""Rows of a database behind a watermark, as Parquet files.

Knows SQLAlchemy and Arrow; which rows were committed it is told.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.pool import NullPool

from clew.base.errors import ClewError, Invalid, Unavailable
from clew.sources.definitions import Feed
from clew.sources.reading import (
    Increment,
    Place,
    Position,
    Standing,
    Surroundings,
    extra_missing,
    file_name,
    plain_wait,
)

_DRIVERS = {
    "postgresql": ("postgresql+psycopg", '"clew[postgres]"'),
    "postgres": ("postgresql+psycopg", '"clew[postgres]"'),
    "mysql": ("mysql+pymysql", "pymysql"),
    "mariadb": ("mysql+pymysql", "pymysql"),
    "duckdb": ("duckdb", "duckdb-engine"),
}
_FETCH = 10_000
_REFUSED = re.compile("no such|syntax error|incomplete input|misuse")


class _Options(msgspec.Struct, kw_only=True):
    sql: str
    url: str
    watermark: str = ""
    overlap: float = 0.0
    key: list[str] = []


class DatabaseReader:
    """Polls one query. Keeps ``clew.sources.reading.Reader``.

    Rows are asked for from the watermark (less the overlap) on, that value included: rows that were
    committed are told by their marks, so that neither a tie nor a late row is lost or doubled.
    """

    def __init__(self, name: str, feed: Feed, around: Surroundings) -> None:
        self._name = name.rpartition("/")[2]
        self._options = msgspec.convert(feed.options, _Options)
        self._limit = feed.batch_count
        self._around = around

    def read(self, place: Place, stop: Callable[[], bool]) -> Increment | None:  # noqa: ARG002 - it is short
        """See :meth:`Reader.read`."""
        with connected(self._around.secret(self._options.url)) as connection:
            if self._options.watermark:
                return self._increment(connection, place)
            return self._whole(connection, place)

    def committed(self, position: Position) -> None:
        """Nothing: the database is not told."""

    def standing(self) -> Standing:
        """See :meth:`Reader.standing`. Whatever was there at the poll is committed."""
        return Standing()

    def wait(self, timeout_s: float, stopped: Callable[[float], bool]) -> bool:
        """See :meth:`Reader.wait`."""
        return plain_wait(timeout_s, stopped)

    def close(self) -> None:
        """Nothing: a poll is a connection."""

    # ----------------------------------------------------------------------------------------

    def _increment(self, connection: Connection, place: Place) -> Increment | None:
        options = self._options
        before = place.position.get("watermark")
        low = None if before is None else _less(_value(before), options.overlap)
        found = self._rows(connection, low)
        names = list(found.keys())
        at = _column(names, options.watermark)
        known = place.marks()
        fresh: list[Sequence[Any]] = []
        marks: dict[str, str] = {}
        seen: dict[str, int] = {}
        top = None if before is None else _value(before)
        more = False
        rows = _each(found)
        for row in rows:
            mark = self._mark(names, row, seen)
            if mark in known:
                continue
            if len(fresh) == self._limit:
                more = True
                break
            fresh.append(row)
            marks[mark] = _text_of(row[at])
            if top is None or row[at] > top:
                top = row[at]
        rows.close()
        if not fresh:
            return None
        number = int(place.position.get("number", 0)) + 1
        content, schema = parquet(names, fresh, place.position.get("schema", ""))
        keep = _less(top, options.overlap)
        stale = [item for item, value in known.items() if _value_of(value, top) < keep]
        return Increment(
            puts={file_name(self._around.clock.now_us(), number, ".parquet"): content},
            position={"watermark": _kept(top), "number": number, "schema": schema},
            marked={item: mark for item, mark in marks.items() if _value_of(mark, top) >= keep},
            unmarked=stale,
            items=len(fresh),
            size_bytes=len(content),
            more=more,
            message=f"{len(fresh):,} rows up to {options.watermark} {_shown(top)}",
        )

    def _whole(self, connection: Connection, place: Place) -> Increment | None:
        found = connection.execution_options(stream_results=True).execute(_plain(self._options.sql))
        rows = list(_each(found))
        content, schema = parquet(list(found.keys()), rows, place.position.get("schema", ""))
        digest = hashlib.sha256(content).hexdigest()
        if digest == place.position.get("digest"):
            return None
        return Increment(
            puts={f"/{self._name}.parquet": content},
            position={"digest": digest, "schema": schema},
            items=len(rows),
            size_bytes=len(content),
            message=f"{len(rows):,} rows",
        )

    def _rows(self, connection: Connection, low: Any) -> sa.CursorResult[*tuple[Any, ...]]:
        quote = connection.dialect.identifier_preparer.quote
        column = quote(self._options.watermark)
        inner = _plain(self._options.sql).text
        where = f"{column} >= :clew_low" if low is not None else f"{column} IS NOT NULL"
        text = sa.text(
            f"SELECT * FROM ({inner}) AS clew_rows WHERE {where} ORDER BY {column}"  # noqa: S608 - the query is the user's own
        )
        values = {} if low is None else {"clew_low": low}
        streaming = connection.execution_options(stream_results=True, max_row_buffer=_FETCH)
        return streaming.execute(text, values)

    def _mark(self, names: list[str], row: Sequence[Any], seen: dict[str, int]) -> str:
        """What tells a row apart; equal rows are counted."""
        wanted = [*self._options.key, self._options.watermark] if self._options.key else names
        values = [_text_of(row[_column(names, name)]) for name in wanted]
        mark = hashlib.blake2b("\0".join(values).encode(), digest_size=12).hexdigest()
        seen[mark] = seen.get(mark, 0) + 1
        return mark if seen[mark] == 1 else f"{mark}.{seen[mark]}"


def ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Up to 1000 rows that a query answers; for whoever looks at a value now and then.

    Raises Unavailable ``source.database``, ``extra.missing``, Invalid ``source.query``.
    """
    with connected(url) as connection:
        return [tuple(row) for row in connection.execute(_plain(sql)).fetchmany(1000)]


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection for one poll; it only reads.

    Raises:
        Unavailable: ``source.database``, ``extra.missing``.
        Invalid: ``source.query`` where the database refuses the query itself.
    """
    engine = _engine(url)
    try:
        with _told(engine), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _engine(address: str) -> Engine:
    try:
        url = make_url(address)
    except sa.exc.ArgumentError:
        raise Invalid(
            "source.definition",
            "The address of the database is no URL.",
            hint="Write postgresql://user@host/database, or sqlite:////path.",
        ) from None
    driver, install = _DRIVERS.get(url.drivername, (url.drivername, url.drivername))
    if url.drivername == "sqlite" and url.database:
        url = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
    try:
        return sa.create_engine(url.set(drivername=driver), poolclass=NullPool)
    except (ModuleNotFoundError, sa.exc.NoSuchModuleError) as error:
        name = getattr(error, "name", None) or install
        raise extra_missing(f"A source at {driver}://", name, install) from None


@contextmanager
def _told(engine: Engine) -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        said = str(error.orig or error).strip().split("\n")[0].rstrip(".")
        shown = _shown_url(engine.url)
        if isinstance(error, sa.exc.ProgrammingError) or _REFUSED.search(said):
            raise Invalid(
                "source.query",
                f"{shown} refuses the query: {said}.",
                hint="Try the query in the database's own shell, mend it, and apply again.",
            ) from None
        raise Unavailable(
            "source.database",
            f"{shown} cannot be read: {said}.",
            hint="Check that it runs, its address, and whether this user may read it.",
        ) from None


def _shown_url(url: sa.URL) -> str:
    if url.drivername == "sqlite":
        return str(url.database).removeprefix("file:")
    return url.set(query={}).render_as_string()


def _plain(sql: str) -> sa.TextClause:
    """A query, or all of a table; colons in it are not parameters."""
    text = sql.strip().rstrip(";").strip()
    if len(text.split()) == 1:
        text = f"SELECT * FROM {text}"  # noqa: S608 - the name is the user's own
    return sa.text(text.replace(":", "\\:"))


def _each(found: sa.CursorResult[*tuple[Any, ...]]) -> Generator[Sequence[Any], None, None]:
    """Rows, a part at a time; the cursor is closed when nobody wants more."""
    try:
        while rows := found.fetchmany(_FETCH):
            yield from rows
    finally:
        found.close()


def _column(names: list[str], name: str) -> int:
    for at, one in enumerate(names):
        if one.lower() == name.lower():
            return at
    raise Invalid(
        "source.query",
        f"The query has no column {name}.",
        hint=f"It has {', '.join(names[:10])}.",
    )


# watermarks --------------------------------------------------------------------------------------


def _less(value: Any, overlap: float) -> Any:
    """A watermark less the overlap; texts are taken as times where they can be."""
    if not overlap:
        return value
    if isinstance(value, datetime):
        return value - timedelta(seconds=overlap)
    if isinstance(value, date):
        return value - timedelta(days=-(-overlap // 86_400))
    if isinstance(value, str):
        moment = _moment(value) - timedelta(seconds=overlap)
        return moment.isoformat(value[10] if len(value) > 10 else "T")[: max(19, len(value))]
    return value - (Decimal(str(overlap)) if isinstance(value, Decimal) else _whole(value, overlap))


def _whole(value: Any, overlap: float) -> float:
    return int(overlap) if isinstance(value, int) and overlap == int(overlap) else overlap


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            "source.watermark",
            f"The watermark {text!r} is text and no time: an overlap says nothing there.",
            hint="Leave overlap= out, or take a column of times or numbers.",
        ) from None


_KINDS: Mapping[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "Decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}


def _kept(value: Any) -> dict[str, str]:
    kind = type(value).__name__
    if kind not in _KINDS:
        raise Invalid(
            "source.watermark",
            f"A watermark cannot be a {kind}.",
            hint="Take a column of numbers, times or texts that grow.",
        )
    return {"kind": kind, "value": _text_of(value)}


def _value(kept: Mapping[str, str]) -> Any:
    return _KINDS[kept["kind"]](kept["value"])


def _value_of(text: str, like: Any) -> Any:
    return _KINDS[type(like).__name__](text)


def _text_of(value: Any) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, memoryview | bytearray):
        value = bytes(value)
    return str(value) if isinstance(value, str | int | Decimal) else repr(value)


def _shown(value: Any) -> str:
    return _text_of(value)


# Arrow -------------------------------------------------------------------------------------------


def parquet(names: list[str], rows: Sequence[Sequence[Any]], known: str) -> tuple[bytes, str]:
    """Rows as one Parquet file, and its schema as text.

    ``known`` is the schema of the increments before: columns keep their types where values allow,
    so that all files of a source read as one table.

    Raises:
        Invalid: ``source.value`` for a value that Arrow has no type for.
    """
    import pyarrow as pa  # noqa: PLC0415 - heavy: for those alone who poll
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    before = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(known))) if known else None
    columns = []
    for at, name in enumerate(names):
        values = [_arrow_value(row[at]) for row in rows]
        kind = before.field(name).type if before is not None and name in before.names else None
        columns.append(_array(pa, name, values, kind))
    table = pa.table(columns, names=names)
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    kinds = {
        field.name: before.field(field.name).type
        if before is not None and field.name in before.names and pa.types.is_null(field.type)
        else field.type
        for field in table.schema
    }
    schema = pa.schema(list(kinds.items()))
    return sink.getvalue(), base64.b64encode(schema.serialize().to_pybytes()).decode()


def _array(pa: Any, name: str, values: list[Any], kind: Any) -> Any:
    try:
        if kind is not None and not pa.types.is_null(kind):
            try:
                return pa.array(values, kind)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                pass  # the column has changed: its new type is that of its values
        return pa.array(values)
    except ClewError:
        raise
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        said = str(error).split("\n")[0].rstrip(".")
        raise Invalid(
            "source.value",
            f"The values of the column {name} have no one type: {said}.",
            hint="Cast it in the query.",
        ) from None


def _arrow_value(value: Any) -> Any:
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, dict | list):
        return msgspec.json.encode(value, enc_hook=str).decode()
    if value is None or isinstance(value, bool | int | float | str | bytes | Decimal | date):
        return value
    return value if hasattr(value, "total_seconds") or hasattr(value, "hour") else str(value)
