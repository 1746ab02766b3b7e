"""What a waiting job may do now, judged from one state of the rows, each fact asked for once.

Knows rows and repos; starts nothing and writes nothing.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from clew.base.ids import short
from clew.base.records import ENDED_STATES, Commit
from clew.db import Tx
from clew.pipelines.definitions import InputDefinition
from clew.pipelines.jobs import Jobs, producers
from clew.pipelines.registry import Branch, Graph, StepName
from clew.repos import Repos

_GOES_ON = frozenset({"start", "wait"})
_STOPS = ENDED_STATES - {"done"}


class Verdict(Struct, frozen=True):
    """What to do with a waiting job: ``start``, ``wait``, or end it as ``act`` says.

    Of a single input also ``empty``: nothing was ever committed to it.
    """

    act: str
    reason: str = ""


class Look:
    """The rows as one transaction sees them. ``running`` are steps that have a job which runs.

    Many jobs that wait belong to a few changes: what is known of a change is asked for once.
    """

    def __init__(self, tx: Tx, repos: Repos, graph: Graph, running: set[StepName]) -> None:
        self._tx = tx
        self._repos = repos
        self._graph = graph
        self._running = running
        self._changes: dict[str, tuple[dict[Branch, Commit], dict[str, Any]]] = {}
        self._heads: dict[Branch, bool] = {}
        self._pending: set[Branch] | None = None

    def judge(self, row: Any) -> Verdict:
        """Whether the first waiting job of a step may start."""
        step = self._graph.step((row.pipeline, row.step))
        if step is None:
            return Verdict("cancelled", f"{row.pipeline} has no step {row.step} any more.")
        if row.cancelled:
            return Verdict("cancelled", "It was cancelled.")
        if (row.pipeline, row.step) in self._running:
            return Verdict("wait")
        verdicts = {one.name: self._judge_input(row, one) for one in step.inputs if one.drives}
        acts = {one.act for one in verdicts.values()}
        if "empty" in acts and step.can_run(lambda one: verdicts[one.name].act != "empty"):
            acts.discard("empty")  # a union, or the outer side of a join, is there without it
        ended = next((one for one in verdicts.values() if one.act in acts - _GOES_ON), None)
        if ended is not None:
            return Verdict("blocked", ended.reason) if ended.act == "empty" else ended
        return Verdict("wait" if "wait" in acts else "start")

    def _judge_input(self, row: Any, one: InputDefinition) -> Verdict:
        own, jobs = self.of_change(row.global_id)
        commit = own.get((one.repo, one.branch))
        if commit is not None:
            return _judge_commit(commit, jobs.get(commit.id))
        if self._has_head(one):
            return Verdict("start")
        if self._pending is None:
            self._pending = Jobs.pending(self._tx, self._graph)
        if (one.repo, one.branch) in self._pending:
            return Verdict("wait")
        return Verdict("empty", f"There is no data in {one.repo}@{one.branch}.")

    def of_change(self, global_id: str) -> tuple[dict[Branch, Commit], dict[str, Any]]:
        """The last commit of a change on each branch, and the jobs that make some of them."""
        known = self._changes.get(global_id)
        if known is None:
            commits = self._repos.of_change(global_id, tx=self._tx)
            own = {(commit.repo, commit.branch): commit for commit in commits}
            known = own, producers(self._tx, [commit.id for commit in own.values()])
            self._changes[global_id] = known
        return known

    def _has_head(self, one: InputDefinition) -> bool:
        place = (one.repo, one.branch)
        if place not in self._heads:
            head = self._repos.latest(one.repo, one.branch, tx=self._tx)
            self._heads[place] = head is not None
        return self._heads[place]


def _judge_commit(commit: Commit, job: Any | None) -> Verdict:
    """Whether a commit of the same change may be read, must be waited for, or stops the reader."""
    if job is not None and job.state in _STOPS:
        if job.state in {"blocked", "superseded"}:
            return Verdict(job.state, job.reason)
        how = "failed" if job.state == "failed" else f"was {job.state}"
        return Verdict("blocked", f"{job.step} {how} (job {short(job.id)}).")
    if commit.state == "open":
        return Verdict("wait")
    if commit.state == "aborted":
        return Verdict("blocked", f"The commit {short(commit.id)} of {commit.repo} was aborted.")
    return Verdict("start")
