"""Commands about work: apply, plan, run, wait, jobs, job, cancel, experiments.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from clew.base.address import DEFAULT_BRANCH
from clew.base.errors import Invalid
from clew.cli import render
from clew.cli.follow import NOTHING, exit_unless_done, follow, print_undeclared
from clew.cli.frame import Json, console, print_json, workspace

if TYPE_CHECKING:
    from clew.base.records import Datum, Experiment, Importance, Job

File = Annotated[Path, typer.Argument(help="Python file that defines pipelines.")]
Ident = Annotated[str, typer.Argument(help="Id, or its first characters.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1)]


Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Value of a parameter; repeatable."),
]


OnBranch = Annotated[
    str,
    typer.Option("--branch", help="Try it on a branch: its outputs go there, main stays as it is."),
]


def values_of(sets: list[str] | None) -> dict[str, str]:
    """Values of parameters by name, as texts; the parameter's type says what they mean.

    Raises:
        Invalid: ``parameter.text``.
    """
    wrong = next((one for one in sets or () if "=" not in one), None)
    if wrong is not None:
        raise Invalid(
            "parameter.text", f"--set {wrong} has no value.", hint="Write --set NAME=VALUE."
        )
    pairs = (one.partition("=") for one in sets or ())
    return {name.strip(): value for name, _, value in pairs}


def apply(
    file: File,
    message: Annotated[str, typer.Option("--message", "-m")] = "",
    set_: Sets = None,
    branch: OnBranch = DEFAULT_BRANCH,
    wait: Annotated[bool, typer.Option(help="Run, and show, all that follows.")] = True,
    json: Json = False,
) -> None:
    """Register a file's pipelines; what the change affects runs, and nothing else."""
    with workspace(working=True) as clew:
        applied = clew.apply(file, message=message, parameters=values_of(set_), branch=branch)
        ended = NOTHING
        for one in applied:
            if not json:
                _print_applied(one.pipeline, one.version, one.changed, one.notes)
            if wait and one.global_id:
                ended |= follow(clew, one.global_id, show=not json)
        if json:
            print_json({"applied": applied, "jobs": ended.jobs, "broken": ended.broken})
        elif wait and not ended.jobs:
            console().print("[dim]= nothing to run[/]")
    exit_unless_done(ended)


def _print_applied(pipeline: str, version: int, changed: bool, notes: tuple[str, ...]) -> None:
    out = console()
    what = f"version {version}" if changed else f"version {version}, unchanged"
    out.print(f"[green]✓[/] {pipeline}  [dim]{what}[/]")
    for note in notes:
        out.print(f"  [dim]· {note}[/]")


def run(
    pipeline: Annotated[str, typer.Argument(help="Name of the pipeline.")],
    step: Annotated[str | None, typer.Argument(help="One step (and what follows from it).")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the jobs.")] = "",
    priority: Annotated[
        int | None, typer.Option("--priority", help="Higher goes first; that of the step without.")
    ] = None,
    set_: Sets = None,
    wait: Annotated[bool, typer.Option(help="Show it until it ends.")] = True,
    json: Json = False,
) -> None:
    """Run a step anew although nothing changed."""
    with workspace(working=wait) as clew:
        global_id = clew.run(
            pipeline, step, reason=reason, priority=priority, parameters=values_of(set_)
        )
        ended = follow(clew, global_id, show=not json) if wait else NOTHING
    if json:
        print_json({"global_id": global_id, "jobs": ended.jobs, "broken": ended.broken})
    exit_unless_done(ended)


def retire(
    pipeline: Annotated[str, typer.Argument(help="Name of the pipeline; name@branch of a branch.")],
    reason: Annotated[str, typer.Option("--reason", help="Kept with its last version.")] = "",
    json: Json = False,
) -> None:
    """Take a pipeline out of service: nothing runs for it any more; what it made stays.

    Example: clew retire late-flights --reason "replaced by delays"
    """
    with workspace() as clew:
        applied = clew.retire(pipeline, reason=reason)
    if json:
        print_json(applied)
        return
    told = "retired" if applied.changed else "was retired before"
    console().print(f"[green]✓[/] {applied.pipeline} {told}  [dim]version {applied.version}[/]")
    for note in applied.notes:
        console().print(f"  [dim]· {note}[/]")


def wait(
    global_id: Annotated[
        str | None, typer.Argument(help="A change, or repo@ref; everything without it.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds; 0 waits on.")] = 0,
    json: Json = False,
) -> None:
    """Return when nothing is left to run (on the files here: do the work)."""
    with workspace(working=True) as clew:
        if timeout_s:
            clew.wait(global_id, timeout_s=timeout_s)
        if global_id is not None and ("@" in global_id or "/" in global_id):
            global_id = clew.commit(global_id).global_id
        ended = follow(clew, global_id, show=not json)
    if json:
        print_json(ended.jobs)
    exit_unless_done(ended)


def jobs(
    pipeline: Annotated[str | None, typer.Argument(help="Of this pipeline alone.")] = None,
    state: Annotated[str | None, typer.Option(help="In this state alone.")] = None,
    limit: Limit = 30,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    with workspace() as clew:
        found = clew.jobs(pipeline=pipeline, state=state, limit=limit)
    if json:
        print_json(found)
        return
    print_jobs(found)


def print_jobs(found: list[Job]) -> None:
    """A table of jobs."""
    render.table(
        console(),
        ("job", "change", "state", "step", "run>", "skip>", "bad>", "took>", "why"),
        [
            (
                render.ident(j.id),
                render.ident(j.global_id),
                render.state(j.state),
                f"{j.pipeline}/{j.step}",
                j.done,
                j.skipped,
                j.failed + j.recovered,
                render.seconds(j.started_at, j.finished_at),
                Text(_left(j) + (j.error or j.reason).split("\n")[0], style="dim"),
            )
            for j in found
        ],
    )


def _left(job: Job) -> str:
    """How many datums are left, and about how long they take; '' where nothing runs."""
    if job.eta_s is None:
        return ""
    return f"{job.left:,} left, about {render.span(job.eta_s)}. "


def job(
    job_id: Ident,
    log: Annotated[bool, typer.Option("--log", help="Print what the code printed.")] = False,
    json: Json = False,
) -> None:
    """One job with its datums: which ran, which were skipped, and why."""
    with workspace() as clew:
        found, datums = clew.job(job_id), clew.datums(job_id)
        text = clew.job_log(job_id) if log else ""
    if json:
        print_json({"job": found, "datums": datums, "log": text})
        return
    print_jobs([found])
    print_datums(datums)
    out = console()
    print_undeclared(found.undeclared)
    if found.error:
        out.print(Text(found.error, style="red"))
    if text:
        out.print(Text(text))


def print_datums(datums: list[Datum]) -> None:
    """A table of datums, then the evidence of those that were refused."""
    out = console()
    rows = [
        (
            render.ident(d.id),
            render.state(d.state),
            " ".join(path for path, _ in d.inputs)[:70],
            f"{d.duration_s * 1000:.0f} ms",
            Text(d.error.split("\n")[0] if d.error else _why(d), style="dim"),
        )
        for d in datums
    ]
    render.table(out, ("datum", "state", "inputs", "took>", "why"), rows)


def _why(datum: Datum) -> str:
    """Why it ran or was skipped, and which expectations it did not keep although it is done."""
    aside = datum.evidence.get("quarantined")
    said = (
        [f"{render.amount(aside, 'row')} in quarantine"] if isinstance(aside, int) and aside else []
    )
    results = datum.evidence.get("expectations")
    said += [str(one["message"]) for one in results] if isinstance(results, list) else []
    return "; ".join([datum.reason, *said])


def experiments(limit: Limit = 20, json: Json = False) -> None:
    """List searches, newest first."""
    with workspace() as clew:
        found = clew.experiments(limit=limit)
    if json:
        print_json(found)
        return
    render.table(
        console(),
        ("experiment", "change", "state", "step", "searcher", "trials>", "metric", "best>", "when"),
        [
            (
                render.ident(e.id),
                render.ident(e.global_id),
                render.state(e.state),
                f"{e.pipeline}/{e.step}",
                e.searcher,
                e.trials,
                f"{e.metric} ({e.mode})" if e.metric else "–",
                render.number(e.best_value),
                render.ago(e.created_at),
            )
            for e in found
        ],
    )


def experiment(
    experiment_id: Ident,
    importances: Annotated[
        bool, typer.Option("--importances", help="How much each parameter mattered, too.")
    ] = False,
    json: Json = False,
) -> None:
    """One search: its trials, best first."""
    with workspace() as clew:
        found = clew.experiment(experiment_id)
        shares = clew.importances(found.experiment.id) if importances else []
    if json:
        print_json({"detail": found, "importances": shares} if importances else found)
        return
    print_search(found.experiment)
    if found.experiment.error:
        console().print(Text(found.experiment.error, style="red"))
    worst = float("inf")
    sign = -1 if found.experiment.mode == "max" else 1
    ranked = sorted(
        found.trials,
        key=lambda t: (bool(t.breaches), -t.step, worst if t.value is None else sign * t.value),
    )
    names = sorted({name for trial in found.trials for name in trial.params})
    render.table(
        console(),
        ("#>", "trial", "state", "step>", f"{found.experiment.metric}>", *(f"{n}>" for n in names)),
        [
            (
                t.number,
                render.ident(t.id),
                render.state("infeasible" if t.breaches else t.state),
                t.step,
                render.number(t.value),
                *(render.number(t.params.get(name)) for name in names),
            )
            for t in ranked
        ],
    )
    print_importances(shares)


def print_search(found: Experiment) -> None:
    """How a search with more than one metric, a prior or an early end went; else nothing."""
    out = console()
    if found.objectives:
        wanted = ", ".join(f"{name} ({mode})" for name, mode in found.objectives.items())
        front = " ".join(str(render.ident(one)) for one in found.front)
        out.print(f"[dim]objectives[/] {wanted}; [dim]Pareto front[/] {front}")
    if found.prior:
        out.print(f"[dim]started warm from[/] {render.ident(found.prior)}")
    if found.ended_by:
        why = {"time": "its time was up", "cost": "its budget was spent"}
        out.print(f"[dim]ended early:[/] {why.get(found.ended_by, 'nothing got better any more')}")


def print_importances(shares: list[Importance]) -> None:
    """Bars of shares."""
    if shares:
        rows = [(one.parameter, f"{one.share:.0%}", "█" * round(one.share * 40)) for one in shares]
        render.table(console(), ("parameter", "share>", ""), rows)
