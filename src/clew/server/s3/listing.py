"""Keys in order, cut by prefix, delimiter and page, as ListObjects has it.

Knows trees by a function that walks them; nothing of XML. Keys are ordered by their UTF-8 bytes,
which is the order of trees.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from clew.store import Entry

Walk = Callable[[str, str], Iterator[Entry]]
"""Entries below a directory whose path is behind another one, in order."""
_LAST = "\U0010ffff"


class Page(Struct, frozen=True, kw_only=True):
    """What one answer lists. An entry of a key that ends with ``/`` has no digest.

    ``next`` is the last key or common prefix of it where there is more; else None.
    """

    entries: list[Entry]
    prefixes: list[str]
    next: str | None


def list_keys(
    walk: Walk,
    extra: Iterable[Entry],
    *,
    prefix: str = "",
    delimiter: str = "",
    after: str = "",
    most: int = 1000,
) -> Page:
    """A page of at most ``most`` keys and common prefixes together, behind ``after``.

    ``extra``: entries that the tree does not have, in order. A common prefix that is not behind
    ``after`` is left out, so that a page may begin behind one.
    """
    entries: list[Entry] = []
    prefixes: list[str] = []
    last: str | None = None
    found = _Keys(walk, list(extra), prefix, after)
    for key, entry in found:
        common = _common(key, prefix, delimiter)
        if common and (common <= after or common == last):
            found.skip(common)
            continue
        if len(entries) + len(prefixes) == most:
            return Page(entries=entries, prefixes=prefixes, next=last if most else None)
        if common:
            prefixes.append(common)
            found.skip(common)
        else:
            entries.append(entry)
        last = common or key
    return Page(entries=entries, prefixes=prefixes, next=None)


class _Keys:
    """Keys that begin with ``prefix``, behind ``after``, in order; some can be skipped."""

    def __init__(self, walk: Walk, extra: list[Entry], prefix: str, after: str) -> None:
        self._walk = walk
        self._extra = extra
        self._prefix = prefix
        self._directory = "/" + prefix.rpartition("/")[0]
        self._after = max(f"/{after}" if after else "", _before(f"/{prefix}"))
        self._start()

    def skip(self, common: str) -> None:
        """Go on behind all keys that begin with this."""
        behind = f"/{common}{_LAST}"
        if behind > self._after:
            self._after = behind
            self._start()

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return self

    def __next__(self) -> tuple[str, Entry]:
        while True:
            entry = next(self._found)
            key = entry.path[1:]
            if key.startswith(self._prefix):
                return key, entry
            if key > self._prefix:
                raise StopIteration

    def _start(self) -> None:
        extra = [entry for entry in self._extra if entry.path > self._after]
        below = self._walk(self._directory, self._after)
        self._found = heapq.merge(below, extra, key=lambda entry: entry.path)


def _common(key: str, prefix: str, delimiter: str) -> str:
    """The key up to the first delimiter behind the prefix; '' where there is none."""
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return key[: at + len(delimiter)] if at >= 0 else ""


def _before(path: str) -> str:
    """A text that no path between it and ``path`` matters to: the walk begins behind it."""
    if path == "/":
        return ""
    code = ord(path[-1]) - 1
    if code < 0:
        return path[:-1]
    code = 0xD7FF if 0xD800 <= code <= 0xDFFF else code
    return path[:-1] + chr(code) + _LAST
