"""The command `clew sql`: a query over commits, and its answer for people and programs.

Knows the verbs and how a table is printed; nothing of SQL.
"""

from __future__ import annotations

import decimal
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clew.base.errors import Invalid
from clew.base.settings import read_settings
from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace
from clew.sdk import connect_embedded

if TYPE_CHECKING:
    import pyarrow as pa

    from clew.base.verbs import Verbs


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; - reads it from standard input.")],
    attach: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SOURCE: a file, a directory, SQLite, postgresql://, mysql://."),
    ] = None,
    into: Annotated[str, typer.Option(help="Commit the answer: repo[@branch]:/file.parquet.")] = "",
    message: Annotated[
        str, typer.Option("--message", "-m", help="Message of that commit; else the query.")
    ] = "",
    parquet: Annotated[Path | None, typer.Option(help="Write the answer to this file.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="Rows that are shown as a table.")
    ] = 40,
    json: Json = False,
) -> None:
    """Ask SQL of any commits: clew sql 'SELECT carrier, count(*) FROM flights GROUP BY 1'.

    A table is a repo (flights, "late-flights".flights), an address
    ("late-flights/flights@main^1:/2013-*.parquet") or flights AT (VERSION => 'ref').
    """
    text = sys.stdin.read() if query == "-" else query
    sources = _sources(attach or [])
    with _workspace(sources) as clew:
        if into:
            commit = clew.sql_into(text, into, attach=sources, message=message)
            _say_committed(commit, json=json)
            return
        table = clew.sql(text, attach=sources)
    if parquet is not None:
        import_module("pyarrow.parquet").write_table(table, parquet, compression="zstd")
        console(stderr=True).print(f"[green]✓[/] {table.num_rows:,} rows → {parquet}")
    elif csv:
        import_module("pyarrow.csv").write_csv(table, sys.stdout.buffer)
    elif json:
        print_json([{name: _plain(value) for name, value in row.items()} for row in _rows(table)])
    else:
        _print(table, limit)


def _say_committed(commit: Any, *, json: bool) -> None:
    if json:
        print_json(commit)
        return
    console().print(
        f"[green]✓[/] {commit.repo}@[cyan]{commit.id[:8]}[/]  {commit.files:,} files, "
        f"{render.size(commit.size_bytes)}  change [cyan]{commit.global_id[:8]}[/]"
    )
    for source in commit.provenance:
        console().print(f"  from [cyan]{source[:8]}[/]")


def _sources(given: list[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, source = one.partition("=")
        if not equals or not source:
            raise Invalid(
                "sql.attach_name",
                f"{one!r} does not say what is attached under which name.",
                hint="Write --attach NAME=SOURCE, such as --attach old=archive.sqlite",
            )
        found[name] = source
    return found


@contextmanager
def _workspace(attached: Mapping[str, str]) -> Iterator[Verbs]:
    """The workspace; on its files where sources of this machine are to be read beside it."""
    settings = read_settings(os.environ, Path())
    if not attached or settings.url:
        with workspace() as verbs:
            yield verbs
        return
    verbs = connect_embedded(settings)
    try:
        yield verbs
    finally:
        verbs.close()


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows with a name for each column, also where two have the same."""
    seen: dict[str, int] = {}
    names = []
    for name in table.column_names:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}:{seen[name]}")
    rows: list[dict[str, Any]] = table.rename_columns(names).to_pylist()
    return rows


def _plain(value: object) -> object:
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    return value


def _print(table: pa.Table, limit: int) -> None:
    out = console()
    types = import_module("pyarrow.types")
    columns = [
        f"{field.name}>" if types.is_primitive(field.type) or types.is_decimal(field.type)
        else field.name
        for field in table.schema
    ]  # fmt: skip
    shown = [[_shown(value) for value in row.values()] for row in _rows(table.slice(0, limit))]
    render.table(out, columns, shown)
    if table.num_rows > limit:
        out.print(
            f"[dim]the first {limit:,} of {table.num_rows:,} rows; --limit, --csv, --parquet[/]"
        )


def _shown(value: object) -> str:
    plain = _plain(value)
    if isinstance(plain, int | float) and not isinstance(plain, bool):
        return str(plain) if isinstance(plain, int) else render.number(plain)
    return "–" if plain is None else str(plain)
