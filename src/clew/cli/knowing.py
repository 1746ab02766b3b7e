"""Commands about trust in results: verify, reproduce, accept.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from clew.base.ids import short
from clew.cli import render
from clew.cli.follow import NOTHING, exit_unless_done, follow, print_undeclared
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records import TableDiff
    from clew.base.records.knowing import Cause, FileCheck, Reproduction

Pipeline = Annotated[str, typer.Argument(help="Name of the pipeline.")]
Step = Annotated[str | None, typer.Argument(help="One step; all of the pipeline without it.")]


def verify(
    pipeline: Pipeline,
    step: Step = None,
    sample: Annotated[int, typer.Option("--sample", "-n", min=1, help="Datums of each step.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="Which datums are drawn.")] = 0,
    json: Json = False,
) -> None:
    """Run some datums that would be skipped; exit 1 where one does not give what it gave.

    Example: clew verify late-flights clean --sample 50
    """
    with workspace(working=True) as clew:
        found = clew.verify(pipeline, step, sample=sample, seed=seed)
    if json:
        print_json(found)
    else:
        out = console()
        rows = [
            (
                render.ident(one.datum),
                render.state("done" if one.verdict == "same" else "failed"),
                one.step,
                " ".join(one.inputs)[:60],
                Text(one.error.split("\n")[0] or _told(one.files) or one.verdict, style="dim"),
            )
            for one in found.datums
        ]
        render.table(out, ("datum", "", "step", "inputs", "verdict"), rows)
        out.print(
            f"{len(found.datums):,} of {found.known:,} known datums run again: "
            f"{found.same} the same, {found.different} different, {found.failed} failed"
        )
        print_undeclared(found.undeclared)
    if found.different or found.failed:
        raise typer.Exit(1)


def reproduce(
    ref: Annotated[
        str, typer.Argument(help="A job, a commit that a step made, or a model version.")
    ],
    json: Json = False,
) -> None:
    """Repeat a job by the code, data and settings of then; exit 1 where it gives another result.

    Example: clew reproduce late-flights/features@main
    """
    with workspace(working=True) as clew:
        found = clew.reproduce(ref)
    if json:
        print_json(found)
    else:
        _print_reproduction(found)
    if found.verdict not in {"identical", "equal"}:
        raise typer.Exit(1)


def _print_reproduction(found: Reproduction) -> None:
    out = console()
    good = found.verdict in {"identical", "equal"}
    mark = "[green]✓[/]" if good else "[red]✗[/]"
    out.print(
        f"{mark} {found.verdict}: {found.pipeline}/{found.step}, job [cyan]{short(found.job)}[/]"
    )
    out.print(f"  [dim]then[/] {found.expected}")
    if found.found:
        out.print(f"  [dim]now [/] {found.found}")
    for one in found.metrics:
        out.print(f"  {one.name}: {render.number(one.old)} → {render.number(one.new)}")
    for file in found.files:
        out.print(Text(f"  {file.path}: {_told([file])}"))
    for package in found.packages:
        out.print(Text(f"  · {package}", style="dim"))
    for reason in found.reasons:
        out.print(Text(f"  may be because {reason}"))
    if found.error:
        out.print(Text(found.error, style="red"))


def _told(files: Iterable[FileCheck]) -> str:
    """How files differ, in a few words."""
    return "; ".join(
        f"{file.path} {file.kind}"
        + (f", from byte {file.offset:,}" if file.offset is not None else "")
        + (f": {_rows(file.table)}" if file.table else "")
        for file in files
    )


def _rows(table: TableDiff) -> str:
    told = f"{table.added:,} rows added, {table.removed:,} removed, {table.changed:,} changed"
    return told + "".join(f", column {one.name} {one.kind}" for one in table.columns)


def print_causes(causes: Iterable[Cause]) -> None:
    """What differs from the job before: pieces of code with their diff, packages, files."""
    out = console()
    for one in causes:
        values = f": {one.old or 'none'} → {one.new or 'none'}" if one.old or one.new else ""
        if one.kind == "file":
            how = "changed" if one.old and one.new else "added" if one.new else "removed"
            values = f" {how}" if one.old or one.new else ""
        out.print(Text(f"· {one.kind} {one.name}{values}"))
        for line in one.diff.splitlines()[2:]:
            style = {"+": "green", "-": "red"}.get(line[:1], "dim")
            out.print(Text(f"    {line}", style=style))


def accept(
    pipeline: Pipeline,
    step: Step = None,
    reason: Annotated[str, typer.Option("--reason", help="Why results stay the same.")] = "",
    environment: Annotated[
        bool, typer.Option("--environment", help="Accept the packages of now, too.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back; what differs runs.")] = False,
    json: Json = False,
) -> None:
    """Say that a change of code changes no result: what was made before stays.

    Example: clew accept late-flights clean --reason "renamed helpers"
    """
    with workspace(working=True) as clew:
        jobs = clew.accept(pipeline, step, reason=reason, environment=environment, undo=undo)
        global_id = jobs[0].global_id if jobs else ""
        ended = follow(clew, global_id, show=not json) if global_id else NOTHING
    if json:
        print_json({"global_id": global_id, "jobs": ended.jobs, "broken": ended.broken})
    elif not ended.jobs:
        console().print("[green]✓[/] accepted; nothing runs")
    exit_unless_done(ended)
