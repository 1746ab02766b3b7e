"""Which versions fit a filter: ``metrics.roc_auc > 0.9 and state = 'blessed'``.

Knows records alone. The grammar is MLflow's for searching runs and versions (comparisons joined by
AND), with OR, NOT and brackets besides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn

from clew.base.errors import Invalid
from clew.base.records import ModelVersion

Test = Callable[[ModelVersion], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])"
    r"|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<op><=|>=|!=|<>|==|=|<|>|\(|\)|,)"
    r"|(?P<name>`[^`]+`|[A-Za-z_][\w/-]*(?:\.(?:`[^`]+`|\"[^\"]+\"|[\w/@-]+))*))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_ATTRIBUTES: dict[str, Callable[[ModelVersion], object]] = {
    "name": lambda one: one.model,
    "model": lambda one: one.model,
    "version": lambda one: one.version,
    "version_number": lambda one: one.version,
    "state": lambda one: one.state,
    "task": lambda one: one.signature.task,
    "id": lambda one: one.id,
    "global_id": lambda one: one.global_id,
    "commit": lambda one: one.commit,
    "test_commit": lambda one: one.test_commit,
    "experiment": lambda one: one.experiment,
    "trial": lambda one: one.trial,
    "created_at": lambda one: one.created_at.isoformat(),
}
_WORDS = frozenset({"and", "or", "not", "in", "like", "ilike", "is", "null"})


def filter_of(text: str) -> Test:
    """What tells whether a version fits.

    Names: ``metrics.NAME``, ``params.NAME``, ``alias`` (any of its aliases), and the attributes
    model (or name), version, state, task, id, global_id, commit, test_commit, experiment, trial,
    created_at (text of ISO 8601). A value that a version has not fits no comparison but ``IS NULL``
    and ``NOT``.

    Raises:
        Invalid: ``model.where``.
    """
    return _Parser(text).whole()


class _Parser:
    """Reads a filter from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0

    def whole(self) -> Test:
        found = self._any()
        if self._at < len(self._tokens):
            self._wrong(f"{self._tokens[self._at][1]!r} is not expected here")
        return found

    def _any(self) -> Test:
        parts = [self._all()]
        while self._word("or"):
            parts.append(self._all())
        return lambda one: any(part(one) for part in parts)

    def _all(self) -> Test:
        parts = [self._single()]
        while self._word("and"):
            parts.append(self._single())
        return lambda one: all(part(one) for part in parts)

    def _single(self) -> Test:
        if self._word("not"):
            inner = self._single()
            return lambda one: not inner(one)
        if self._take("op", "("):
            inner = self._any()
            if not self._take("op", ")"):
                self._wrong("a bracket is not closed")
            return inner
        return self._comparison()

    def _comparison(self) -> Test:
        kind, name = self._next("a name, such as metrics.roc_auc")
        if kind != "name" or name.lower() in _WORDS:
            self._wrong(f"{name!r} is not a name, such as metrics.roc_auc or state")
        values = _values_of(name, self._wrong)
        if self._word("is"):
            wanted = not self._word("not")
            if not self._word("null"):
                self._wrong("IS is followed by NULL or NOT NULL")
            return lambda one: (not values(one)) == wanted
        negated = self._word("not")
        if self._word("in"):
            inside = self._list()
            return lambda one: any(v in inside for v in values(one)) != negated
        for word, flags in (("like", 0), ("ilike", re.IGNORECASE)):
            if self._word(word):
                pattern = _pattern(str(self._value()), flags)
                return lambda one: any(pattern.fullmatch(str(v)) for v in values(one)) != negated
        kind, op = self._next("a comparison, such as >")
        if kind != "op" or op not in _COMPARE or negated:
            self._wrong(f"{op!r} does not compare; use {' '.join(_COMPARE)}, LIKE, ILIKE, IN or IS")
        value = self._value()
        return lambda one: any(_holds(op, mine, value) for mine in values(one))

    def _list(self) -> list[object]:
        if not self._take("op", "("):
            self._wrong("IN is followed by a list in brackets")
        found = [self._value()]
        while self._take("op", ","):
            found.append(self._value())
        if not self._take("op", ")"):
            self._wrong("a bracket is not closed")
        return found

    def _value(self) -> object:
        kind, text = self._next("a value")
        if kind == "number":
            return float(text) if any(one in text for one in ".eE") else int(text)
        if kind == "text":
            return text[1:-1].replace(text[0] * 2, text[0])
        if kind != "name" or text.lower() not in {"true", "false"}:
            self._wrong(f"{text!r} is not a value: put text in quotes")
        return text.lower() == "true"

    def _next(self, what: str) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            self._wrong(f"it ends where {what} is expected")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, kind: str, text: str) -> bool:
        there = self._at < len(self._tokens) and self._tokens[self._at] == (kind, text)
        self._at += there
        return there

    def _word(self, word: str) -> bool:
        there = self._at < len(self._tokens) and (
            self._tokens[self._at][0] == "name" and self._tokens[self._at][1].lower() == word
        )
        self._at += there
        return there

    def _wrong(self, why: str) -> NoReturn:
        raise _invalid(self._text, why)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None or match.end() == at:
            raise _invalid(text, f"it cannot be read from {text[at:].strip()[:20]!r} on")
        yield str(match.lastgroup), str(match[str(match.lastgroup)])
        at = match.end()


def _values_of(
    name: str, wrong: Callable[[str], NoReturn]
) -> Callable[[ModelVersion], tuple[object, ...]]:
    """What a version has under a name: nothing, one value, or (aliases) several."""
    first, _, rest = name.partition(".")
    kind, key = first.lower(), rest.strip('`"')
    if kind in {"metrics", "metric"} and key:
        return lambda one: _there(one.metrics, key)
    if kind in {"params", "param", "parameters"} and key:
        return lambda one: _there(one.params, key)
    if kind in {"attributes", "attribute"} and key:
        kind, key = key.lower(), ""
    if kind in {"alias", "aliases"} and not key:
        return lambda one: one.aliases
    if kind in _ATTRIBUTES and not key:
        read = _ATTRIBUTES[kind]
        return lambda one: tuple(value for value in (read(one),) if value is not None)
    return wrong(
        f"{name!r} is not known; there are metrics.NAME, params.NAME, alias, "
        f"{', '.join(sorted(_ATTRIBUTES))}"
    )


def _there(values: Mapping[str, object], key: str) -> tuple[object, ...]:
    return (values[key],) if values.get(key) is not None else ()


def _holds(op: str, mine: object, value: object) -> bool:
    """A comparison; a number is compared with the text of one as MLflow's parameters are."""
    if isinstance(mine, datetime):
        mine = mine.isoformat()
    both = isinstance(mine, int | float) and isinstance(value, int | float)
    if not both and type(mine) is not type(value):
        mine, value = str(mine), str(value)
    return _COMPARE[op](mine, value)


def _pattern(text: str, flags: int) -> re.Pattern[str]:
    """SQL's LIKE: % is anything, _ one character."""
    parts = (".*" if one == "%" else "." if one == "_" else re.escape(one) for one in text)
    return re.compile("".join(parts), flags | re.DOTALL)


def _invalid(text: str, why: str) -> Invalid:
    return Invalid(
        "model.where",
        f"The filter {text!r} is not understood: {why}.",
        hint="Write such as metrics.roc_auc > 0.9 and state = 'blessed'",
    )
