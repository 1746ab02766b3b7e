"""What a job has to do: which datums run, which are known, which are gone, and why.

Reads trees and rows, writes nothing. Costs O(change) where what is left of the last good job is
more than what changed, else O(datums).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import asdict

from clew.base.ids import short
from clew.db import Database, Tx
from clew.pipelines import tables
from clew.pipelines.cutting import Group
from clew.pipelines.datums import Cut, Unit
from clew.pipelines.definitions import InputDefinition, StepDefinition
from clew.pipelines.environment import changed_packages
from clew.pipelines.fingerprint import changed_parts
from clew.store import EMPTY_TREE

T = TypeVar("T")
_AT_ONCE = 500
_HELD = 5000
"""So many changed files are looked at as a difference, however few the others are."""
_CAUSES = 3


class Base(Struct, frozen=True, kw_only=True):
    """The last good job of a step, whose output is the head: what the next one builds on."""

    job: str
    cut: Cut
    total: int
    tree: str
    aside: str
    """Tree of the rows in quarantine."""
    recovered: int = 0
    """Datums that failed in it and recovered: they are not in the tree, and run again."""


class Known(Struct, frozen=True):
    """A datum that was run before: by which job, and the files that it made."""

    unit: Unit
    job: str
    outputs: list[list[Any]]
    aside: list[list[Any]]


Found = tuple[Unit, Known | None, str]
"""A datum whose files are not in the output yet: what it made before, or why it runs."""


class Work(Struct):
    """What a job has to do.

    ``tree`` and ``aside`` are what its output starts from, ``gone`` datums whose files are to be
    taken out of that. ``kept`` counts those whose files are in there. ``found`` tells the others,
    some hundred at a time and once: a list where they are what has changed; where they are all
    (``whole``), they are read from trees and rows as they are asked for, and never all in memory.
    """

    total: int
    tree: str = EMPTY_TREE
    aside: str = EMPTY_TREE
    gone: list[Known] = field(default_factory=list)
    kept: int = 0
    whole: bool = False
    found: Iterable[list[Found]] = ()


def work_of(db: Database, cut: Cut, base: Base | None) -> Work:
    """What there is to do for a step over trees, on top of its last good job."""
    if base is not None and not base.recovered and _same_but_data(base.cut, cut):
        if base.cut.trees == cut.trees:
            return Work(total=base.total, tree=base.tree, aside=base.aside, kept=base.total)
        if not cut.differs_wholly(base.cut) and not _much_differs(cut, base):
            work = _by_difference(db, cut, base)
            if work is not None:
                return work
    found = _all_found(db, cut, Reasons(cut, base))
    return Work(total=cut.count(), whole=True, found=found)


def _same_but_data(old: Cut, new: Cut) -> bool:
    return old.material == new.material and old.step.reads() == new.step.reads()


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


def _all_found(db: Database, cut: Cut, why: Reasons) -> Iterator[list[Found]]:
    """All datums, with the rows as they are when each is reached."""
    for some in chunks(cut.units()):
        with db.read() as tx:  # not held while these run
            found = _found(tx, some, why)
        yield found


def _found(tx: Tx, units: Iterable[Unit], why: Reasons) -> list[Found]:
    return [
        (unit, known, "" if known is not None else why.of(unit))
        for unit, known in known_among(tx, units)
    ]


def _much_differs(cut: Cut, base: Base) -> bool:
    """Whether so many files differ that to hold what has changed would take much memory."""
    limit = max(_HELD, base.total // 2)
    changes = (
        change
        for one in cut.step.inputs
        if one.kind == "data"
        for change in cut.store.diff(base.cut.tree(one), cut.tree(one))
    )
    return next(islice(changes, limit, None), None) is not None


def _by_difference(db: Database, cut: Cut, base: Base) -> Work | None:
    """The work by the difference of trees; None where it is better found anew."""
    removed, added = cut.changed_units(base.cut)
    if 2 * len(removed) > base.total:
        return None
    kept = base.total - len(removed)
    work = Work(total=kept + len(added), tree=base.tree, aside=base.aside, kept=kept)
    with db.read() as tx:
        for _unit, known in known_among(tx, removed):
            if known is None:  # cannot be, unless rows were taken away by hand
                return None
            work.gone.append(known)
        work.found = [_found(tx, added, Reasons(cut, base))]
    return work


# reasons ------------------------------------------------------------------------------------


class Reasons:
    """Why datums of a step run now, compared with the last good job."""

    def __init__(self, cut: Cut, base: Base | None) -> None:
        self._cut = cut
        self._base = base
        self._before: dict[str, dict[str, str]] = {}
        self._all = "first run" if base is None else _causes(base.cut, cut)

    def of(self, unit: Unit) -> str:
        """The reason for one datum, in a few words."""
        if self._all or self._base is None:
            return self._all
        there = [group for group in unit.groups if not group.missing]
        cut = [group for group in there if group.input.per != "repo" or group.place]
        wide = [group for group in there if group not in cut and group.input.kind == "data"]
        changed = list(dict.fromkeys(g.input.repo for g in wide if self._differs(g)))
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
        """Whether a group holds other files than before."""
        assert self._base is not None
        store, tree = self._base.cut.store, self._base.cut.tree(group.input)
        if tree == group.tree:
            return False
        if not group.directory and len(group.files) == 1:
            entry = store.get(tree, group.files[0][0])
            return entry is None or entry.digest != group.files[0][1]
        before = self._olds(group.input).get(group.place)
        return before is None or before != group.digest

    def _olds(self, one: InputDefinition) -> dict[str, str]:
        """Digests of the groups of an input as they were, by place; found once."""
        assert self._base is not None
        if one.name not in self._before:
            groups = self._base.cut.groups(one)
            self._before[one.name] = {group.place: group.digest for group in groups}
        return self._before[one.name]

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
    if old.command != new.command:
        yield f"command changed: {_fields(old.command, new.command)}"
    if old.runtime.key_material() != new.runtime.key_material():
        yield f"what it runs in changed: {_fields(old.runtime, new.runtime)}"
    if old.parameters != new.parameters:
        yield f"parameters changed: {_names(old.parameters, new.parameters)}"
    for name in changed_parts(old.depends, new.depends):
        yield f"what it depends on changed: {name}"
    if old.environment_key != new.environment_key:
        changes = changed_packages(old.packages, new.packages)
        yield f"environment changed: {', '.join(changes) or 'unknown'}"
    if old.expectations != new.expectations:
        yield "expectations changed"
    if old.options != new.options:
        yield f"options changed: {_names(old.options, new.options)}"
    if old.reads() != new.reads():
        yield "inputs changed"


def _fields(old: Struct | None, new: Struct | None) -> str:
    """Names of the fields of two records that differ."""
    return _names(asdict(old), asdict(new)) if old and new else "it is one, or is one no more"


def unchanged_since(job: str) -> str:
    """Why a datum was skipped."""
    return f"unchanged since job {short(job)}"


def _names(old: dict[str, Any], new: dict[str, Any]) -> str:
    return ", ".join(sorted(name for name in old | new if old.get(name) != new.get(name)))
