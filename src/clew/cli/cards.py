"""Commands that hold models up to the light: card, compare.

Knows the verbs; what is printed is made by them, or by ``render``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from clew.base.ids import short
from clew.cli import render
from clew.cli.differing import print_file
from clew.cli.frame import Json, console, print_json, workspace
from clew.cli.knowing import print_causes

if TYPE_CHECKING:
    from rich.console import Console

    from clew.base.records.comparing import ComparedData, Comparison


def card(
    ref: Annotated[
        str,
        typer.Argument(
            help="Model version: its id, model@3, model@champion; of an MLflow client runs:/ID, "
            "models:/NAME/3."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to this file.")
    ] = None,
    json: Json = False,
) -> None:
    """The card of a model version as Markdown: what it is for, how good it is, whence it came.

    Example: clew card late-flights/model@champion -o MODEL_CARD.md
    """
    with workspace() as clew:
        foreign = ref.startswith(("runs:/", "models:/"))
        found = clew.run_card(ref) if foreign else clew.card(ref)
    if json:
        print_json(found)
    elif output is None:
        sys.stdout.write(found.markdown)
    else:
        output.write_text(found.markdown)
        console().print(f"[green]✓[/] {output}")


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Trials, model versions, experiments, jobs, or MLflow's runs:/ID."),
    ],
    all_: Annotated[
        bool, typer.Option("--all", help="Also what is the same in all of them.")
    ] = False,
    json: Json = False,
) -> None:
    """Hold runs side by side: parameters, metrics, data, code and packages, against the first.

    Example: clew compare late-flights/model@3 late-flights/model@champion
    """
    with workspace() as clew:
        found = clew.compare_runs(runs)
    if json:
        print_json(found)
    else:
        _print_comparison(found, whole=all_)


def _print_comparison(found: Comparison, *, whole: bool) -> None:
    out = console()
    names = [chr(ord("A") + at) for at in range(len(found.runs))]
    render.table(
        out,
        ("", "run", "state", "trial", "steps>", "busy>", "change"),
        [
            (
                name,
                one.title,
                render.state(one.state if one.feasible else "refused"),
                render.ident(one.trial),
                one.steps,
                f"{one.busy_s:.1f} s",
                render.ident(one.global_id),
            )
            for name, one in zip(names, found.runs, strict=True)
        ],
    )
    for title, rows in (
        ("parameters", found.parameters),
        ("metrics", found.metrics),
        ("configuration", found.configuration),
        ("environment", found.environment),
    ):
        shown = [row for row in rows if row.differs or whole]
        if shown:
            columns = (title, *(f"{name}>" for name in names))
            cells = [(row.name, *map(render.number, row.values)) for row in shown]
            render.table(out, columns, cells)
        elif rows:
            out.print(f"[dim]{title}: the same in all[/]")
    for data in found.data:
        _print_data(out, data, names)
    for code in found.code:
        said = code.note or ("" if code.causes else "the same code")
        out.print(f"[bold]code[/] {names[0]} → {names[code.run]}  [dim]{said}[/]")
        print_causes(code.causes)
    for note in found.notes:
        out.print(Text(f"· {note}", style="dim"), soft_wrap=True)


def _print_data(out: Console, data: ComparedData, names: list[str]) -> None:
    same = len(set(data.commits)) == 1
    told = "the same" if same else "  ".join(
        f"{name} {short(commit) if commit else '–'}"
        for name, commit in zip(names, data.commits, strict=True)
    )  # fmt: skip
    out.print(f"[bold]{data.role}[/] {data.repo}  [dim]{told}[/]")
    if not same and not data.pairs:
        out.print("  [dim]other commits, the same files[/]")
    for pair in data.pairs:
        counts = f"+{pair.added} -{pair.removed} ~{pair.changed} files"
        out.print(f"  {names[0]} → {names[pair.run]}: {pair.note or counts}")
        for file in pair.files:
            print_file(out, file, stat=True)
            for column in file.table.columns if file.table else ():
                types = " → ".join(kind for kind in (column.old, column.new) if kind)
                out.print(Text(f"      column {column.name} {column.kind}  {types}", style="dim"))
        if pair.files:
            sides = [f"{data.repo}@{short(data.commits[at])}" for at in (0, pair.run)]
            out.print(f"    [dim]row by row: clew diff {sides[0]} {sides[1]}[/]")
