"""Commands about trials: what one kept, and its checkpoints.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from importlib import import_module
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clew.cli import render
from clew.cli.follow import NOTHING, exit_unless_done, follow
from clew.cli.frame import Json, console, print_json, workspace
from clew.cli.work import values_of

if TYPE_CHECKING:
    from clew.base.records.trials import CheckpointInfo, TrialDetail
    from clew.base.verbs import Verbs

Ident = Annotated[str, typer.Argument(help="Id, or its first characters.")]
Count = Annotated[int | None, typer.Option(min=0, help="So many of these stay.")]
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


def checkpoints(
    subject: Annotated[str, typer.Argument(help="An experiment or a trial.", metavar="SUBJECT")],
    json: Json = False,
) -> None:
    """Checkpoints of an experiment or a trial, and why each stays.

    Example: clew checkpoints 9k2m4x7q
    """
    with workspace() as clew:
        found = clew.checkpoints(subject)
    if json:
        print_json(found)
        return
    _print_checkpoints(found)


def prune(
    experiment: Annotated[str, typer.Argument(help="Id of an experiment.", metavar="EXPERIMENT")],
    best: Count = None,
    trial_best: Count = None,
    trial_latest: Count = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Give up checkpoints that nobody keeps; `clew gc` then frees their bytes.

    Without numbers it is what the training step says (`trials=clew.trials(keep=...)`), else 1 each.

    Example: clew prune 9k2m4x7q --trial-latest 0
    """
    given = {"best": best, "trial_best": trial_best, "trial_latest": trial_latest}
    numbers = {name: number for name, number in given.items() if number is not None}
    with workspace() as clew:
        kept = import_module("clew.base.records.trial_policy").Keep  # help pays for no records
        keep = kept(**numbers) if numbers else None
        found = clew.prune(experiment, keep, dry_run=dry_run)
    if json:
        print_json(found)
        return
    size = render.size(sum(one.size_bytes for one in found.removed))
    went = "went" if found.done else "would go"
    console().print(
        f"{render.amount(len(found.removed), 'checkpoint')} {went} ({size} of files), "
        f"{len(found.kept)} stay"
    )
    _print_checkpoints(list(found.removed) if dry_run else list(found.kept))


def _print_checkpoints(found: list[CheckpointInfo]) -> None:
    render.table(
        console(),
        ("checkpoint", "trial>", "step>", "value>", "size>", "when", "stays as"),
        [
            (
                render.ident(one.commit),
                one.number,
                one.step,
                render.number(one.value),
                render.size(one.size_bytes),
                render.ago(one.at),
                ", ".join(one.kept_for) or "–",
            )
            for one in found
        ],
    )


def fork(
    experiment: Annotated[str, typer.Argument(help="Id of an experiment.", metavar="EXPERIMENT")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One value, or a distribution as JSON."),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option("--search", metavar="FIELD=VALUE", help="A field of the search; repeatable."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the job.")] = "",
    wait: Annotated[bool, typer.Option(help="Show it until it ends.")] = True,
    json: Json = False,
) -> None:
    """Run an experiment anew with other parameters or another search, on the data of now.

    Example: clew fork 9k2m4x7q --set depth=6 --search trials=32
    """
    space, fields = _values(set_), _values(search)
    with workspace(working=wait) as clew:
        global_id = clew.fork(experiment, space=space, search=fields, reason=reason)
        _go_on(clew, global_id, wait=wait, json=json)


def continue_(
    trial_id: Ident,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps in all.")],
    reason: Annotated[str, typer.Option("--reason", help="Kept with the job.")] = "",
    wait: Annotated[bool, typer.Option(help="Show it until it ends.")] = True,
    json: Json = False,
) -> None:
    """Train a trial on from its latest checkpoint, up to so many steps in all.

    Example: clew continue 9k2m4x7q --steps 100
    """
    with workspace(working=wait) as clew:
        global_id = clew.continue_trial(trial_id, steps=steps, reason=reason)
        _go_on(clew, global_id, wait=wait, json=json)


def _values(pairs: list[str] | None) -> dict[str, object]:
    """Values by name: what is JSON as that, else a text."""
    found: dict[str, object] = {}
    for name, text in values_of(pairs).items():
        try:
            found[name] = loads(text)
        except ValueError:
            found[name] = text
    return found


def _go_on(clew: Verbs, global_id: str, *, wait: bool, json: bool) -> None:
    ended = follow(clew, global_id, show=not json) if wait else NOTHING
    if json:
        print_json({"global_id": global_id, "jobs": ended.jobs, "broken": ended.broken})
    elif not wait:
        console().print(f"[green]✓[/] {global_id}")
    exit_unless_done(ended)
