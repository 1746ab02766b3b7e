"""Watch what follows from a change, live, until nothing is left to run.

Knows events and jobs; it draws them and counts nothing by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from clew.base.errors import ClewError
from clew.base.ids import short
from clew.cli import render
from clew.cli.frame import console

if TYPE_CHECKING:
    from clew.base.records import BrokenNow, Event, Job, UndeclaredRead
    from clew.base.verbs import Verbs

STATE_WIDTH, NAME_WIDTH, AMOUNT_WIDTH = 11, 28, 20
BAD = frozenset({"failed", "refused", "blocked"})


class Ended(NamedTuple):
    """How a change ended: its jobs in order of creation, and what is broken now."""

    jobs: list[Job]
    broken: list[BrokenNow]

    def __or__(self, other: Ended) -> Ended:
        """Both."""
        return Ended([*self.jobs, *other.jobs], [*self.broken, *other.broken])


NOTHING = Ended([], [])


def follow(clew: Verbs, global_id: str | None, *, show: bool = True) -> Ended:
    """Wait for a change (or all), showing its jobs as they go, and at the end what is broken.

    On an embedded workspace the work is done by this call.
    """
    if not show:
        clew.wait(global_id)
    else:
        Board(clew, global_id, console()).run()
    if not global_id:
        return NOTHING
    change = clew.change(global_id)
    if show:
        for job in change.jobs:
            print_undeclared(job.undeclared, by=f"{job.pipeline}/{job.step} ")
        print_broken(change.broken, change.global_id)
    return Ended(list(change.jobs), list(change.broken))


def print_undeclared(reads: Iterable[UndeclaredRead], *, by: str = "") -> None:
    """Warnings of what code read although no key depends on it."""
    for one in reads:
        console().print(Text(f"  ⚠ {by}reads {one.told}, which no key depends on", style="yellow"))


def print_broken(broken: Sequence[BrokenNow], global_id: str) -> None:
    """What is broken now, how to see it and what to do: by this change, and since before it."""
    out = console()
    for one in broken:
        if one.state == "blocked":
            continue
        title = "broken" if one.global_id == global_id else "broken before this change"
        again = next_try(one.id, one.state) if one.kind == "job" else "clew apply FILE, mended"
        style = "red" if title == "broken" else "yellow"
        out.print(Text.assemble((f"{title}: {one.name} {one.state}", style), f": {one.reason}"))
        out.print(Text(f"  Look: {one.look}. Again: {again}", style="dim"))
    if blocked := ", ".join(one.name for one in broken if one.state == "blocked"):
        out.print(Text(f"blocked by that: {blocked}", style="dim"))
    if any(one.global_id == global_id for one in broken):
        out.print(Text("What was committed stays.", style="dim"))


def next_try(job: str, state: str) -> str:
    """What makes a job end otherwise. What rules refused, they would refuse again."""
    return "new data, or other rules" if state == "refused" else f"clew retry {short(job)}"


def exit_unless_done(ended: Ended) -> None:
    """End the command with status 1 if a job did not end well, or a revision cannot be loaded.

    What was broken before is told, and is no fault of this command.
    """
    cannot = any(one.kind == "revision" for one in ended.broken)
    if cannot or any(job.state in BAD for job in ended.jobs):
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
        self._told = set[str]()
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
            self._out.print(self._line(job), no_wrap=True, overflow="ellipsis")

    def _see(self, event: Event) -> None:
        if event.kind.startswith("trial."):
            self._see_trial(event)
        if not event.kind.startswith("job."):
            return
        try:
            job = self._clew.job(event.subject)
        except ClewError:
            return  # the row is gone or the server is restarting; the next event shows it
        self._jobs[job.id] = job
        if self._live is not None:
            self._live.update(Group(*(self._line(one) for one in self._jobs.values())))
        elif event.kind == "job.ended" and job.id not in self._told and not sys.stdout.isatty():
            self._told.add(job.id)  # at its own event, so that lines stand in the order of ends
            self._out.print(self._line(job), no_wrap=True, overflow="ellipsis")

    def _see_trial(self, event: Event) -> None:
        job = str(event.data.get("job", ""))
        if event.kind == "trial.started" and job:
            self._trials[job] = self._trials.get(job, 0) + 1

    def _line(self, job: Job) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append_text(_padded(render.state(job.state), STATE_WIDTH))
        line.append_text(_padded(Text(f"{job.pipeline}/{job.step}"), NAME_WIDTH))
        line.append_text(_padded(self._amount(job), AMOUNT_WIDTH))
        line.append_text(self._detail(job))
        return line

    def _amount(self, job: Job) -> Text:
        if job.state == "running":
            return _bar(job.total - job.left, job.total)
        if job.state == "waiting":
            return Text("")
        counts = (
            (job.done, "run"),
            (job.skipped, "skipped"),
            (job.failed, "bad"),
            (job.recovered, "recovered"),
        )
        return Text(", ".join(f"{n} {what}" for n, what in counts if n), style="dim")

    def _detail(self, job: Job) -> Text:
        spent = render.seconds(job.started_at, job.finished_at) if job.started_at else ""
        trials = self._trials.get(job.id, 0)
        doing = f"{render.amount(trials, 'trial')}  " if trials and job.state == "running" else ""
        if job.eta_s is not None:
            doing += f"{job.left:,} left, about {render.span(job.eta_s)}  "
        text = job.error.splitlines()[0] if job.error else job.reason
        return Text.assemble((f"{spent:>7}  ", "dim"), doing, (text, "" if job.error else "dim"))


def _padded(text: Text, width: int) -> Text:
    text.truncate(width - 1, overflow="ellipsis", pad=True)
    return text.append(" ")


def _bar(done: int, total: int) -> Text:
    width = AMOUNT_WIDTH - 2
    full = round(width * done / total) if total else 0
    return Text.assemble(("━" * full, "cyan"), ("─" * (width - full), "dim"))
