"""Commands for users of Determined: det run.

Knows the verbs and how an experiment configuration becomes a project; the rest is the workspace's.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clew.cli.follow import NOTHING, exit_unless_done, follow
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records import Experiment, Job
    from clew.base.verbs import Verbs

det = typer.Typer(help="Experiments of Determined.", no_args_is_help=True)


@det.callback()
def _all() -> None:
    """Experiments of Determined, unchanged: their Core API trials and configurations."""


@det.command(name="run")
def run(
    config: Annotated[Path, typer.Argument(help="The experiment configuration, a YAML file.")],
    context: Annotated[
        Path | None,
        typer.Argument(help="The context directory: the trials' code; that of CONFIG without it."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--config", metavar="FIELD=VALUE", help="Another value; repeatable."),
    ] = None,
    requirements: Annotated[
        list[str] | None,
        typer.Option(
            "--requirements",
            "-r",
            metavar="PACKAGE",
            help="More packages of the trials; repeatable.",
        ),
    ] = None,
    python: Annotated[str, typer.Option("--python", help="Version of the trials' Python.")] = "",
    wait: Annotated[bool, typer.Option(help="Show it until it ends.")] = True,
    json: Json = False,
) -> None:
    """Run an experiment of Determined: its trials, its searcher, its checkpoints, in Clew.

    Example: clew det run const.yaml model_dir --config resources.slots_per_trial=2
    """
    borrowed = import_module("clew.determined")  # help pays for no searches
    project = borrowed.project_of(
        config, context or config.parent, change or [], requirements or [], python
    )
    if not json:
        for note in project.notes:
            console().print(f"  [dim]· {note}[/]")
    with workspace(working=wait) as clew:
        global_id = _begin(clew, project.files, project.pipeline)
        ended = follow(clew, global_id, show=not json) if wait else NOTHING
        found = _experiment(clew, global_id)
    if json:
        print_json(
            {
                "pipeline": project.pipeline,
                "global_id": global_id,
                "experiment": found,
                "notes": project.notes,
                "jobs": ended.jobs,
            }
        )
    else:
        _print(global_id, found, ended.jobs)
    exit_unless_done(ended)


def _begin(clew: Verbs, files: object, pipeline: str) -> str:
    """A new experiment; its change."""
    applied = clew.apply(files, message="clew det run")
    started = next((one.global_id for one in applied if one.global_id), None)
    return started or clew.run(pipeline, reason="clew det run")


def _experiment(clew: Verbs, global_id: str) -> Experiment | None:
    return next((one for one in clew.experiments() if one.global_id == global_id), None)


def _print(global_id: str, found: Experiment | None, jobs: list[Job]) -> None:
    out = console()
    if found is None:
        out.print(f"[green]✓[/] {global_id}")
        return
    out.print(f"experiment [bold]{found.id}[/]: clew experiment {found.id[:8]}")
    if jobs and found.best_trial:
        out.print(f"best trial {found.best_trial}: clew trial {found.best_trial[:8]}")
