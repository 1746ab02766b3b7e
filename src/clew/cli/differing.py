"""The command `clew diff`: what differs between two commits, for people and programs.

Knows the verbs and the records of differences; nothing of how they are found.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from clew.base.errors import Invalid
from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from rich.console import Console

    from clew.base.records import FileDiff, TableDiff, TextDiff
    from clew.base.verbs import Verbs

_LETTERS = {"added": "A", "deleted": "D", "changed": "M"}
_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
_SHOWN_CELLS = 8
_TOLD = ("mean", "min", "max", "nulls")


def diff(
    old: Annotated[str, typer.Argument(help="repo@ref")],
    new: Annotated[str, typer.Argument(help="repo@ref; the parent of OLD without it.")] = "",
    path: Annotated[
        list[str] | None, typer.Option("--path", "-p", help="File or directory; repeatable.")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", "-k", help="Column that names a row; repeatable.")
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="One line a file.")] = False,
    name_status: Annotated[
        bool, typer.Option("--name-status", help="Letters and paths alone, as git has them.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Rows of each kind.")] = 5,
    json: Json = False,
) -> None:
    """What differs between two commits: rows and columns of tables, lines of texts."""
    with workspace() as clew:
        first, second = _sides(clew, old, new)
        if name_status and not json:
            for change in clew.diff(first, second):
                if _chosen(change.path, path or []):
                    sys.stdout.write(f"{_LETTERS[change.kind]}\t{change.path}\n")
            return
        found = clew.compare(first, second, paths=path or [], key=key or [], limit=limit)
    if json:
        print_json(found)
        return
    out = console()
    for one in found:
        print_file(out, one, stat=stat)
    if not found:
        out.print("[dim]Nothing differs.[/]")


def _sides(clew: Verbs, old: str, new: str) -> tuple[str, str]:
    if new:
        return old, new
    commit = clew.commit(old)
    if commit.parent is None:
        raise Invalid("diff.no_parent", f"{old} is the first commit.", hint="Name two.")
    return commit.parent, commit.id


def _chosen(path: str, among: list[str]) -> bool:
    places = [f"/{one.strip('/')}" for one in among]
    return not places or any(
        path == one or path.startswith(f"{one.rstrip('/')}/") for one in places
    )


def print_file(out: Console, found: FileDiff, *, stat: bool) -> None:
    """A file that differs; without ``stat``, also how."""
    line = Text.assemble(render.state(found.kind), f" {found.path}  ")
    line.append(_sizes(found), style="dim")
    line.append(f"  {_counts(found)}".rstrip())
    out.print(line, soft_wrap=True)
    if found.note:
        out.print(Text(f"  {found.note}", style="dim"), soft_wrap=True)
    if stat or found.kind != "changed":
        return
    if found.table is not None:
        _print_table(out, found.table)
    elif found.text is not None:
        _print_text(out, found.text)


def _sizes(found: FileDiff) -> str:
    old, new = (render.size(side.size_bytes) if side else "" for side in (found.old, found.new))
    return f"{old} → {new}" if old and new else old or new


def _counts(found: FileDiff) -> str:
    if found.table is not None:
        table = found.table
        parts = [
            f"{sign}{count:,}"
            for sign, count in (("+", table.added), ("-", table.removed), ("~", table.changed))
            if count
        ]
        columns = f", {_many(len(table.columns), 'column')}" if table.columns else ""
        return (" ".join(parts) + " rows" if parts else "no row differs") + columns
    if found.text is not None:
        return f"+{found.text.added:,} -{found.text.removed:,} lines"
    return ""


def _print_table(out: Console, table: TableDiff) -> None:
    for column in table.columns:
        sign, style = {"added": _SIGNS["added"], "removed": _SIGNS["removed"]}.get(
            column.kind, _SIGNS["changed"]
        )
        types = " → ".join(kind for kind in (column.old, column.new) if kind)
        out.print(Text(f"  {sign} column {column.name}  {types}", style=style))
    if table.cells:
        told = ", ".join(f"{name} {count:,}" for name, count in table.cells.items())
        out.print(Text(f"  cells changed: {told}"), soft_wrap=True)
    _print_numbers(out, table)
    for row in table.sample:
        sign, style = _SIGNS[row.kind]
        out.print(Text(f"  {sign} {_row(row.key, row.old, row.new)}", style=style), soft_wrap=True)
    shown = len(table.sample)
    left = table.added + table.removed + table.changed - shown
    if left > 0 and shown:
        out.print(f"  [dim]and {left:,} more rows: --limit, --json[/]")


def _print_numbers(out: Console, table: TableDiff) -> None:
    """Means, bounds and nulls of columns, where one of them reads otherwise than before."""
    lines = [
        (one.name, [_before_after(one.old[what], one.new[what]) for what in _TOLD])
        for one in table.numbers
    ]
    told = [(name, cells) for name, cells in lines if any(after for _, after in cells)]
    if told:
        heads = ("  column", *(head for what in _TOLD for head in (f"{what}>", "")))
        rows = [(f"  {name}", *(part for cell in cells for part in cell)) for name, cells in told]
        render.table(out, heads, rows)


def _before_after(old: float | None, new: float | None) -> tuple[str, str]:
    before, after = render.number(old), render.number(new)
    return before, "" if before == after else f"→ {after}"


def _row(key: dict[str, object], old: dict[str, object], new: dict[str, object]) -> str:
    named = " ".join(f"{name}={_value(value)}" for name, value in key.items())
    if old and new:
        cells = [f"{name}: {_value(old[name])} → {_value(new[name])}" for name in new]
    else:
        row = old or new
        cells = [f"{name}={_value(value)}" for name, value in row.items() if name not in key]
    hidden = len(cells) - _SHOWN_CELLS
    told = "  ".join(cells[:_SHOWN_CELLS]) + (f"  … {hidden} more" if hidden > 0 else "")
    return f"{named}  {told}" if named else told


def _value(value: object) -> str:
    return "–" if value is None else str(value)


def _print_text(out: Console, text: TextDiff) -> None:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in text.text.splitlines()[2:]:
        out.print(Text(f"  {line}", style=styles.get(line[:1], "")), soft_wrap=True)
    if text.cut:
        said = "only the beginning is shown" if text.text else "too different to be shown by lines"
        out.print(f"  [dim]{said}[/]")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
