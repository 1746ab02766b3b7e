"""Commands for work that is under way: cancel, pause, resume, retry, restart, logs.

Knows the verbs; what is printed is made by ``render``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from clew.cli.follow import NOTHING, Ended, exit_unless_done, follow
from clew.cli.frame import Json, console, json_line, print_json, workspace
from clew.cli.work import print_jobs

if TYPE_CHECKING:
    from clew.base.records import Job, LogEntry
    from clew.base.verbs import Verbs

Subject = Annotated[
    str,
    typer.Argument(
        help="A job, a change, a pipeline, pipeline/step, an experiment or a trial.",
        metavar="SUBJECT",
    ),
]
FOLLOW_S = 5.0
"""How long one question for more of a log waits."""


def cancel(subject: Subject, json: Json = False) -> None:
    """Stop what has not ended; what follows from it is blocked.

    Example: clew cancel late-flights/features
    """
    with workspace() as clew:
        _tell(clew.cancel_all(subject), json)


def pause(subject: Subject, json: Json = False) -> None:
    """Let nothing of it begin; datums that run come to their end.

    A pipeline or a step stays paused until `clew resume`: what is committed meanwhile gathers.

    Example: clew pause late-flights
    """
    with workspace() as clew:
        paused = clew.pause(subject)
        _tell(paused, json)
    if not paused and not json:
        console().print(f"[green]✓[/] {subject} is paused: what is committed from now on waits")


def resume(
    subject: Subject,
    wait: Annotated[bool, typer.Option(help="Show it until it ends.")] = True,
    json: Json = False,
) -> None:
    """Let what was paused go on.

    Example: clew resume late-flights
    """
    with workspace(working=wait) as clew:
        _go_on(clew, clew.resume(subject), wait=wait, json=json)


def retry(
    subject: Annotated[str, typer.Argument(help="A job or a change.", metavar="SUBJECT")],
    priority: Annotated[
        int | None, typer.Option("--priority", help="Of what runs again; that of before without.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Show it until it ends.")] = True,
    json: Json = False,
) -> None:
    """Run what failed once more, for the same change; what is done is not run again.

    Example: clew retry 9k2m4x7q
    """
    with workspace(working=wait) as clew:
        _go_on(clew, clew.retry(subject, priority=priority), wait=wait, json=json)


def restart(
    datum: Annotated[str, typer.Argument(help="Id of a datum, or its first characters.")],
    wait: Annotated[bool, typer.Option(help="Show it until it ends.")] = True,
    json: Json = False,
) -> None:
    """Run one datum once more: one that hangs from its beginning, one that is done anew.

    Example: clew restart 9k2m4x7q
    """
    with workspace(working=wait) as clew:
        _go_on(clew, [clew.restart(datum)], wait=wait, json=json)


def logs(
    job_id: Annotated[str, typer.Argument(help="Id of a job, or its first characters.")],
    datum: Annotated[str, typer.Option("--datum", help="Of this datum alone.")] = "",
    live: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    json: Json = False,
) -> None:
    """What the code printed in a job, datum by datum; with --json one entry a line.

    Example: clew logs 9k2m4x7q --follow
    """
    with workspace() as clew:
        for entry in _entries(clew, job_id, datum, live=live):
            sys.stdout.write(json_line(entry) if json else _shown(entry, alone=bool(datum)))
            sys.stdout.flush()


def _entries(clew: Verbs, job_id: str, datum: str, *, live: bool) -> Iterator[LogEntry]:
    at, wait_s = 0, FOLLOW_S if live else 0.0
    while True:
        page = clew.logs(job_id, datum=datum, after=at, wait_s=wait_s)
        yield from page.entries
        at = page.next
        if page.ended or (not live and not page.entries):
            return


def _shown(entry: LogEntry, *, alone: bool) -> str:
    text = entry.text if entry.text.endswith("\n") else f"{entry.text}\n"
    if alone or not entry.datum:
        return text
    return "".join(f"{entry.datum[:8]} │ {line}\n" for line in text.splitlines())


def _go_on(clew: Verbs, jobs: list[Job], *, wait: bool, json: bool) -> None:
    """Show the jobs, and where it is wanted all that follows from their changes."""
    if not wait:
        _tell(jobs, json)
        return
    ended = NOTHING
    for global_id in dict.fromkeys(job.global_id for job in jobs):
        ended |= follow(clew, global_id, show=not json)
    if json:
        print_json([clew.job(job.id) for job in jobs])
    latest = {(job.global_id, job.pipeline, job.step): job for job in ended.jobs}
    exit_unless_done(Ended(list(latest.values()), ended.broken))


def _tell(jobs: list[Job], json: bool) -> None:
    if json:
        print_json(jobs)
    elif jobs:
        print_jobs(jobs)
