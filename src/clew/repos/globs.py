r"""Patterns over paths, with captures.

Knows no tree: it matches texts. The grammar:

======================  ==========================================================
``*`` ``?``             any run of characters, one character, but never a slash
``**``                  anything, slashes too; ``/**/`` may also be a single slash
``[a-z]``               one of a set, ``[!a-z]`` or ``[^a-z]`` one not of a set; never a slash;
                        ``[[:alpha:]]``, ``[[:digit:]]`` and the other classes of POSIX
``{a,b}``               one of several patterns
``(a|b)`` ``@(a|b)``    one of several patterns, captured: ``/(*)-(*).csv``
``?(a|b)``              none or one of them, captured
``*(a|b)`` ``+(a|b)``   any number of them, at least one of them, captured
``!(a|b)``              a run without slash, where none of them and then the rest matches, captured
``(?P<day>*)``          captured with a name; ``(?<day>*)`` is the same
``\x``                   the character x itself
======================  ==========================================================

A pattern is matched against a whole path; one that ends with a slash means all files below.
Captures are numbered by their opening brackets, from 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial

from msgspec import Struct

from clew.base.errors import Invalid
from clew.repos.accepting import Acceptor, Choice, Item, Items, Text, has_negation, is_hard

SEPARATOR = "\0"
"""Between captures that stand side by side in a key; no path holds it."""

_SPECIAL = "*?[{(!\\"
_SORTS = {"(": "one", "@(": "one", "?(": "optional", "*(": "any", "+(": "some", "!(": "not"}
_NAME = re.compile(r"\?P?<([^>]*)>")
_REFERENCE = re.compile(r"\$(?:(\d+)|(\w+)|\{(\w+)\}|(\$))")
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


class Glob(Struct, frozen=True, kw_only=True):
    """A compiled pattern. ``groups`` is its number of captures."""

    pattern: str
    groups: int
    directory: str
    """The deepest directory that all matches lie below, ``/`` at worst."""
    _regex: re.Pattern[str]
    _hard: Items | None = None
    """What it is made of, where it must be asked first whether there is a match at all."""

    @property
    def names(self) -> Mapping[str, int]:
        """Numbers of the captures that have names."""
        return self._regex.groupindex

    def match(self, path: str) -> tuple[str, ...] | None:
        """The captures of a path, in the order of their brackets; None where it does not match.

        A bracket that took no part captures ''.
        """
        if self._hard is not None and not Acceptor(path).accepts(self._hard):
            return None
        found = self._regex.fullmatch(path)
        return None if found is None else found.groups(default="")

    def fill(self, template: str, captures: Sequence[str]) -> str:
        """A template with captures in it: ``$1``, ``${1}``, ``$day``, ``${day}``; ``$$`` is ``$``.

        An empty one means all captures. Captures side by side have SEPARATOR between them, so that
        ``$1$2`` is the same for two paths only where each of the two is.

        Raises:
            Invalid: ``glob.capture`` where it names what is not captured.
        """
        if not template:
            return SEPARATOR.join(captures)
        if template == "$1" and captures:
            return captures[0]
        result, end = "", -1
        for literal, number in _parts(self, template):
            if number is None:
                result += literal
            else:
                result += (SEPARATOR if end == len(result) else "") + captures[number - 1]
                end = len(result)
        return result


@lru_cache(maxsize=1024)
def glob_match(pattern: str) -> Glob:
    """The pattern, compiled. A missing slash at the beginning is added.

    Raises:
        Invalid: ``glob.invalid``, naming the place.
    """
    rooted = pattern if pattern.startswith("/") else "/" + pattern
    text = rooted + "**" if rooted.endswith("/") else rooted
    items = _Parser(pattern, text, len(rooted) - len(pattern)).whole()
    regex = re.compile(_compile(items, "", True), re.DOTALL)
    hard = is_hard(items) and not has_negation(items)
    return Glob(
        pattern=pattern,
        groups=regex.groups,
        directory=_directory(text),
        _regex=regex,
        _hard=items if hard else None,
    )


_RUN = Text("[^/]*", many=True)
_REPEATS = {"one": "", "optional": "?", "any": "*", "some": "+"}


def _compile(items: Items, rest: str, capture: bool) -> str:
    """The expression of ``items``; ``rest`` is what follows them, as non-capturing expression.

    A negation must know what follows: in ``!(a)*.csv`` the run may end anywhere before ``.csv``.
    """
    result, plain = "", rest
    for item in reversed(items):
        result = _one(item, plain, capture) + result
        plain = _one(item, plain, False) + plain
    return result


def _one(item: Item, rest: str, capture: bool) -> str:
    if isinstance(item, Text):
        return item.regex
    options = "|".join(_compile(option, rest, capture) for option in item.options)
    if item.sort == "braces":
        return f"(?:{options})"
    if item.sort == "not":
        inner = f"(?:(?!(?:{options}){rest}\\Z)[^/]*)"
    elif item.options == ((_RUN,),):
        inner = _RUN.regex  # the same as any number of them, and found in one way only
    else:
        inner = f"(?:{options}){_REPEATS[item.sort]}"
    before = f"?P<{item.name}>" if item.name else ""
    return f"({before}{inner})" if capture else f"(?:{inner})"


class _Parser:
    """Reads one pattern from left to right; ``added`` characters stand before the user's own."""

    def __init__(self, pattern: str, text: str, added: int) -> None:
        self._pattern = pattern
        self._text = text
        self._added = added
        self._at = 0
        self._names: set[str] = set()

    def whole(self) -> Items:
        return self._sequence("")

    def _sequence(self, ends: str) -> Items:
        return tuple(self._parts(ends))

    def _parts(self, ends: str) -> Iterator[Item]:
        while self._at < len(self._text) and self._text[self._at] not in ends:
            yield self._part()

    def _part(self) -> Item:
        for opening, act in self._openings():
            if self._text.startswith(opening, self._at):
                self._at += len(opening)
                return act()
        self._at += 1
        return Text(re.escape(self._text[self._at - 1]))

    def _openings(self) -> Iterator[tuple[str, Callable[[], Item]]]:
        for opening, sort in _SORTS.items():
            yield opening, partial(self._bracket, sort)
        yield "/**/", lambda: Text("/(?:.*/)?", many=True)
        yield "**", self._anything
        yield "*", lambda: _RUN
        yield "?", lambda: Text("[^/]")
        yield "[", self._set
        yield "{", lambda: self._choice("braces", ",", "}")
        yield "\\", self._escaped

    def _anything(self) -> Item:
        if self._text.startswith("(", self._at):  # **(a): a run, then any number of a
            self._at -= 1
            return _RUN
        return Text(".*", many=True)

    def _bracket(self, sort: str) -> Choice:
        found = _NAME.match(self._text, self._at) if sort == "one" else None
        if found is None:
            return self._choice(sort, "|", ")")
        if not found[1].isidentifier() or not found[1].isascii() or found[1] in self._names:
            why = "is there twice" if found[1] in self._names else "is no name"
            raise self._invalid(self._at, f"the capture {found[1]!r} {why}")
        self._names.add(found[1])
        start = self._at - 1
        self._at = found.end()
        return self._choice(sort, "|", ")", name=found[1], start=start)

    def _choice(
        self, sort: str, between: str, end: str, *, name: str = "", start: int | None = None
    ) -> Choice:
        start = self._at - 1 if start is None else start
        options = [self._sequence(between + end)]
        while self._text[self._at : self._at + 1] == between:
            self._at += 1
            options.append(self._sequence(between + end))
        if self._at >= len(self._text):
            raise self._invalid(start, f"the bracket is not closed by {end!r}")
        self._at += 1
        return Choice(sort, tuple(options), name)

    def _set(self) -> Text:
        start = self._at - 1
        negated = self._text[self._at : self._at + 1] in {"!", "^"}
        self._at += negated
        members: list[str] = []
        while not (members and self._text.startswith("]", self._at)):
            if self._at >= len(self._text):
                raise self._invalid(start, "the set is not closed by ']'")
            members.append(self._member())
        self._at += 1
        return Text(f"(?!/)[{'^' if negated else ''}{''.join(members)}]")

    def _member(self) -> str:
        """A class, a range or a character of a set. A ']' that comes first is itself."""
        start = self._at
        if self._text.startswith("[:", self._at) and ":]" in self._text[self._at :]:
            end = self._text.index(":]", self._at)
            name = self._text[self._at + 2 : end]
            if name not in _CLASSES:
                raise self._invalid(start, f"there is no class {name!r} of characters")
            self._at = end + 2
            return _CLASSES[name]
        low = self._character()
        more = self._text[self._at : self._at + 2]
        if len(more) < 2 or more[0] != "-" or more[1] == "]":
            return _quoted(low)
        self._at += 1
        high = self._character()
        if high < low:
            raise self._invalid(start, f"the range {low}-{high} goes backwards")
        return f"{_quoted(low)}-{_quoted(high)}"

    def _character(self) -> str:
        if self._text.startswith("\\", self._at):
            self._at += 1
        if self._at >= len(self._text):
            raise self._invalid(self._at - 1, "nothing follows the last backslash")
        self._at += 1
        return self._text[self._at - 1]

    def _escaped(self) -> Text:
        self._at -= 1
        return Text(re.escape(self._character()))

    def _invalid(self, at: int, why: str) -> Invalid:
        place = max(1, at + 1 - self._added)
        return Invalid(
            "glob.invalid",
            f"The pattern {self._pattern!r} cannot be read: at character {place}, {why}.",
            hint="Use * ** ? [a-z] {a,b} (a|b) !(a|b) ?(a) *(a) +(a), and \\ before a character "
            "that means itself.",
        )


def _quoted(character: str) -> str:
    """A character in a set of a regular expression."""
    return "\\" + character if character in "\\[]^-&~|" else character


def _directory(text: str) -> str:
    literal = re.split(f"[{re.escape(_SPECIAL)}]", text, maxsplit=1)[0]
    return literal[: literal.rindex("/")] or "/"


@lru_cache(maxsize=256)
def _parts(glob: Glob, template: str) -> tuple[tuple[str, int | None], ...]:
    """A template as literals and numbers of captures."""
    parts: list[tuple[str, int | None]] = []
    at = 0
    for found in _REFERENCE.finditer(template):
        if found.start() > at:
            parts.append((template[at : found.start()], None))
        at = found.end()
        name = found[1] or found[2] or found[3]
        parts.append(("$", None) if name is None else ("", _number(glob, template, name)))
    return (*parts, (template[at:], None)) if at < len(template) else tuple(parts)


def _number(glob: Glob, template: str, name: str) -> int:
    number = int(name) if name.isdecimal() else glob.names.get(name, 0)
    if 0 < number <= glob.groups:
        return number
    known = [f"${at}" for at in range(1, glob.groups + 1)] + [f"${one}" for one in glob.names]
    raise Invalid(
        "glob.capture",
        f"{template!r} names ${name}, which {glob.pattern!r} does not capture.",
        hint=f"It captures {', '.join(known)}."
        if known
        else "Put round brackets around what is to be captured: /(*)-x.csv",
    )
