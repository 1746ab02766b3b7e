"""Datums: a step over trees as units of work, and the key of each.

Values over trees of the store. Knows no rows and runs nothing. See design/0006.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from msgspec import Struct

from clew.base.ids import ALPHABET, ID_LENGTH
from clew.pipelines.combining import Element, Side, changed
from clew.pipelines.cutting import Group, Keep, changed_groups, files_of, groups_of, matching
from clew.pipelines.definitions import InputDefinition, StepDefinition
from clew.store import EMPTY_TREE, Store, digest_of

_SHOWN = 20
"""So many files of a whole repo are named with a datum one by one."""


class Unit(Struct, frozen=True):
    """One datum to be: its key, the stem of its output, and what it reads."""

    key: str
    name: str
    groups: tuple[Group, ...]

    def files(self) -> list[list[str]]:
        """[repo, path, digest] of what counts into the key.

        Many files of an input that is not cut are one: [repo, glob, digest of them all].
        """
        found: list[list[str]] = []
        for group in self.groups:
            if group.input.kind == "data" and len(group.files) > _SHOWN and not group.name:
                found.append([group.input.repo, group.input.glob, group.digest])
            elif group.input.kind == "data":
                found += [[group.input.repo, path, digest] for path, digest in group.files]
        return found

    @property
    def place(self) -> tuple[tuple[str, str], ...]:
        """What tells it from the other datums of its step, whatever is in its files."""
        return tuple((one.input.name, one.place) for one in self.groups if not one.missing)

    def label(self) -> str:
        """How people call it: the files it is cut by, or all of them."""
        there = [group for group in self.groups if not group.missing]
        cut = [group for group in there if group.input.per != "repo" or group.place]
        if not cut:
            return ", ".join(group.input.repo for group in there) or self.name
        paths = [path for group in cut for path in _shown(group)]
        return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _shown(group: Group) -> Iterator[str]:
    """Paths of a group; with the repo where another of the same union may have them too."""
    before = f"{group.input.repo}:" if group.input.slot else ""
    if not group.place:
        yield group.input.repo
    elif group.input.per == "match" and group.directory and group.place.startswith("/"):
        yield f"{before}{group.place.rstrip('/')}/"
    else:
        yield from (before + path for path, _ in group.files)


class Cut(Struct, frozen=True, dict=True):
    """A step over trees: all that the keys of its datums depend on.

    ``trees`` maps names of inputs to digests of trees; there is none where there is no commit.
    ``epoch`` is the id of the job that was last asked to run everything anew, '' before.
    """

    store: Store
    step: StepDefinition
    trees: Mapping[str, str]
    epoch: str = ""

    @cached_property
    def material(self) -> str:
        """Identity of everything but the data."""
        return digest_of("step", {**self.step.key_material(), "epoch": self.epoch})

    def units(self) -> Iterator[Unit]:
        """All datums, in the order of their files."""
        return map(self.unit, self._side.elements(self.step.combined()))

    def count(self) -> int:
        """How many datums there are."""
        return sum(1 for _ in self._side.elements(self.step.combined()))

    def without(self) -> str:
        """Why there is no datum, where there is none: one sentence."""
        bare = {
            f"{one.repo}:{one.glob}": None
            for one in self.step.inputs
            if _counts(one) and not any(True for _ in matching(self.store, one, self.tree(one)))
        }
        if bare:
            return f"No datum: no file matches {' or '.join(bare)}."
        return "No datum: the files of its inputs do not come together."

    def changed_units(self, old: Cut) -> tuple[list[Unit], list[Unit]]:
        """The datums that ``old`` has and this has not, and those that only this has.

        For the same step over other trees.
        """
        step = self.step

        def groups(one: InputDefinition) -> tuple[list[Group], list[Group]]:
            if not _counts(one):
                return [], []
            return changed_groups(self.store, one, old.tree(one), self.tree(one))

        gone, came = changed(step.combined(), old._side, self._side, groups)
        removed = {unit.key: unit for unit in map(old.unit, gone)}
        added = {unit.key: unit for unit in map(self.unit, came)}
        return (
            [unit for key, unit in removed.items() if key not in added],
            [unit for key, unit in added.items() if key not in removed],
        )

    def differs_wholly(self, old: Cut) -> bool:
        """Whether no datum is as it was: an input that all of them read whole has changed.

        For the same step over other trees.
        """
        if self.step.combination is not None:
            return False
        return any(self._whole_differs(old, one) for one in self.step.inputs)

    def unit(self, element: Element) -> Unit:
        """The datum of an element: its groups in the order of the inputs, and those it lacks."""
        groups = element.groups
        if self.step.combination is not None:
            groups = tuple(self._ordered(element.groups))
        own = [
            [group.input.name, group.digest]
            for group in groups
            if group.input.kind == "data" and group.tree
        ]
        # The name of what a combination makes need not follow from its files; else it does.
        told = [own] if self.step.combination is None else [own, element.name]
        key = digest_of("datum", [self.material, *told])
        return Unit(key=key, name=element.name or self.step.name, groups=groups)

    def _ordered(self, some: Sequence[Group]) -> Iterator[Group]:
        """Groups in the order of their inputs; a missing one for a parameter that has none."""
        there = {group.input.name: group for group in some}
        filled = {group.input.parameter for group in some}
        for one in self.step.inputs:
            if one.name in there:
                yield there[one.name]
            elif one.parameter not in filled:
                filled.add(one.parameter)
                yield Group(one, "", "", ())

    def groups(self, one: InputDefinition, keep: Keep | None = None) -> Iterable[Group]:
        """The groups that an input is cut into; only those at wanted places."""
        tree = self.tree(one)
        found = groups_of(self.store, one, tree, keep)
        return found if _counts(one) else list(found) or [Group(one, tree, "", ())]

    def tree(self, one: InputDefinition) -> str:
        """The tree that an input reads."""
        return self.trees.get(one.name, EMPTY_TREE)

    def identity(self) -> str:
        """Identity of everything, taken together: equal if a run would be a repetition."""
        wholes = [
            [one.name, digest_of("files", files_of(matching(self.store, one, self.tree(one))))]
            for one in self.step.inputs
            if _counts(one)
        ]
        return digest_of("run", [self.material, wholes])

    @cached_property
    def _side(self) -> Side:
        return Side(self.step.inputs, self.groups)

    def _whole_differs(self, old: Cut, one: InputDefinition) -> bool:
        """Whether an input that is not cut differs, so that all datums do."""
        if one.per != "repo" or not _counts(one) or old.tree(one) == self.tree(one):
            return False
        if one.glob == "/**":
            return True
        return any(changed_groups(self.store, one, old.tree(one), self.tree(one)))


def datum_id(key: str) -> str:
    """A short id of a datum key, in the alphabet of all ids: its first 80 bits."""
    value = int(key.partition(":")[2][:20], 16)
    return "".join(ALPHABET[value >> shift & 31] for shift in range(75, -1, -5))


def key_range(prefix: str) -> tuple[str, str] | None:
    """The smallest and largest key whose id begins with ``prefix``; None where none can."""
    if not 0 < len(prefix) <= ID_LENGTH or any(letter not in ALPHABET for letter in prefix):
        return None
    value, rest = 0, 80 - 5 * len(prefix)
    for letter in prefix:
        value = value << 5 | ALPHABET.index(letter)
    low, high = value << rest, (value + 1 << rest) - 1
    return f"datum:{low:020x}", f"datum:{high:020x}g"


def _counts(one: InputDefinition) -> bool:
    return one.kind == "data"
