"""Questions to a tree: one file, a directory, a range, a difference, a sum.

Knows nodes through a function that loads them; knows nothing of where they are kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from clew.base.errors import Invalid
from clew.store.digests import split
from clew.store.nodes import TREE, Load, Node
from clew.store.records import Entry, TreeChange, TreeSummary

_AFTER_SLASH = "0"  # the character that follows "/"
_END = "\U0010ffff"  # no path begins with it: paths begin with "/"


def find(load: Load, tree: str, path: str) -> Entry | None:
    """The file at ``path``, or None."""
    node = load(tree)
    while node.level:
        at = node.place(path)
        if at == len(node):
            return None
        node = load(f"{TREE}:{node.key(at).hex()}")
    at = node.place(path)
    return node.entry(at) if at < len(node) and node.names[at] == path else None


def plain(prefix: str) -> str:
    """A directory or file as ranges know it: without slash at the end, but for the root."""
    return prefix.rstrip("/") or "/"


def entries(load: Load, tree: str, prefix: str, after: str) -> Iterator[Entry]:
    """The file at ``prefix`` or all files below it, behind ``after``, by path bytes."""
    for low, high in ranges(plain(prefix)):
        yield from between(load, tree, low, high, after)


def ranges(prefix: str) -> list[tuple[str, str]]:
    """Half-open ranges of paths that are ``prefix`` or below it."""
    if prefix == "/":
        return [("/", _END)]
    return [(prefix, prefix + "\0"), (prefix + "/", prefix + _AFTER_SLASH)]


def between(load: Load, tree: str, low: str, high: str, after: str = "") -> Iterator[Entry]:
    """Files with ``low`` <= path < ``high`` and path > ``after``."""
    if after >= low:
        low = after + "\0"
    stack = [_Cut(load(tree), low, high)]
    while stack:
        top = stack[-1]
        if top.at >= top.stop:
            stack.pop()
        elif top.node.level:
            stack.append(_Cut(load(f"{TREE}:{top.node.key(top.at).hex()}"), low, high))
            top.at += 1
        else:
            yield top.node.entry(top.at)
            top.at += 1


class _Cut:
    """The part of a node that may hold paths of a range, and how far it has been read."""

    __slots__ = ("at", "node", "stop")

    def __init__(self, node: Node, low: str, high: str) -> None:
        self.node = node
        self.at = node.place(low)
        end = node.place(high)
        self.stop = min(end + 1, len(node)) if node.level else end


def children(
    load: Load, tree: str, directory: str
) -> Iterator[tuple[str, Entry | None, TreeSummary]]:
    """Names one level below a directory, by path bytes; each costs O(log n)."""
    base = directory.rstrip("/") + "/"
    high = base[:-1] + _AFTER_SLASH
    low = base
    while (entry := next(between(load, tree, low, high), None)) is not None:
        name, slash, _ = entry.path[len(base) :].partition("/")
        if slash:
            low = base + name + _AFTER_SLASH
            yield name, None, sum_between(load, tree, base + name + "/", low)
        else:
            low = entry.path + "\0"
            yield name, entry, TreeSummary(files=1, size_bytes=entry.size_bytes)


def sum_between(load: Load, tree: str, low: str, high: str) -> TreeSummary:
    """How many files and bytes there are with ``low`` <= path < ``high``, in O(log n)."""
    upper = _sum_below(load, tree, high)
    lower = _sum_below(load, tree, low)
    return TreeSummary(
        files=upper.files - lower.files, size_bytes=upper.size_bytes - lower.size_bytes
    )


def _sum_below(load: Load, tree: str, high: str) -> TreeSummary:
    files = size_bytes = 0
    node = load(tree)
    while True:
        at = node.place(high)
        part = node.summary(0, at)
        files += part.files
        size_bytes += part.size_bytes
        if not node.level or at == len(node):
            return TreeSummary(files=files, size_bytes=size_bytes)
        node = load(f"{TREE}:{node.key(at).hex()}")


def diff(load: Load, old: str, new: str, prefix: str) -> Iterator[TreeChange]:
    """Paths at or below ``prefix`` that differ, by path bytes; equal subtrees are not read."""
    if old == new:
        return
    for low, high in ranges(plain(prefix)):
        yield from _diff_between(load, old, new, low, high)


def _diff_between(load: Load, old: str, new: str, low: str, high: str) -> Iterator[TreeChange]:
    left = _Side(load, old, low, high)
    right = _Side(load, new, low, high)
    while left.more or right.more:
        if left.node and left.node == right.node:
            left.skip()
            right.skip()
        elif left.level or right.level:
            top = max(left.level, right.level)
            for side in (left, right):
                if side.level == top:
                    side.open()
        else:
            change = _step(left, right)
            if change is not None:
                yield change


def _step(left: _Side, right: _Side) -> TreeChange | None:
    before, after = left.entry(), right.entry()
    if after is None or (before is not None and before.path < after.path):
        assert before is not None
        left.skip()
        return TreeChange(path=before.path, old=before, new=None)
    right.skip()
    if before is None or after.path < before.path:
        return TreeChange(path=after.path, old=None, new=after)
    left.skip()
    return None if before == after else TreeChange(path=after.path, old=before, new=after)


class _Side:
    """One tree as a line of nodes and files, the nodes opened only where one must look in.

    ``level`` of what is next: 0 for a file or nothing, n + 1 for a node of level n.
    """

    def __init__(self, load: Load, tree: str, low: str, high: str) -> None:
        self._load = load
        self._low = low
        self._high = high
        self._stack: list[_Cut] = []
        self._root: str | None = tree
        self._settle()

    def _settle(self) -> None:
        while self._stack and self._stack[-1].at >= self._stack[-1].stop:
            self._stack.pop()
        if self._root is not None:
            self.node, self.more, self.level = self._root, True, 99
            return
        self.more = bool(self._stack)
        top = self._stack[-1] if self._stack else None
        self.level = top.node.level if top else 0
        self.node = f"{TREE}:{top.node.key(top.at).hex()}" if top and top.node.level else ""

    def open(self) -> None:
        """Put the lines of the node that is next in its place."""
        node = self._load(self.node)
        self._pass()
        self._stack.append(_Cut(node, self._low, self._high))
        self._settle()

    def skip(self) -> None:
        """Go on behind what is next."""
        self._pass()
        self._settle()

    def entry(self) -> Entry | None:
        """The file that is next."""
        return self._stack[-1].node.entry(self._stack[-1].at) if self._stack else None

    def _pass(self) -> None:
        if self._root is not None:
            self._root = None
        else:
            self._stack[-1].at += 1


def check_tree(tree: str) -> str:
    """The digest itself, if it may name a tree.

    Raises:
        Invalid: ``digest.invalid``, ``tree.digest``.
    """
    tag, _ = split(tree)
    if tag != TREE:
        raise Invalid(
            "tree.digest", f"{tree!r} does not name a tree.", hint="Use the tree of a commit."
        )
    return tree
