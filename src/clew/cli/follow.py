"""Watch what follows from a change, live, until nothing is left to run.

Knows events and jobs; it draws them and counts nothing by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from clew.base.errors import ClewError
from clew.base.records import ENDED_STATES, Event, Job
from clew.base.verbs import Verbs
from clew.cli import render
from clew.cli.frame import console

BAD = frozenset({"failed", "refused", "blocked"})


def follow(clew: Verbs, global_id: str | None, *, show: bool = True) -> list[Job]:
    """Wait for a change (or all), showing its jobs as they go; the jobs, in order of creation.

    On an embedded workspace the work is done by this call.
    """
    if not show:
        clew.wait(global_id)
    else:
        Board(clew, global_id, console()).run()
    return list(clew.change(global_id).jobs) if global_id else []


def exit_unless_done(jobs: Sequence[Job]) -> None:
    """End the command with status 1 if a job did not end well."""
    if any(job.state in BAD for job in jobs):
        raise typer.Exit(1)


class Board:
    """A table of the jobs of a change that redraws itself as events come.

    In a terminal it is live; elsewhere each job is one line when it ends.
    """

    def __init__(self, clew: Verbs, global_id: str | None, out: Console) -> None:
        self._clew = clew
        self._global_id = global_id
        self._out = out
        self._jobs: dict[str, Job] = {}
        self._notes: dict[str, str] = {}
        self._trials: dict[str, int] = {}
        self._live: Live | None = None

    def run(self) -> None:
        """Wait and draw; returns when nothing is left."""
        if not sys.stdout.isatty():
            self._clew.wait(self._global_id, watch=self._see)
            return
        with Live(console=self._out, refresh_per_second=12, transient=True) as live:
            self._live = live
            self._clew.wait(self._global_id, watch=self._see)
            self._live = None
        for job in self._jobs.values():
            self._out.print(self._line(job))

    def _see(self, event: Event) -> None:
        if event.kind.startswith("trial."):
            self._see_trial(event)
        if not event.kind.startswith("job."):
            return
        try:
            job = self._clew.job(event.subject)
        except ClewError:
            return  # the row is gone or the server is restarting; the next event shows it
        ended_before = job.id in self._jobs and self._jobs[job.id].state in ENDED_STATES
        self._jobs[job.id] = job
        if self._live is not None:
            self._live.update(Group(*(self._line(one) for one in self._jobs.values())))
        elif job.state in ENDED_STATES and not ended_before and not sys.stdout.isatty():
            self._out.print(self._line(job))

    def _see_trial(self, event: Event) -> None:
        job = str(event.data.get("job", ""))
        if event.kind == "trial.started" and job:
            self._trials[job] = self._trials.get(job, 0) + 1

    def _line(self, job: Job) -> Table:
        line = Table.grid(padding=(0, 1))
        for width in (9, 24, 20):
            line.add_column(width=width, min_width=width, overflow="ellipsis", no_wrap=True)
        line.add_column(overflow="ellipsis", no_wrap=True)
        name = Text(f"{job.pipeline}/{job.step}")
        line.add_row(render.state(job.state), name, self._bar(job), self._detail(job))
        return line

    def _bar(self, job: Job) -> Text | ProgressBar:
        if job.state == "running":
            known = job.total or None
            return ProgressBar(
                total=known, completed=job.done + job.skipped, width=20, pulse=not known
            )
        if job.state == "waiting":
            return Text("")
        parts = [
            f"{job.done} run" if job.done else "",
            f"{job.skipped} skipped" if job.skipped else "",
        ]
        parts.append(f"{job.failed} bad" if job.failed else "")
        return Text(", ".join(p for p in parts if p), style="dim")

    def _detail(self, job: Job) -> Text:
        spent = render.seconds(job.started_at, job.finished_at) if job.started_at else ""
        trials = self._trials.get(job.id, 0)
        doing = f"{trials} trials  " if trials and job.state == "running" else ""
        text = job.error.splitlines()[0] if job.error else job.reason
        return Text.assemble((f"{spent:>7} ", "dim"), doing, (text, "" if job.error else "dim"))
