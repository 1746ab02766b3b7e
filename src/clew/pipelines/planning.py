"""What a new version of a pipeline (or new data) would run, skip and delete, before it happens.

Reads rows and trees, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clew.base.records import Plan, PlannedDatum
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.accepting import carried
from clew.pipelines.costs import costs_of
from clew.pipelines.datums import Cut, Unit
from clew.pipelines.definitions import PipelineDefinition, StepDefinition
from clew.pipelines.pinning import Tools, base_of, current_head, last_done
from clew.pipelines.registry import Branch, current
from clew.pipelines.work import Reasons, differences, known_among, unchanged_since


def plan_of(
    tools: Tools, tx: Tx, definition: PipelineDefinition, changes: Mapping[Branch, str]
) -> Plan:
    """What registering ``definition`` would do; ``changes`` are trees that branches would have.

    A change of the branch '' is one of whatever branch of the repo is read.

    Steps that read what another step would make anew are unknown, as are steps of plugged kinds
    below them. A plugged step that would run is one datum.
    """
    row = current(tx, definition.name)
    version = None if row is None else row.version
    old = None if version is None else tools.registry.definition(tx, definition.name, version)
    definition = carried(definition, old)
    maker = _Planner(tools, tx, definition.name, changes)
    for step in tools.registry.settled(tx, definition, changes.keys()).in_order():
        maker.add(step)
    return Plan(
        pipeline=definition.name,
        new_version=old is None or old.digest() != definition.digest(),
        datums=tuple(maker.datums),
        unknown=tuple(maker.unknown),
        notes=definition.notes,
        costs=costs_of(tx, definition, maker.datums, maker.unknown, tools.compute.size),
    )


class _Planner:
    def __init__(self, tools: Tools, tx: Tx, pipeline: str, changes: Mapping[Branch, str]) -> None:
        self._tools = tools
        self._tx = tx
        self._pipeline = pipeline
        self._changes = changes
        self._unsure: set[Branch] = set()
        self.datums: list[PlannedDatum] = []
        self.unknown: list[str] = []

    def add(self, step: StepDefinition) -> None:
        """Plan one step, after those that it reads."""
        output = (step.output_repo, step.output_branch)
        data = [one for one in step.inputs if one.kind == "data"]
        if any((one.repo, one.branch) in self._unsure for one in data):
            self.unknown.append(step.name)
            self._unsure.add(output)
            return
        trees = {one.name: self._tree(one.repo, one.branch) for one in step.inputs}
        found = {name: tree for name, tree in trees.items() if tree is not None}
        if not step.can_run(lambda one: one.name in found):
            self.unknown.append(step.name)
            self._unsure.add(output)
            return
        last = self._last(step)
        cut = Cut(self._tools.store, step, found, last.epoch if last else "")
        planned = list(self._datums(cut, step) if step.kind == "step" else self._plugged(cut, last))
        self.datums += planned
        if any(one.action != "skip" for one in planned):
            self._unsure.add(output)

    def _tree(self, repo: str, branch: str) -> str | None:
        for place in ((repo, branch), (repo, "")):
            if place in self._changes:
                return self._changes[place]
        head = current_head(self._tools.repos, self._tx, repo, branch)
        return head.tree if head else None

    def _last(self, step: StepDefinition) -> Any | None:
        return last_done(self._tx, self._pipeline, step.name)

    def _datums(self, cut: Cut, step: StepDefinition) -> Iterator[PlannedDatum]:
        head = current_head(self._tools.repos, self._tx, step.output_repo, step.output_branch)
        row = self._tx.execute(tables.BY_OUTPUT, {"output": head.id}).first() if head else None
        base = base_of(self._tools, row, head)
        why, seen = Reasons(cut, base), set[object]()
        for unit, known in known_among(self._tx, cut.units()):
            seen.add(unit.place)
            action, reason = ("run", why.of(unit)) if known is None else ("skip", "")
            yield PlannedDatum(
                step=step.name,
                action=action,
                inputs=_inputs(unit),
                reason=reason if known is None else unchanged_since(known.job),
            )
        for unit in base.cut.units() if base else ():
            if unit.place not in seen:
                yield PlannedDatum(
                    step=step.name,
                    action="delete",
                    inputs=_inputs(unit),
                    reason="its files are gone",
                )

    def _plugged(self, cut: Cut, last: Any | None) -> Iterator[PlannedDatum]:
        step = cut.step
        key = cut.identity()
        if step.kind in self._tools.remembered:
            asked = {"step": step.name, "key": key}
            last = self._tx.execute(tables.LAST_DONE_OF_KEY, asked).first() or last
        same = last is not None and last.key == key
        reason = "first run"
        if last is not None:
            old = self._tools.registry.definition(self._tx, self._pipeline, last.version)
            before = old.step(step.name)
            causes = list(differences(before, step)) if before else []
            reason = unchanged_since(last.id) if same else "; ".join(causes) or "its input changed"
        yield PlannedDatum(
            step=step.name,
            action="skip" if same else "run",
            inputs=tuple(f"{one.repo}:{one.glob}" for one in step.inputs if one.kind == "data"),
            reason=reason,
        )


def _inputs(unit: Unit) -> tuple[str, ...]:
    """Files of the inputs that are cut; of the others, which files they take."""
    return tuple(
        place
        for group in unit.groups
        if not group.missing
        for place in (
            [f"{group.input.repo}:{group.input.glob}"]
            if group.input.per == "repo" and not group.place
            else [f"{group.input.repo}:{path}" for path, _ in group.files]
        )
    )
