"""Datums: how the files of inputs are cut into units of work, and the key of each.

Values over trees of the store. Knows no rows and runs nothing. See design/0006.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import PurePosixPath

from clew.base.ids import ALPHABET, ID_LENGTH
from clew.pipelines.definitions import InputDefinition, StepDefinition
from clew.repos import Glob, glob_match
from clew.store import EMPTY_TREE, Entry, Store, digest_of

_COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst", ".lz4"})

_SHOWN = 20
"""So many files of a whole repo are named with a datum one by one."""

File = tuple[str, str]
"""Path and digest."""


@dataclass(frozen=True)
class Group:
    """The files that one parameter gets in one datum. ``name`` is '' for the whole repo."""

    input: InputDefinition
    tree: str
    name: str
    files: tuple[File, ...]

    @cached_property
    def digest(self) -> str:
        """Identity of paths and contents."""
        return digest_of("files", self.files)


@dataclass(frozen=True)
class Unit:
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

    def label(self) -> str:
        """How people call it: the files it is cut by, or all of them."""
        cut = [group for group in self.groups if group.input.per != "repo"]
        paths = [path for group in cut for path, _ in group.files]
        if not cut:
            return ", ".join(group.input.repo for group in self.groups) or self.name
        return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


@dataclass(frozen=True)
class Cut:
    """A step over trees: all that the keys of its datums depend on.

    ``trees`` maps each parameter to the digest of a tree (EMPTY_TREE where there is no commit).
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
        """All datums, in the order of their files. None where a data input has no files."""
        parts = [list(self.groups(one)) for one in self.step.inputs]
        if any(not part and one.kind == "data" for part, one in self._with_inputs(parts)):
            return
        filled = [
            part or [Group(one, self.tree(one), "", ())] for part, one in self._with_inputs(parts)
        ]
        for groups in product(*filled):
            yield self.unit(groups)

    def unit(self, groups: Sequence[Group]) -> Unit:
        """The datum that reads these groups, one for each input in their order."""
        names = [group.name for group in groups if group.name]
        own = [[group.input.parameter, group.digest] for group in groups if _counts(group.input)]
        key = digest_of("datum", [self.material, own])
        return Unit(key=key, name="+".join(names) or self.step.name, groups=tuple(groups))

    def groups(self, one: InputDefinition) -> Iterator[Group]:
        """The groups that an input is cut into, in the order of their files."""
        tree = self.tree(one)
        return groups_of(one, tree, matching(self.store, one, tree))

    def tree(self, one: InputDefinition) -> str:
        """The tree that an input reads."""
        return self.trees.get(one.parameter, EMPTY_TREE)

    def whole(self, one: InputDefinition) -> Group | None:
        """All files of an input that is not cut; None where there are none."""
        return next(iter(self.groups(one)), None)

    def identity(self) -> str:
        """Identity of everything, taken together: equal if a run would be a repetition."""
        wholes = [
            [one.parameter, digest_of("files", _files(matching(self.store, one, self.tree(one))))]
            for one in self.step.inputs
            if _counts(one)
        ]
        return digest_of("run", [self.material, wholes])

    def _with_inputs(
        self, parts: list[list[Group]]
    ) -> Iterator[tuple[list[Group], InputDefinition]]:
        return zip(parts, self.step.inputs, strict=True)


def cut_input(step: StepDefinition) -> InputDefinition | None:
    """The one input whose single files are datums, if the step's keys differ by it alone."""
    cut = [one for one in step.inputs if one.per != "repo"]
    if len(cut) == 1 and cut[0].per == "file" and cut[0].kind == "data":
        return cut[0]
    return None


def matching(store: Store, one: InputDefinition, tree: str) -> Iterator[Entry]:
    """The files of a tree that an input means, by path."""
    glob = glob_match(one.glob)
    if one.glob == "/**":
        return store.entries(tree)
    return (entry for entry in _below(store, tree, glob) if glob.match(entry.path) is not None)


def groups_of(one: InputDefinition, tree: str, entries: Iterable[Entry]) -> Iterator[Group]:
    """Entries cut as the input says."""
    if one.per == "file":
        return (single(one, tree, entry) for entry in entries)
    files = list(entries)
    if one.per == "repo":
        return iter([Group(one, tree, "", _files(files))] if files else [])
    found: dict[str, list[Entry]] = {}
    name = _directory if one.per == "directory" else _captures(one)
    for entry in files:
        found.setdefault(name(entry.path), []).append(entry)
    return (Group(one, tree, key, _files(found[key])) for key in sorted(found))


def single(one: InputDefinition, tree: str, entry: Entry) -> Group:
    """The group of one file."""
    return Group(one, tree, _stem(entry.path), ((entry.path, entry.digest),))


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


def _files(entries: Iterable[Entry]) -> tuple[File, ...]:
    return tuple((entry.path, entry.digest) for entry in entries)


def _below(store: Store, tree: str, glob: Glob) -> Iterator[Entry]:
    return store.entries(tree, glob.directory)


def _stem(path: str) -> str:
    """``/2013/07.csv.gz`` → ``2013/07``: without slash, suffix and compression."""
    pure = PurePosixPath(path)
    if pure.suffix in _COMPRESSED:
        pure = pure.with_suffix("")
    return str(pure.with_suffix("")).lstrip("/")


def _directory(path: str) -> str:
    return str(PurePosixPath(path).parent).lstrip("/")


def _captures(one: InputDefinition) -> Callable[[str], str]:
    glob = glob_match(one.glob)

    def name(path: str) -> str:
        return "-".join(part.replace("/", "-") for part in glob.match(path) or () if part)

    return name
