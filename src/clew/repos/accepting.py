"""Whether a text is one of those that a pattern with repeated brackets means, in bounded time.

A regular expression tries every way to divide a text among nested repetitions before it gives up.
This looks at each part of the pattern and each place in the text once. Knows no captures.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from msgspec import Struct, field


class Text(Struct, frozen=True):
    """A part that is a regular expression already; ``many``: it may end at several places."""

    regex: str
    many: bool = False


class Choice(Struct, frozen=True):
    """Some of several sequences. ``sort``: braces, one, optional, any, some or not."""

    sort: str
    options: tuple[Items, ...]
    name: str = ""


Item: TypeAlias = Text | Choice
Items: TypeAlias = "tuple[Item, ...]"
REPEATED = frozenset({"any", "some"})


def is_hard(items: Items, *, repeated: bool = False) -> bool:
    """Whether something of many lengths is repeated: a regular expression may take for ever."""
    for item in items:
        if isinstance(item, Text):
            if repeated and item.many:
                return True
        else:
            varies = item.sort != "one" and item.sort != "braces"
            if repeated and varies:
                return True
            below = repeated or item.sort in REPEATED
            if any(is_hard(option, repeated=below) for option in item.options):
                return True
    return False


def has_negation(items: Items) -> bool:
    """Whether there is ``!(...)`` in it."""
    return any(
        isinstance(item, Choice)
        and (item.sort == "not" or any(has_negation(option) for option in item.options))
        for item in items
    )


class Acceptor(Struct):
    """Reads one text; ``ends`` of a part from a place, each found once."""

    text: str
    _known: dict[tuple[int, int], frozenset[int]] = field(default_factory=dict)

    def accepts(self, items: Items) -> bool:
        """Whether the whole text is meant. ``items`` must live as long as this."""
        return len(self.text) in self._sequence(items, frozenset({0}))

    def _sequence(self, items: Items, places: frozenset[int]) -> frozenset[int]:
        for item in items:
            places = frozenset(end for at in places for end in self._item(item, at))
        return places

    def _item(self, item: Item, at: int) -> frozenset[int]:
        key = (id(item), at)
        if key not in self._known:
            self._known[key] = self._ends(item, at)
        return self._known[key]

    def _ends(self, item: Item, at: int) -> frozenset[int]:
        if isinstance(item, Text):
            return frozenset(_ends(item, self.text, at))
        once = self._options(item, frozenset({at}))
        if item.sort not in REPEATED:
            return once | {at} if item.sort == "optional" else once
        found, new = once, once
        while new:
            new = self._options(item, new) - found
            found |= new
        return found | {at} if item.sort == "any" else found

    def _options(self, item: Choice, places: frozenset[int]) -> frozenset[int]:
        return frozenset().union(*(self._sequence(option, places) for option in item.options))


def _ends(item: Text, text: str, at: int) -> list[int]:
    regex = re.compile(item.regex, re.DOTALL)
    longest = regex.match(text, at)
    if longest is None:
        return []
    if not item.many:
        return [longest.end()]
    return [end for end in range(at, longest.end() + 1) if regex.fullmatch(text, at, end)]
