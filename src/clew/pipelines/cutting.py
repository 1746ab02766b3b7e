"""How the files of one input are cut into groups, and the key by which groups meet in a join.

Values over a tree of the store. Knows nothing of several inputs and of datums. See design/0019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache

from msgspec import Struct

from clew.pipelines.definitions import InputDefinition
from clew.repos import Glob, glob_match
from clew.store import Entry, Store, digest_of

_COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst", ".lz4"})

BETWEEN = "\0"
"""Between the captures of a place or a key, as :meth:`clew.repos.Glob.fill` sets it."""

File = tuple[str, str]
"""Path and digest."""


class Keep(Struct, frozen=True):
    """Which groups of an input are wanted: by their places, which is asked only of files whose path
    is ``likely``.
    """

    wanted: Callable[[str], bool]
    likely: Callable[[str], object] = bool


class Group(Struct, frozen=True, dict=True):
    """The files that one parameter gets in one datum.

    ``name`` is what outputs are called after, '' for a whole repo. ``place`` tells the groups of an
    input apart, whatever is in them: a path, captures or a key. ``directory``: it may hold more
    than one file. An input that has no part in a datum has a group without tree: ``missing``.
    """

    input: InputDefinition
    tree: str
    name: str
    files: tuple[File, ...]
    place: str = ""
    directory: bool = False

    @cached_property
    def digest(self) -> str:
        """Identity of paths and contents."""
        return digest_of("files", self.files)

    @property
    def missing(self) -> bool:
        """Whether its input has no part in the datum."""
        return not self.tree


class Cutter:
    """Says for a path which group of an input it belongs to: by the path alone, whatever else
    is in the tree. So a difference of trees tells which groups may differ.
    """

    def __init__(self, one: InputDefinition) -> None:
        self._per = one.per
        self._all = one.glob == "/**" and one.per != "match"
        self._files = not one.glob.endswith("/")
        self._directories = "**" not in one.glob.rpartition("/")[2]
        self._known: dict[str, str | None] = {"": "/" if _is_root(one) else None}
        self.glob = _glob(one)

    def place(self, path: str) -> str | None:
        """The group that the file at ``path`` belongs to; None where the input does not mean it."""
        if self._per == "match":
            return self._match(path)
        captures = () if self._all else self.glob.match(path)
        if captures is None:
            return None
        if self._per == "file":
            return path
        if self._per == "directory":
            return path.rpartition("/")[0] or "/"
        return BETWEEN.join(captures) if self._per == "capture" else ""

    def _match(self, path: str) -> str | None:
        above = self._above(path.rpartition("/")[0])
        if above is not None:
            return above
        return path if self._files and self.glob.match(path) is not None else None

    def _above(self, directory: str) -> str | None:
        """The outermost directory at or above ``directory`` that the glob matches."""
        if not self._directories:
            return None
        if directory not in self._known:
            found = self._above(directory.rpartition("/")[0])
            if found is None and self.glob.match(directory) is not None:
                found = directory
            self._known[directory] = found
        return self._known[directory]


def key_of(one: InputDefinition, place: str, template: str) -> str:
    """What a group is joined or grouped by, given its place.

    Raises:
        Invalid: ``glob.capture`` where ``template`` names a capture that is not there.
    """
    return keys_of(one, template)(place)


@lru_cache(maxsize=64)
def keys_of(one: InputDefinition, template: str) -> Callable[[str], str]:
    """What makes keys of places. Raises as :func:`key_of` does."""
    glob = _glob(one)
    if one.per == "capture":
        return lambda place: glob.fill(template, place.split(BETWEEN))
    if not glob.groups or _is_root(one):
        return lambda _: glob.fill(template, ())
    if not template and glob.groups == 1:
        return lambda place: (glob.match(place) or ("",))[0]
    return lambda place: glob.fill(template, glob.match(place) or [""] * glob.groups)


def matching(store: Store, one: InputDefinition, tree: str) -> Iterator[Entry]:
    """The files of a tree that an input means, by path."""
    if one.glob == "/**":
        return store.entries(tree)
    cutter = Cutter(one)
    found = store.entries(tree, cutter.glob.directory)
    return (entry for entry in found if cutter.place(entry.path) is not None)


def groups_of(
    store: Store, one: InputDefinition, tree: str, keep: Keep | None = None
) -> Iterator[Group]:
    """The groups of an input in a tree: by path, or by place where one has several files."""
    cutter = Cutter(one)
    entries = store.entries(tree, cutter.glob.directory)
    if keep is not None:
        entries = (entry for entry in entries if keep.likely(entry.path))
    if one.per == "file":
        for entry in entries:
            if cutter.place(entry.path) is not None and (keep is None or keep.wanted(entry.path)):
                yield single(one, tree, entry)
        return
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        place = cutter.place(entry.path)
        if place is not None and (keep is None or place in found or keep.wanted(place)):
            found.setdefault(place, []).append(entry)
    for place in sorted(found):
        yield _group(one, tree, place, found[place])


def changed_groups(
    store: Store, one: InputDefinition, old: str, new: str
) -> tuple[list[Group], list[Group]]:
    """The groups of an input that a tree has no more, and those that it has now, as they differ.

    Costs O(difference) and the size of the groups; for captures and whole repos that of the tree.
    """
    if old == new:
        return [], []
    cutter = Cutter(one)
    changes = [
        (place, change)
        for change in store.diff(old, new, cutter.glob.directory)
        if (place := cutter.place(change.path)) is not None
    ]
    if one.per == "file":
        return (
            [single(one, old, change.old) for _, change in changes if change.old is not None],
            [single(one, new, change.new) for _, change in changes if change.new is not None],
        )
    places = {place for place, _ in changes}
    before = {group.place: group for group in _groups_at(store, one, old, places, cutter)}
    after = {group.place: group for group in _groups_at(store, one, new, places, cutter)}
    same = {at for at in before.keys() & after.keys() if before[at].digest == after[at].digest}
    return (
        [group for at, group in before.items() if at not in same],
        [group for at, group in after.items() if at not in same],
    )


def single(one: InputDefinition, tree: str, entry: Entry) -> Group:
    """The group of one file."""
    return Group(one, tree, _stem(entry.path), ((entry.path, entry.digest),), entry.path)


def files_of(entries: Iterable[Entry]) -> tuple[File, ...]:
    """Path and digest of each."""
    return tuple((entry.path, entry.digest) for entry in entries)


def readable(captures: Sequence[str]) -> str:
    """A name made of captures: no two lists of them have the same."""
    if len(captures) == 1:
        return captures[0].replace("/", "-")
    if any(not part or "-" in part or "/" in part for part in captures):
        return "/".join(part.replace("%", "%25").replace("/", "%2F") or "%" for part in captures)
    return "-".join(captures)


def _glob(one: InputDefinition) -> Glob:
    """What matches the files of an input, or the files and directories where it is cut by them."""
    if one.per == "match":
        return glob_match(one.glob.rstrip("/") or "/")
    return glob_match(one.glob)


def _is_root(one: InputDefinition) -> bool:
    return one.per == "match" and not one.glob.rstrip("/")


def _groups_at(
    store: Store, one: InputDefinition, tree: str, places: set[str], cutter: Cutter
) -> Iterator[Group]:
    if one.per not in {"match", "directory"}:
        yield from groups_of(store, one, tree, Keep(places.__contains__))
        return
    for place in sorted(places):
        if one.per == "match":
            entries = list(store.entries(tree, place))
        else:
            found = [entry for _, entry, _ in store.children(tree, place) if entry is not None]
            entries = [entry for entry in found if cutter.place(entry.path) is not None]
        if entries:
            yield _group(one, tree, place, entries)


def _group(one: InputDefinition, tree: str, place: str, entries: list[Entry]) -> Group:
    if one.per == "match" and entries[0].path == place:
        return single(one, tree, entries[0])
    name = readable(place.split(BETWEEN)) if one.per == "capture" else place.strip("/")
    return Group(one, tree, name, files_of(entries), place, one.per != "capture")


def _stem(path: str) -> str:
    """``/2013/07.csv.gz`` → ``2013/07``: without slash, suffix and compression."""
    directory, _, name = path.rpartition("/")
    stem, suffix = _split(name)
    if suffix in _COMPRESSED:
        stem, _ = _split(stem)
    return f"{directory}/{stem}".lstrip("/")


def _split(name: str) -> tuple[str, str]:
    """A name without its suffix, and the suffix; ``.profile`` has none."""
    stem, _, suffix = name.rpartition(".")
    return (stem, f".{suffix}") if stem and suffix else (name, "")
