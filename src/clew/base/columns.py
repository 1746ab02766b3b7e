"""Columns, as far as all libraries must agree: which say nothing, and which are of one kind.

Knows no library: a type is what its library writes of it (``int64``, ``Int64``, ``BIGINT``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

NOTHING, TEXT = "", "text"
"""The kind of a column that has no value at all: it goes with any other; and that of texts."""

_LEVEL = re.compile(r"__index_level_\d+__")
_WHOLE = r"u?(tiny|small|big|huge)?int(eger)?\d*"
_KINDS = (
    (re.compile(r"null|na"), NOTHING),
    (re.compile(rf"{_WHOLE}|(half)?float\d*|double|decimal.*"), "number"),
    (re.compile(r"bool(ean)?"), "truth"),
    (re.compile(r"(large_)?(string|utf8)(_view)?|varchar|categorical.*|enum.*"), TEXT),
    (re.compile(r"date(32|64)?(\[.*)?|(datetime|timestamp).*"), "moment"),
    (re.compile(r"time(32|64)?(\[.*)?"), "time of day"),
    (re.compile(r"(duration|timedelta).*"), "duration"),
    (re.compile(r"(large_|fixed_size_)?binary.*|blob"), "bytes"),
    (re.compile(r"(large_|fixed_size_)?list.*|array.*"), "list"),
    (re.compile(r"struct.*|map.*"), "record"),
)
_OF_DICTIONARY = re.compile(r"dictionary<values=([^,]+),.*")
_WHOLE_TYPE = re.compile(_WHOLE)


def is_row_place(name: str, kind: object) -> bool:
    """Whether a column only says where rows stood in a frame of pandas before some were left out.

    Arrow writes an index without a name so, as a level of whole numbers. Pandas gets it back as its
    index. Nobody else has one: to them it is no column, to a model least of all.
    """
    return _LEVEL.fullmatch(name) is not None and _is(_WHOLE_TYPE, kind)


def kind_of(kind: object) -> str:
    """What values a type is for: numbers of all widths are of one kind, days and moments too."""
    return _kind(str(kind).lower())


@lru_cache(maxsize=1000)
def _kind(text: str) -> str:
    inner = _OF_DICTIONARY.fullmatch(text)
    text = inner[1] if inner else text
    return next((name for form, name in _KINDS if form.fullmatch(text)), text)


def mixed(files: Sequence[str], types: Sequence[Mapping[str, object]]) -> str:
    """What keeps files from being one table, in words: a column whose values are of one kind in one
    and of another in another; '' where there is none.

    ``types``: of each file, the type of each column.
    """
    first: dict[str, tuple[str, str, object]] = {}
    for at, (file, columns) in enumerate(zip(files, types, strict=True)):
        if at and columns == types[0]:
            continue
        for name, kind in columns.items():
            family = kind_of(kind)
            if family == NOTHING:
                continue
            known = first.setdefault(name, (family, file, kind))
            if known[0] != family:
                return f"the column {name} is {known[2]} in {known[1]} and {kind} in {file}"
    return ""


def not_text(types: Sequence[Mapping[str, object]]) -> list[set[str]]:
    """Of each file, the columns that would have to be read as text for all to be one table: in
    delimited text nothing says what a column is but its values, and one that is of several kinds
    in several files is text, as it would be if all rows stood in one file.
    """
    kinds: dict[str, set[str]] = {}
    for columns in types:
        for name, kind in columns.items():
            kinds.setdefault(name, set()).add(kind_of(kind))
    several = {name for name, found in kinds.items() if len(found - {NOTHING}) > 1}
    return [
        {name for name in several & columns.keys() if kind_of(columns[name]) not in {NOTHING, TEXT}}
        for columns in types
    ]


def _is(form: re.Pattern[str], kind: object) -> bool:
    return form.fullmatch(str(kind).lower()) is not None
