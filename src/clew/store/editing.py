"""A new tree from an old one and what changes: O(change x log n) nodes are read and written.

Knows nodes through functions that load and save them; knows nothing of where they are kept.

Each level of the tree is a sequence of lines cut into nodes. Edits to one level (line by name)
re-cut the nodes that they touch, until a cut falls on an old cut again; the nodes that went and
came are the edits to the level above.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence

from clew.base.errors import Conflict, Invalid
from clew.store.nodes import EMPTY_TREE, TREE, Item, Load, Node, NodeCutter, item_of
from clew.store.reading import entries
from clew.store.records import Entry

Save = Callable[[int, Sequence[Item]], bytes]
"""Keeps a node of a level; gives its key."""

_Edits = dict[str, Item | None]
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f\x7f-\x9f\ud800-\udfff]+)+")


def edit(load: Load, save: Save, base: str, puts: Iterable[Entry], deletes: Iterable[str]) -> str:
    """The root of ``base`` without ``deletes`` (files, or directories whole) and with ``puts``.

    Deletes come first; what is not there is deleted without complaint; of two puts at one path
    the later counts. Equal content has an equal root, whatever the edits that led to it.

    Raises:
        Conflict: ``tree.file_and_directory``.
        Invalid: ``path.invalid``, ``tree.entry``.
    """
    edits: _Edits = {}
    for path in deletes:
        edits.update((entry.path, None) for entry in entries(load, base, _plain(path), ""))
    added = {_plain(entry.path): item_of(entry) for entry in puts}
    edits.update(added)
    if not edits:
        return base
    _check_kinds(load, base, added, edits)
    return _rewrite(load, save, base, edits)


def _rewrite(load: Load, save: Save, base: str, edits: _Edits) -> str:
    root = load(base)
    for level in range(root.level + 1):
        top = level == root.level
        edits = _rewrite_level(_Cursor(load, base, level), save, level, edits, top=top)
        if not edits:
            return base
    level = root.level
    items = [edits[name] for name in sorted(edits)]
    lines = [item for item in items if item is not None]
    while len(lines) > 1:
        level += 1
        cutter = NodeCutter(level)
        nodes = [*cutter.feed(lines), *cutter.close()]
        lines = [_line(node, save(level, node)) for node in nodes]
    return _lowest(load, lines[0].key) if lines else EMPTY_TREE


def _lowest(load: Load, key: bytes) -> str:
    """The root without nodes above it that hold one line alone."""
    node = load(f"{TREE}:{key.hex()}")
    while node.level and len(node) == 1:
        key = node.key(0)
        node = load(f"{TREE}:{key.hex()}")
    return f"{TREE}:{key.hex()}"


def _rewrite_level(cursor: _Cursor, save: Save, level: int, edits: _Edits, *, top: bool) -> _Edits:
    """What changes in the level above; of the top all, for nothing above it names what stays."""
    names = sorted(edits)
    gone: dict[str, bytes] = {}
    come: dict[str, Item] = {}
    at = 0
    while at < len(names):
        node: Node | None = cursor.seek(names[at])
        cutter = NodeCutter(level)
        while node is not None:
            if len(node):
                gone[node.names[-1]] = cursor.key
            stop = len(names) if cursor.is_last else bisect_right(names, node.names[-1], at)
            for lines in cutter.feed(_merged(node, names[at:stop], edits)):
                come[lines[-1].name] = _line(lines, save(level, lines))
            at = stop
            if cutter.at_boundary:
                break
            node = cursor.next()
        for lines in cutter.close():
            come[lines[-1].name] = _line(lines, save(level, lines))
    above: _Edits = {name: None for name in gone if name not in come}
    above.update((name, item) for name, item in come.items() if top or gone.get(name) != item.key)
    return above


def _merged(node: Node, names: Sequence[str], edits: _Edits) -> list[Item]:
    """The lines of a node after the edits that fall into it."""
    lines = {item.name: item for item in node.items()}
    ordered = not names or not lines or names[0] > node.names[-1]
    for name in names:
        item = edits[name]
        if item is None:
            lines.pop(name, None)
        else:
            lines[name] = item
    return list(lines.values()) if ordered else [lines[name] for name in sorted(lines)]


def _line(lines: Sequence[Item], key: bytes) -> Item:
    return Item(
        lines[-1].name,
        key,
        0,
        sum([line.files for line in lines]),
        sum([line.size_bytes for line in lines]),
    )


class _Cursor:
    """Walks the nodes of one level of a tree from left to right."""

    def __init__(self, load: Load, tree: str, level: int) -> None:
        self._load = load
        self._root = tree
        self._level = level
        self._path: list[tuple[Node, int]] = []
        self.key = b""

    def seek(self, name: str) -> Node:
        """The node that holds ``name`` or would; the last one where it lies behind all."""
        self._path = []
        return self._descend(self._root, lambda node: min(node.place(name), len(node) - 1))

    def next(self) -> Node | None:
        """The node to the right, or None."""
        while self._path:
            node, at = self._path.pop()
            if at + 1 < len(node):
                self._path.append((node, at + 1))
                return self._descend(f"{TREE}:{node.key(at + 1).hex()}", lambda _: 0)
        return None

    @property
    def is_last(self) -> bool:
        """Whether there is nothing to the right."""
        return all(at + 1 == len(node) for node, at in self._path)

    def _descend(self, tree: str, choose: Callable[[Node], int]) -> Node:
        node = self._load(tree)
        while node.level > self._level:
            at = choose(node)
            self._path.append((node, at))
            tree = f"{TREE}:{node.key(at).hex()}"
            node = self._load(tree)
        self.key = bytes.fromhex(tree.partition(":")[2])
        return node


def _check_kinds(load: Load, base: str, added: Mapping[str, Item], edits: _Edits) -> None:
    directories = _directories(added)
    for path in directories & added.keys():
        raise _file_and_directory(path)
    if base == EMPTY_TREE or not added:
        return
    lookup = _Lookup(load, base)
    for path in sorted(directories):
        if lookup.first(path) == path and edits.get(path, path) is not None:
            raise _file_and_directory(path)
    for path in sorted(added):
        if lookup.first(path) != path and _remains(load, base, lookup, path + "/", edits):
            raise _file_and_directory(path)


def _remains(load: Load, base: str, lookup: _Lookup, directory: str, edits: _Edits) -> bool:
    """Whether a file below ``directory`` (with its slash) stays."""
    first = lookup.first(directory)
    if first is None or not first.startswith(directory):
        return False
    below = entries(load, base, directory[:-1], "")
    return any(edits.get(entry.path, entry) is not None for entry in below)


def _directories(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return found


class _Lookup:
    """Asks a tree for many paths in order, and stays in a leaf as long as they lie in it."""

    def __init__(self, load: Load, tree: str) -> None:
        self._cursor = _Cursor(load, tree, 0)
        self._leaf = self._cursor.seek("")

    def first(self, path: str) -> str | None:
        """The first path of the tree that is not before ``path``. Paths asked must not fall."""
        names = self._leaf.names
        if path < names[0] or path > names[-1]:
            self._leaf = self._cursor.seek(path)
            names = self._leaf.names
        at = self._leaf.place(path)
        return names[at] if at < len(names) else None


def _plain(path: str) -> str:
    if path == "/" or _PATH.fullmatch(path):
        return path
    raise Invalid(
        "path.invalid",
        f"{path!r} is not the normal path of a file in a tree.",
        hint="Normalise it with clew.base.address.normal_path first.",
    )


def _file_and_directory(path: str) -> Conflict:
    return Conflict(
        "tree.file_and_directory",
        f"{path!r} would be both a file and a directory.",
        hint="Delete one of the two in the same commit, or choose another path.",
    )
