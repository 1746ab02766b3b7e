"""How a job starts: what it reads is pinned, in a transaction of its own or one that ends another.

Knows rows and commits; what a job then does is in ``running``, and which may start in ``engine``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from clew.base.records import Commit, Job
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.pinning import Pinned, Tools, base_of, current_head, last_done
from clew.pipelines.registry import Branch, Graph, StepName
from clew.pipelines.signals import Signals
from clew.repos import Repos


class Heir(Struct, frozen=True, kw_only=True):
    """A job that starts in the transaction that ends the one before it, on the same thread.

    Its place among those that run is taken; ``let_go`` gives it back.
    """

    step: StepName
    job: str
    graph: Graph
    own: Mapping[Branch, Commit]
    """The last commit of its change on each branch."""
    signals: Signals
    let_go: Callable[[], None]
    alone: bool = False
    """Whether it is known that nothing else could start as it did."""


Follow = Callable[[Tx, Job, StepDefinition], Heir | None]
"""Which job follows one that has just ended, as its transaction sees the rows."""


class Handed(Struct, frozen=True, kw_only=True):
    """A job that has started already, and whom to tell if it is to end."""

    step: StepName
    job: str
    begun: Begun
    signals: Signals
    alone: bool = False


def start(tools: Tools, job_id: str) -> Begun | None:
    """Start a job that waits; None where it does not, or cannot any more."""
    with tools.db.begin() as tx:
        row = tx.execute(tables.JOB, {"id": job_id}).one()
        if row.state != "waiting":
            return None
        graph = tools.registry.graph(tx)
        step = graph.step((row.pipeline, row.step))
        if step is None:
            tools.jobs.fail(tx, job_id, "cancelled", f"{row.pipeline} has no step {row.step} now.")
            return None
        commits = tools.repos.of_change(row.global_id, tx=tx)
        own = {(commit.repo, commit.branch): commit for commit in commits}
        return Begun(tools, tx, row, graph, step, own)


def begin(tools: Tools, tx: Tx, heir: Heir) -> Begun:
    """Start a job in the transaction that ends the one before it."""
    row = tx.execute(tables.JOB, {"id": heir.job}).one()
    step = heir.graph.step((row.pipeline, row.step))
    assert step is not None
    return Begun(tools, tx, row, heir.graph, step, heir.own)


class Begun:
    """A job that starts in a transaction; ``pinned`` is for when that is over."""

    def __init__(
        self,
        tools: Tools,
        tx: Tx,
        row: Any,
        graph: Graph,
        step: StepDefinition,
        own: Mapping[Branch, Commit],
    ) -> None:
        self._tools = tools
        self._row = row
        self._graph = graph
        self._step = step
        self._inputs = inputs = _inputs(tools.repos, tx, step, own)
        head = current_head(tools.repos, tx, step.output_repo, step.output_branch)
        last = last_done(tx, row.pipeline, row.step)
        base_row = None
        if head is not None:
            same = last is not None and last.output == head.id
            base_row = last if same else tx.execute(tables.BY_OUTPUT, {"output": head.id}).first()
        epoch = row.id if row.forced else last.epoch if last else ""
        if row.version is not None:  # it has begun before
            tx.execute(
                tables.datums.delete().where(
                    tables.datums.c.job == row.id, tables.datums.c.state != "done"
                )
            )
        self._job = tools.jobs.start(
            tx,
            row,
            version=graph.versions[row.pipeline],
            inputs={name: commit.id for name, commit in inputs.items()},
            base=base_row.id if base_row is not None and base_row.state == "done" else None,
            epoch=epoch,
            step=step,
        )
        self._head, self._base_row, self._epoch = head, base_row, epoch

    def pinned(self) -> Pinned:
        """What the job reads, and what it builds on."""
        row, graph = self._row, self._graph
        return Pinned(
            row=row,
            job=self._job,
            step=self._step,
            inputs=self._inputs,
            head=self._head,
            base=base_of(self._tools, self._base_row, self._head),
            epoch=self._epoch,
            version=graph.versions[row.pipeline],
            limit=graph.pipelines[row.pipeline].policy.parallel,
        )


def _inputs(
    repos: Repos, tx: Tx, step: StepDefinition, own: Mapping[Branch, Commit]
) -> dict[str, Commit]:
    """For each input the commit of this change, else the head; nothing for an empty reference."""
    found: dict[str, Commit] = {}
    for one in step.inputs:
        commit = own.get((one.repo, one.branch))
        if commit is None or commit.state != "finished":
            commit = current_head(repos, tx, one.repo, one.branch)
        if commit is not None:
            found[one.name] = commit
    return found
