"""What a job has to do: which datums run, which are known, which are gone, and why.

Reads trees and rows, writes nothing. Costs O(change) where only files of one cut input differ from
the last good job, else O(datums).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from clew.base.ids import short
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.datums import Cut, Group, Unit, cut_input, single
from clew.pipelines.definitions import InputDefinition, StepDefinition
from clew.pipelines.environment import changed_packages
from clew.pipelines.fingerprint import changed_parts
from clew.repos import glob_match
from clew.store import EMPTY_TREE, Entry

T = TypeVar("T")
_AT_ONCE = 500
_CAUSES = 3


@dataclass(frozen=True, kw_only=True)
class Base:
    """The last good job of a step, whose output is the head: what the next one builds on."""

    job: str
    cut: Cut
    total: int
    tree: str
    aside: str
    """Tree of the rows in quarantine."""


@dataclass(frozen=True)
class Known:
    """A datum that was run before: by which job, and the files that it made."""

    unit: Unit
    job: str
    outputs: list[list[Any]]
    aside: list[list[Any]]


@dataclass
class Work:
    """What a job has to do.

    ``tree`` and ``aside`` are what its output starts from; ``known`` are datums whose outputs are
    not in there yet, ``gone`` those whose outputs are to be taken out. ``kept`` counts the known
    ones that are in there. A datum of ``todo`` goes with the reason why it runs.
    """

    tree: str = EMPTY_TREE
    aside: str = EMPTY_TREE
    todo: list[tuple[Unit, str]] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)
    kept: int = 0

    @property
    def total(self) -> int:
        """How many datums the job has."""
        return self.kept + len(self.known) + len(self.todo)


def work_of(tx: Tx, cut: Cut, base: Base | None) -> Work:
    """What there is to do for a step over trees, on top of its last good job."""
    if base is not None and _same_but_data(base.cut, cut):
        if base.cut.trees == cut.trees:
            return Work(tree=base.tree, aside=base.aside, kept=base.total)
        work = _by_difference(tx, cut, base)
        if work is not None:
            return work
    return _whole(tx, cut, base)


def _same_but_data(old: Cut, new: Cut) -> bool:
    return old.material == new.material and _reads(old.step) == _reads(new.step)


def known_among(tx: Tx, units: Iterable[Unit]) -> Iterator[tuple[Unit, Known | None]]:
    """Each unit with its row, where it was done before."""
    for some in chunks(units):
        rows = tx.execute(tables.DONE_AMONG, {"keys": [unit.key for unit in some]})
        found = {row.key: row for row in rows}
        for unit in some:
            row = found.get(unit.key)
            yield unit, Known(unit, row.job, row.outputs, row.aside) if row else None


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """At most 500 at a time."""
    rest = iter(items)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


# whole and difference -----------------------------------------------------------------------


def _whole(tx: Tx, cut: Cut, base: Base | None) -> Work:
    work, why = Work(), Reasons(cut, base)
    for unit, known in known_among(tx, cut.units()):
        if known is None:
            work.todo.append((unit, why.of(unit)))
        else:
            work.known.append(known)
    return work


def _by_difference(tx: Tx, cut: Cut, base: Base) -> Work | None:
    """The work by the difference of one cut input; None where more than that differs."""
    one = cut_input(cut.step)
    if one is None:
        return None
    others = _same_wholes(cut, base, one)
    if others is None:
        return None
    removed, added = _changed_units(cut, base, one, others)
    work, why = (
        Work(tree=base.tree, aside=base.aside, kept=base.total - len(removed)),
        Reasons(cut, base),
    )
    for _unit, known in known_among(tx, removed):
        if known is None:  # cannot be, unless rows were taken away by hand
            return None
        work.gone.append(known)
    for unit, known in known_among(tx, added):
        if known is None:
            work.todo.append((unit, why.of(unit)))
        else:
            work.known.append(known)
    return work


def _same_wholes(cut: Cut, base: Base, one: InputDefinition) -> dict[str, Group] | None:
    """Groups of the inputs that are not cut, where they are as they were; else None."""
    found: dict[str, Group] = {}
    for other in cut.step.inputs:
        if other is one:
            continue
        now = cut.whole(other) or Group(other, cut.tree(other), "", ())
        if other.kind == "data":
            same_tree = cut.tree(other) == base.cut.tree(other)
            before = now if same_tree else base.cut.whole(other)
            if before is None or before.digest != now.digest or not now.files:
                return None
        found[other.parameter] = now
    return found


def _changed_units(
    cut: Cut, base: Base, one: InputDefinition, others: dict[str, Group]
) -> tuple[list[Unit], list[Unit]]:
    glob = glob_match(one.glob)
    old, new = base.cut.tree(one), cut.tree(one)

    def unit(entry: Entry) -> Unit:
        group = single(one, new, entry)
        return cut.unit([group if i is one else others[i.parameter] for i in cut.step.inputs])

    removed, added = list[Unit](), list[Unit]()
    for change in cut.store.diff(old, new, glob.directory):
        if glob.match(change.path) is None:
            continue
        if change.old is not None:
            removed.append(unit(change.old))
        if change.new is not None:
            added.append(unit(change.new))
    return removed, added


# reasons ------------------------------------------------------------------------------------


class Reasons:
    """Why datums of a step run now, compared with the last good job."""

    def __init__(self, cut: Cut, base: Base | None) -> None:
        self._cut = cut
        self._base = base
        self._all = "first run" if base is None else _causes(base.cut, cut)

    def of(self, unit: Unit) -> str:
        """The reason for one datum, in a few words."""
        if self._all or self._base is None:
            return self._all
        cut = [group for group in unit.groups if group.input.per != "repo"]
        wide = [group for group in unit.groups if group.input.per == "repo"]
        changed = [g.input.repo for g in wide if g.input.kind == "data" and self._differs(g)]
        if changed:
            return f"{' and '.join(changed)} changed"
        news = [group for group in cut if not self._was_there(group)]
        if news:
            return "new file" if len(news[0].files) == 1 else "new files"
        if any(self._differs(group) for group in cut):
            return (
                "file changed" if all(len(group.files) == 1 for group in cut) else "files changed"
            )
        return "not done yet"

    def _differs(self, group: Group) -> bool:
        assert self._base is not None
        store, tree = self._base.cut.store, self._base.cut.tree(group.input)
        if tree == group.tree:
            return False
        if group.input.per == "file":
            entry = store.get(tree, group.files[0][0])
            return entry is None or entry.digest != group.files[0][1]
        olds = self._base.cut.groups(group.input)
        before = next((old for old in olds if old.name == group.name), None)
        return before is None or before.digest != group.digest

    def _was_there(self, group: Group) -> bool:
        """Whether any file of a group was in the tree before."""
        assert self._base is not None
        store, tree = self._base.cut.store, self._base.cut.tree(group.input)
        return any(store.get(tree, path) is not None for path, _ in group.files)


def _causes(old: Cut, new: Cut) -> str:
    found = list(differences(old.step, new.step))
    if new.epoch != old.epoch:
        found.append("a new run was asked for")
    more = f" and {len(found) - _CAUSES} more" if len(found) > _CAUSES else ""
    return "; ".join(found[:_CAUSES]) + more


def differences(old: StepDefinition, new: StepDefinition) -> Iterator[str]:
    """What differs between two definitions of a step that makes results differ, in words."""
    if old.version != new.version:
        yield f"version changed: {old.version or 'none'} → {new.version or 'none'}"
    elif old.code_key != new.code_key:
        parts = changed_parts(old.parts, new.parts)
        yield from (f"code changed: {part}" for part in parts)
        if not parts:
            yield "code changed"
    if old.parameters != new.parameters:
        yield f"parameters changed: {_names(old.parameters, new.parameters)}"
    if old.environment != new.environment:
        changes = changed_packages(old.packages, new.packages)
        yield f"environment changed: {', '.join(changes) or 'unknown'}"
    if old.expectations != new.expectations:
        yield "expectations changed"
    if old.options != new.options:
        yield f"options changed: {_names(old.options, new.options)}"
    if _reads(old) != _reads(new):
        yield "inputs changed"


def unchanged_since(job: str) -> str:
    """Why a datum was skipped."""
    return f"unchanged since job {short(job)}"


def _names(old: dict[str, Any], new: dict[str, Any]) -> str:
    return ", ".join(sorted(name for name in old | new if old.get(name) != new.get(name)))


def _reads(step: StepDefinition) -> Sequence[tuple[str, ...]]:
    return [(i.parameter, i.repo, i.branch, i.glob, i.per, i.kind) for i in step.inputs]
