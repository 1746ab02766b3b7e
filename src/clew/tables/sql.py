"""SQL over tables that are given to it: what a query names, and its answer as Arrow.

The one file that knows DuckDB's connections. A query sees the tables of its references and nothing
else: no file, no network, no setting, no statement but SELECT. Knows no repo and no address.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
from msgspec import Struct, field

from clew.base.errors import ClewError, Denied, Invalid, Unavailable

FUNCTION = "clew"
"""The table function that takes an address: ``clew('repo@ref:/path')``."""

_FUNCTIONS = frozenset(
    {FUNCTION, "range", "generate_series", "unnest", "repeat", "json_each", "json_tree"}
)
_MACRO = r"""
CREATE OR REPLACE MACRO clew(address) AS TABLE
SELECT * FROM query_table('"' || replace(address, '"', '""') || '"')
"""
"""``clew('…')`` is the view that stands under the address."""

_BATCH_ROWS = 65_536
Rows = Callable[[str], list[tuple[Any, ...]]]
_CTE = frozenset({"RECURSIVE_CTE_NODE", "CTE_NODE"})


class Reference(Struct, frozen=True, kw_only=True):
    """A table that a query names: the parts of its name, as it stands in the catalog."""

    parts: tuple[str, ...]
    version: str = ""
    """What ``AT (VERSION => …)`` says."""

    @property
    def stands(self) -> tuple[str, ...]:
        """The name under which the table is looked up when the query runs."""
        if not self.version:
            return self.parts
        return (*self.parts[:-1], f"{self.parts[-1]}@{self.version}")


class Question(Struct, frozen=True, kw_only=True):
    """A query that was understood. ``columns`` are all names that it may read; None: any."""

    text: str
    references: tuple[Reference, ...]
    columns: frozenset[str] | None


class Limits(Struct, frozen=True, kw_only=True):
    """What a query may use. ``spill``: a directory for what does not fit into memory."""

    memory_bytes: int = 0
    timeout_s: float = 0
    spill: Path | None = None
    spill_bytes: int = 20 << 30
    threads: int = 0


class Supply(Struct, frozen=True, kw_only=True):
    """What stands behind a reference: Arrow tables, datasets or readers, one below the other.

    ``database``: the first part of the name is that of an attached database.
    """

    name: tuple[str, ...]
    tables: Sequence[Any]
    database: bool = False


def understand(query: str) -> Question:
    """Which tables a query reads. Nothing of it is run.

    Raises:
        Invalid: ``sql.syntax`` with the place, ``sql.not_select``, ``sql.one_statement``.
        Denied: ``sql.function`` for a table function that reads anything else.
    """
    with closing(_connect(Limits())) as connection:
        parsed = _parse(connection, query)
        found = _Walk()
        found.walk(parsed["statements"], frozenset())
        text = query
        if found.versioned:  # the AST now says where the table of that version stands
            text = _one(connection, "SELECT json_deserialize_sql(?::JSON)", json.dumps(parsed))
    columns = None if found.star else frozenset(found.columns)
    return Question(text=text, references=tuple(dict.fromkeys(found.references)), columns=columns)


@contextmanager
def answer(question: Question, supplies: Sequence[Supply], limits: Limits) -> Iterator[Any]:
    """The answer as a RecordBatchReader, good inside the block.

    Raises:
        Invalid: ``sql.failed`` with what is wrong and where.
        Unavailable: ``sql.timeout``, ``sql.memory``.
    """
    with closing(_connect(limits)) as connection:
        for number, supply in enumerate(supplies):
            _supply(connection, number, supply)
        _lock(connection)
        with _in_time(connection, limits.timeout_s), explained(limits):
            relation = connection.sql(question.text)
            if relation is None:
                raise _not_select("The query has no answer.")
            yield relation.to_arrow_reader(_BATCH_ROWS)


@contextmanager
def session(tables: Mapping[str, Sequence[Any]], limits: Limits) -> Iterator[Rows]:
    """For queries of our own: a function from SQL to the rows of its answer."""
    with closing(_connect(limits)) as connection:
        for number, (name, some) in enumerate(tables.items()):
            _supply(connection, number, Supply(name=(name,), tables=some))
        _lock(connection)

        def rows(query: str) -> list[tuple[Any, ...]]:
            relation = connection.sql(query)
            if relation is None:
                return []
            table = relation.to_arrow_table()  # Arrow knows time zones without pytz
            return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

        with _in_time(connection, limits.timeout_s), explained(limits):
            yield rows


@contextmanager
def explained(limits: Limits) -> Iterator[None]:
    """DuckDB's errors as ours. Where they came from is dropped: it holds the connection."""
    failure: ClewError
    try:
        yield
        return
    except duckdb.InterruptException:
        failure = Unavailable(
            "sql.timeout",
            f"The query did not end within {limits.timeout_s:g} s.",
            hint="Ask for less: fewer columns, a narrower WHERE, or fewer files.",
        )
    except duckdb.OutOfMemoryException as error:
        failure = Unavailable(
            "sql.memory",
            f"The query needs more memory than it may have: {_first(error)}",
            hint="Ask for less: fewer columns, a narrower WHERE, or a LIMIT.",
        )
    except duckdb.Error as error:
        failure = _failed(error)
    raise failure


# the query ----------------------------------------------------------------------------------------


class _Walk(Struct, kw_only=True):
    """Tables, columns and functions of a parsed query; what it may not name is refused."""

    references: list[Reference] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    star: bool = False
    versioned: bool = False

    def walk(self, value: Any, known: frozenset[str]) -> None:
        """``known`` are the names of WITH that hold here: these are no tables."""
        if isinstance(value, list):
            for one in value:
                self.walk(one, known)
        elif isinstance(value, dict):
            self._node(value, known)

    def _node(self, node: dict[str, Any], known: frozenset[str]) -> None:
        kind = node.get("type")
        if kind in _CTE:
            known |= {str(node.get("cte_name", node.get("ctename", ""))).lower()}
        for entry in (node.get("cte_map") or {}).get("map", []):
            name = str(entry["key"]).lower()
            recursive = entry["value"].get("query_node", {}).get("type") in _CTE
            self.walk(entry["value"], known | {name} if recursive else known)
            known |= {name}
        if kind == "BASE_TABLE":
            self._table(node, known)
        elif kind == "TABLE_FUNCTION":
            self._function(node["function"])
        elif kind == "COLUMN_REF":
            self.columns |= {str(name).lower() for name in node["column_names"]}
        elif kind in {"STAR", "SHOW_REF"}:
            self.star = True
        self.walk([value for key, value in node.items() if key != "cte_map"], known)
        self.columns |= {str(name).lower() for name in node.get("using_columns") or ()}

    def _table(self, node: dict[str, Any], known: frozenset[str]) -> None:
        parts = tuple(str(part) for part in node["qualified_name"]["path"])
        if len(parts) == 1 and parts[0].lower() in known:
            return
        version = _version(node.get("at_clause"))
        reference = Reference(parts=parts, version=version)
        self.references.append(reference)
        if version:
            self.versioned = True
            node["at_clause"] = None
            node["table_name"] = reference.stands[-1]
            node["qualified_name"] = {"path": list(reference.stands)}

    def _function(self, function: dict[str, Any]) -> None:
        name = str(function["function_name"]).lower()
        if name not in _FUNCTIONS:
            raise Denied(
                "sql.function",
                f"{name}() is not for queries here: they read commits and attached sources.",
                hint="Commit the file (clew put), or attach it: clew sql --attach name=PATH",
            )
        if name == FUNCTION:
            self.references.append(Reference(parts=(_address(function),)))


def _address(function: dict[str, Any]) -> str:
    given = [argument.get("expression", {}) for argument in function.get("arguments", [])]
    if len(given) == 1 and given[0].get("type") == "VALUE_CONSTANT":
        return str(given[0]["literal"].get("text", ""))
    raise Invalid(
        "sql.address",
        f"{FUNCTION}() takes one text: the address of a table.",
        hint=f"Write {FUNCTION}('project/repo@branch:/path').",
    )


def _version(clause: Any) -> str:
    if not clause:
        return ""
    expression = clause.get("expr", {})
    if clause.get("unit", "").upper() == "VERSION" and expression.get("type") == "VALUE_CONSTANT":
        return str(expression["literal"].get("text", ""))
    raise Invalid(
        "sql.version",
        "AT takes a version: a branch, a commit or a global ID, as text.",
        hint="Write AT (VERSION => 'main^1').",
    )


def _parse(connection: Any, query: str) -> dict[str, Any]:
    text = _one(connection, "SELECT json_serialize_sql(?::VARCHAR)", query)
    parsed: dict[str, Any] = json.loads(text)
    if parsed["error"]:
        if parsed.get("error_type") == "not implemented":
            raise _not_select("Only SELECT can be asked.")
        raise _syntax(query, str(parsed.get("error_message", "")), parsed.get("position"))
    if len(parsed["statements"]) != 1:
        raise Invalid(
            "sql.one_statement",
            f"This is {len(parsed['statements'])} statements, not one.",
            hint="Ask one SELECT at a time; WITH names what comes before it.",
        )
    return parsed


def _one(connection: Any, statement: str, argument: str) -> str:
    with explained(Limits()):
        return str(connection.execute(statement, [argument]).fetchone()[0])


def _not_select(what: str) -> Invalid:
    return Invalid(
        "sql.not_select",
        f"{what} INSERT, CREATE, COPY, ATTACH, PIVOT and the like are not for commits.",
        hint="SELECT the rows, and commit them with `clew sql --into REPO:/file.parquet`.",
    )


def _syntax(query: str, message: str, position: object) -> Invalid:
    place = ""
    if position is not None and str(position).isdigit():
        before = query.encode()[: int(str(position))].decode(errors="ignore")
        line = before.count("\n") + 1
        place = f" (line {line}, column {len(before) - before.rfind(chr(10))})"
    return Invalid(
        "sql.syntax",
        f"{message[:1].upper()}{message[1:]}{place}.",
        hint="Put names with slashes, @ or - into double quotes, texts into single ones.",
    )


# the connection -----------------------------------------------------------------------------------


def _connect(limits: Limits) -> Any:
    config: dict[str, Any] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
    }
    if limits.memory_bytes:
        config["memory_limit"] = f"{limits.memory_bytes // 1024}KiB"
    if limits.threads:
        config["threads"] = limits.threads
    config["temp_directory"] = str(limits.spill) if limits.spill else ""
    if limits.spill:
        config["max_temp_directory_size"] = f"{limits.spill_bytes // 1024}KiB"
    connection = duckdb.connect(config=config)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _lock(connection: Any) -> None:
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _supply(connection: Any, number: int, supply: Supply) -> None:
    """Let a name of a query mean its tables."""
    parts = []
    for at, table in enumerate(supply.tables):
        name = f"clew {number} {at}"
        connection.register(name, table)
        parts.append(f"SELECT * FROM {quoted((name,))}")  # noqa: S608 - our own name
    body = " UNION ALL BY NAME ".join(parts)
    if supply.database:
        _supply_database(connection, supply.name, body)
        return
    if len(supply.name) == 2:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(supply.name[:1])}")
    connection.execute(f"CREATE OR REPLACE VIEW {quoted(supply.name)} AS {body}")
    if len(supply.name) == 1:
        connection.execute(_MACRO)


def _supply_database(connection: Any, name: tuple[str, ...], body: str) -> None:
    """Rows of another database are read once, now: a query may name its table twice."""
    connection.execute(f"ATTACH IF NOT EXISTS ':memory:' AS {quoted(name[:1])}")
    if len(name) == 3:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(name[:2])}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {quoted(name)} AS {body}")


def quoted(parts: tuple[str, ...]) -> str:
    """A name as SQL has it, whatever it is made of."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


@contextmanager
def _in_time(connection: Any, timeout_s: float) -> Iterator[None]:
    if not timeout_s:
        yield
        return
    timer = threading.Timer(timeout_s, connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _failed(error: Exception) -> Invalid:
    return Invalid("sql.failed", _first(error), hint="`SELECT * FROM … LIMIT 0` names the columns.")


def _first(error: Exception) -> str:
    """What DuckDB says, without the picture of the query below it."""
    return " ".join(str(error).partition("\n\n")[0].split())
