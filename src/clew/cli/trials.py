"""Commands about trials: what one kept, and its checkpoints.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clew.cli import render
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records.trials import TrialDetail
    from clew.base.verbs import Verbs

Ident = Annotated[str, typer.Argument(help="Id, or its first characters.")]
_LAST = 10


def trial(
    trial_id: Ident,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the files that it logged below this.")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Show what it printed.")] = False,
    json: Json = False,
) -> None:
    """One trial: parameters, what it reported last, the files that it logged.

    Example: clew trial 9k2m4x7q --save figures
    """
    with workspace() as clew:
        found = clew.trial(trial_id)
        written = [] if save is None else _save(clew, found, save)
    if json:
        print_json(found)
        return
    if save is not None:
        console().print(f"[green]✓[/] {render.amount(len(written), 'file')} in {save}")
        return
    if log:
        console().print(found.log, markup=False)
        return
    _print(found)


def _save(clew: Verbs, found: TrialDetail, target: Path) -> list[Path]:
    written = []
    for file in found.files:
        place = target / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(clew.trial_file(found.trial.id, file.path))
        written.append(place)
    return written


def _print(found: TrialDetail) -> None:
    out, one = console(), found.trial
    out.print(f"trial [bold]{one.number}[/] [dim]{one.id}[/]", render.state(one.state))
    goal = f" of {one.target}" if one.target else ""
    said = "" if one.progress is None else f", {one.progress:.0%} {one.note}".rstrip()
    out.print(f"  [dim]steps[/] {one.step}{goal}{said}")
    for name, value in one.params.items():
        out.print(f"  [dim]{name}[/] {render.number(value)}")
    if one.error:
        out.print(one.error, style="red", markup=False)
    names = sorted({name for point in found.points for name in point.metrics})
    render.table(
        out,
        ("step>", *(f"{name}>" for name in names)),
        [
            (point.step, *(render.number(point.metrics.get(name)) for name in names))
            for point in found.points[-_LAST:]
        ],
    )
    render.table(
        out,
        ("file", "kind", "step>", "size>"),
        [(f.path, f.kind, f.step, render.size(f.size_bytes)) for f in found.files],
    )
    if found.usage:
        last = found.usage[-1].values
        said = ", ".join(f"{name} {render.number(value)}" for name, value in last.items())
        out.print(f"  [dim]machine[/] {said}")
