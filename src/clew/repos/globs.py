r"""Patterns over paths, with captures.

Knows no tree: it matches texts. The grammar:

==============  ==================================================================
``*`` ``?``     any run of characters, one character, but never a slash
``**``          anything, slashes too; ``/**/`` may also be a single slash
``[a-z]``       one of a set, ``[!a-z]`` one not of a set; never a slash
``{a,b}``       one of several patterns
``(a|b)``       the same, and captures what it matched: ``/(*)-(*).csv``
``!(a|b)``      a run without slash, where none of the patterns (and then the rest) matches
``\x``           the character x itself
==============  ==================================================================

A pattern is matched against a whole path; one that ends with a slash means all files below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from clew.base.errors import Invalid

_SPECIAL = "*?[{(!\\"


@dataclass(frozen=True, kw_only=True)
class Glob:
    """A compiled pattern. ``groups`` is its number of captures."""

    pattern: str
    groups: int
    directory: str
    """The deepest directory that all matches lie below, ``/`` at worst."""
    _regex: re.Pattern[str]

    @property
    def names(self) -> Mapping[str, int]:
        """Numbers of the captures that have names."""
        return self._regex.groupindex

    def match(self, path: str) -> tuple[str, ...] | None:
        """The captures of a path, in the order of their brackets; None where it does not match.

        A bracket that took no part captures ''.
        """
        found = self._regex.fullmatch(path)
        return None if found is None else found.groups(default="")


@lru_cache(maxsize=1024)
def glob_match(pattern: str) -> Glob:
    """The pattern, compiled. A missing slash at the beginning is added.

    Raises:
        Invalid: ``glob.invalid``.
    """
    rooted = pattern if pattern.startswith("/") else "/" + pattern
    text = rooted + "**" if rooted.endswith("/") else rooted
    items = _Parser(text).whole()
    try:
        regex = re.compile(_compile(items, "", True), re.DOTALL)
    except re.error as error:
        raise _invalid(pattern, str(error)) from None
    return Glob(pattern=pattern, groups=regex.groups, directory=_directory(text), _regex=regex)


@dataclass(frozen=True)
class _Text:
    """A part that is a regular expression already."""

    regex: str


@dataclass(frozen=True)
class _Choice:
    """One of several sequences. ``sort``: capture, plain or not."""

    sort: str
    options: tuple[tuple[_Text | _Choice, ...], ...]


_Items = tuple[_Text | _Choice, ...]


def _compile(items: _Items, rest: str, capture: bool) -> str:
    """The expression of ``items``; ``rest`` is what follows them, as non-capturing expression.

    A negation must know what follows: in ``!(a)*.csv`` the run may end anywhere before ``.csv``.
    """
    result, plain = "", rest
    for item in reversed(items):
        result = _one(item, plain, capture) + result
        plain = _one(item, plain, False) + plain
    return result


def _one(item: _Text | _Choice, rest: str, capture: bool) -> str:
    if isinstance(item, _Text):
        return item.regex
    if item.sort == "not":
        options = "|".join(_compile(option, rest, False) for option in item.options)
        return f"(?:(?!(?:{options}){rest}\\Z)[^/]*?)"
    options = "|".join(_compile(option, rest, capture) for option in item.options)
    return f"({options})" if capture and item.sort == "capture" else f"(?:{options})"


class _Parser:
    """Reads one pattern from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> _Items:
        items = self._sequence("")
        if self._at < len(self._text):
            raise _invalid(self._text, f"unexpected {self._text[self._at]!r}")
        return items

    def _sequence(self, ends: str) -> _Items:
        return tuple(self._parts(ends))

    def _parts(self, ends: str) -> Iterator[_Text | _Choice]:
        while self._at < len(self._text) and self._text[self._at] not in ends:
            yield self._part()

    def _part(self) -> _Text | _Choice:
        text = self._text
        for opening, act in (
            ("/**/", lambda: _Text("/(?:.*/)?")),
            ("**", lambda: _Text(".*")),
            ("*", lambda: _Text("[^/]*")),
            ("?", lambda: _Text("[^/]")),
            ("[", self._set),
            ("{", lambda: self._choice("plain", ",", "}")),
            ("(", lambda: self._choice("capture", "|", ")")),
            ("!(", lambda: self._choice("not", "|", ")")),
            ("\\", self._escaped),
        ):
            if text.startswith(opening, self._at):
                self._at += len(opening)
                return act()
        self._at += 1
        return _Text(re.escape(text[self._at - 1]))

    def _choice(self, sort: str, between: str, end: str) -> _Choice:
        start = self._at
        options = [self._sequence(between + end)]
        while self._text[self._at : self._at + 1] == between:
            self._at += 1
            options.append(self._sequence(between + end))
        if self._at >= len(self._text):
            raise _invalid(self._text, f"the bracket at {start} is not closed by {end!r}")
        self._at += 1
        return _Choice(sort, tuple(options))

    def _set(self) -> _Text:
        # A bracket that comes first stands for itself, as in every shell.
        body = re.compile(r"(?P<no>[!^]?)(?P<set>\]?[^\]]*)\]").match(self._text, self._at)
        if body is None or not body["set"]:
            raise _invalid(self._text, f"the set at {self._at} is not closed by ']'")
        self._at = body.end()
        inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", body["set"])
        return _Text(f"(?!/)[{'^' if body['no'] else ''}{inner}]")

    def _escaped(self) -> _Text:
        if self._at >= len(self._text):
            raise _invalid(self._text, "nothing follows the last backslash")
        self._at += 1
        return _Text(re.escape(self._text[self._at - 1]))


def _directory(text: str) -> str:
    literal = re.split(f"[{re.escape(_SPECIAL)}]", text, maxsplit=1)[0]
    return literal[: literal.rindex("/")] or "/"


def _invalid(pattern: str, why: str) -> Invalid:
    return Invalid(
        "glob.invalid",
        f"The pattern {pattern!r} cannot be read: {why}.",
        hint="Use * ** ? [a-z] {a,b} (a|b) !(a|b), and \\ before a character that means itself.",
    )
