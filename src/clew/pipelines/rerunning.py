"""Datums run once more, to see whether they give what they gave: nothing of it is kept.

Knows how a job runs its datums; writes no rows. What workers put into the store is named by nothing
and goes with the next collection of garbage.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from clew.pipelines import tables
from clew.pipelines.batches import Batches, Item
from clew.pipelines.datums import Cut, Unit, datum_id
from clew.pipelines.definitions import StepDefinition
from clew.pipelines.pinning import Tools, cut_of
from clew.pipelines.running import place_of
from clew.pipelines.signals import Signals
from clew.pipelines.work import Known, known_among
from clew.pipelines.worker import Report
from clew.store import EMPTY_TREE, Entry

Outputs = dict[str, tuple[str, int]]
"""Digest and bytes by path."""


class Again(Struct, frozen=True, kw_only=True):
    """A datum, what it gave when it ran once more, and what it had given."""

    unit: Unit
    job: str
    state: str
    error: str
    old: Outputs
    new: Outputs
    undeclared: tuple[tuple[str, str, str], ...]

    @property
    def id(self) -> str:
        """How people call the datum."""
        return datum_id(self.unit.key)


class Sample(Struct, frozen=True, kw_only=True):
    """Datums of a step that are known, drawn from all of them."""

    row: Any
    cut: Cut
    known: int
    chosen: tuple[Known, ...]


def sample_of(tools: Tools, pipeline: str, step: str, size: int, seed: int) -> Sample | None:
    """Some datums whose results are in the output of a step; None where it has no good job.

    The same seed draws the same datums, as long as the output is the same.
    """
    name = {"pipeline": pipeline, "step": step}
    with tools.db.read() as tx:
        row = tx.execute(tables.LAST_DONE, name).first()
        now = tools.registry.graph(tx).step((pipeline, step))
    cut = cut_of(tools, row) if row is not None and row.kind == "step" else None
    if cut is None:
        return None
    if now is not None and replace(now, inputs=()).key_material() == _plain(cut.step):
        cut = Cut(tools.store, now, cut.trees, cut.epoch)  # by the code of now: it is to be trusted
    count, drawn = 0, list[Unit]()
    dice = random.Random(f"{seed} {pipeline} {step}")  # noqa: S311 - a sample, not a secret
    for count, unit in enumerate(cut.units(), 1):
        if len(drawn) < size:
            drawn.append(unit)
        elif (place := dice.randrange(count)) < size:
            drawn[place] = unit
    with tools.db.read() as tx:
        chosen = tuple(known for _, known in known_among(tx, drawn) if known is not None)
    return Sample(row=row, cut=cut, known=count, chosen=chosen)


def _plain(step: StepDefinition) -> dict[str, Any]:
    return replace(step, inputs=()).key_material()


def run_again(tools: Tools, row: Any, cut: Cut, known: Sequence[Known]) -> Iterator[Again]:
    """Each of these datums, run once more with the code of ``cut``.

    Raises:
        Broken: where none can run: the code cannot be imported any more.
    """
    olds = {one.unit.key: one for one in known}
    for unit, report in _run(tools, row, cut.step, [one.unit for one in known]):
        old = olds[unit.key]
        yield Again(
            unit=unit,
            job=old.job,
            state=report.state,
            error=report.error,
            old=_outputs([*old.outputs, *old.aside]),
            new=_outputs([*report.outputs, *report.aside]),
            undeclared=tuple(tuple(one) for one in report.evidence.get("undeclared", ())),
        )


class Repeated(Struct, frozen=True, kw_only=True):
    """A whole job that ran once more: its tree, and what went wrong."""

    tree: str
    datums: int
    errors: tuple[str, ...]
    undeclared: tuple[tuple[str, str, str], ...]


def repeat(tools: Tools, row: Any, cut: Cut) -> Repeated:
    """All datums of a job once more, with the code of then."""
    entries, errors, reads, count = list[Entry](), list[str](), dict[Any, None](), 0
    with tools.store.writer() as writer:
        for unit, report in _run(tools, row, cut.step, list(cut.units())):
            count += 1
            reads |= dict.fromkeys(tuple(one) for one in report.evidence.get("undeclared", ()))
            if report.state == "done":
                entries += [
                    Entry(path=path, digest=digest, size_bytes=size)
                    for path, digest, size in report.outputs
                ]
            elif report.state != "recovered":
                errors.append(f"{unit.label()}: {report.error}")
        tree = writer.tree(EMPTY_TREE, entries)
    return Repeated(tree=tree, datums=count, errors=tuple(errors), undeclared=tuple(reads))


def _run(
    tools: Tools, row: Any, step: StepDefinition, units: list[Unit]
) -> list[tuple[Unit, Report]]:
    """Unit and report of each; small outputs are in the store when this returns."""
    found = list[tuple[Unit, Report]]()
    with tools.store.lease(), tools.store.writer() as writer:
        place = place_of(tools, row, step, Signals(), writer.put)
        items = [Item(unit, "run again") for unit in units]
        for results in Batches(place).run(iter([items]), len(items)):
            found += [(result.item.unit, result.report) for result in results]
    return found


def _outputs(files: Sequence[Sequence[Any]]) -> Outputs:
    return {str(path): (str(digest), int(size)) for path, digest, size in files}
