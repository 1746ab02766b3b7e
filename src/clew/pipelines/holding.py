"""Which jobs will not go on by themselves: what is paused, and what waits for that.

Knows rows and commits as one transaction sees them; changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from clew.base.errors import NotFound
from clew.base.records import Commit
from clew.db import Tx
from clew.pipelines.definitions import InputDefinition
from clew.pipelines.registry import Branch, Graph, StepName
from clew.repos import Repos


class Holding:
    """Judges jobs that have not ended, in the order of their creation."""

    def __init__(self, tx: Tx, repos: Repos, graph: Graph, rows: Sequence[Any]) -> None:
        self._tx = tx
        self._repos = repos
        self._graph = graph
        self._rows = rows
        self._own: dict[str, dict[Branch, Commit]] = {}
        self._writers: dict[Branch, list[Any]] = defaultdict(list)
        for row in rows:
            step = graph.step((row.pipeline, row.step))
            if step is not None:
                self._writers[step.output_repo, step.output_branch].append(row)
        self._held: set[str] = set()
        self._outputs: set[str] = set()

    def held(self) -> set[str]:
        """Ids of the jobs that are paused, or wait for one that is, directly or not.

        A job may have been made before the one that it reads: so it is looked at until nothing
        more follows.
        """
        while more := self._more():
            self._held.update(row.id for row in more)
            self._outputs.update(row.output for row in more)
        return self._held

    def _more(self) -> list[Any]:
        found, steps = list[Any](), set[StepName]()
        for row in self._rows:
            name = (row.pipeline, row.step)
            if row.id in self._held:
                steps.add(name)
            elif row.state != "running" and self._waits(row, behind=name in steps):
                found.append(row)
                steps.add(name)
        return found

    def _waits(self, row: Any, *, behind: bool) -> bool:
        step = self._graph.step((row.pipeline, row.step))
        if row.state == "paused" or behind:
            return True
        inputs = step.inputs if step is not None else ()
        return any(self._waits_for(row, one) for one in inputs if one.kind == "data")

    def _waits_for(self, row: Any, one: InputDefinition) -> bool:
        own = self._of_change(row.global_id).get((one.repo, one.branch))
        if own is not None:
            return own.id in self._outputs
        writers = self._writers.get((one.repo, one.branch), [])
        all_held = bool(writers) and all(writer.id in self._held for writer in writers)
        return all_held and not self._has_head(one)

    def _of_change(self, global_id: str) -> dict[Branch, Commit]:
        if global_id not in self._own:
            commits = self._repos.of_change(global_id, tx=self._tx)
            self._own[global_id] = {(commit.repo, commit.branch): commit for commit in commits}
        return self._own[global_id]

    def _has_head(self, one: InputDefinition) -> bool:
        try:
            return self._repos.head(one.repo, one.branch, tx=self._tx) is not None
        except NotFound:
            return False
