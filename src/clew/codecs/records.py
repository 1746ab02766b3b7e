"""Values of JSON: numbers, texts, lists, dicts, dataclasses, Structs, typed dicts and enums; and
rows of any table as such records.

Knows msgspec; pydantic's models are ``models.py``.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from clew.base.errors import Invalid
from clew.codecs import arrow, models
from clew.codecs.formats import (
    DELIMITERS,
    LINES,
    TABLES,
    content_of,
    explained,
    first_line,
    squeeze,
    suffix_in,
    unreadable,
)
from clew.codecs.kinds import only
from clew.codecs.registry import kind_of, name_of, users_kind
from clew.codecs.wanted import wanted_of
from clew.repos import File

_SCALARS = (
    bool,
    int,
    float,
    str,
    type(None),
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
)
_CONTAINERS = (list, dict, tuple, set, frozenset)
WRITTEN = frozenset({".json", ".json.gz"} | LINES | {f"{one}.gz" for one in LINES})


def is_record(kind: Any) -> bool:
    """Whether a class has named, typed fields: an object in JSON, a row of a table."""
    if not isinstance(kind, type):
        kind = typing.get_origin(kind)
        if not isinstance(kind, type):
            return False
    if kind_of(kind) is not None:
        return False
    return (
        dataclasses.is_dataclass(kind)
        or issubclass(kind, msgspec.Struct)
        or models.is_model(kind)
        or typing.is_typeddict(kind)
        or hasattr(kind, "__attrs_attrs__")
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )


def is_json(annotation: Any) -> bool:
    """Whether values of a type are JSON. ``str`` is only inside of others: alone it is a text."""
    annotation = wanted_of(annotation).type
    if annotation is None:
        return True
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return _is_json_class(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return True
    if origin in _CONTAINERS or origin in (typing.Union, types.UnionType) or is_record(origin):
        return all(one is Ellipsis or is_json(one) for one in arguments)
    return isinstance(annotation, str) and annotation in {"int", "float", "bool", "dict", "list"}


def _is_json_class(kind: type) -> bool:
    if users_kind(kind) is not None:
        return False
    return kind in _SCALARS + _CONTAINERS or is_record(kind) or issubclass(kind, enum.Enum)


# reading --------------------------------------------------------------------------------------


def read_value(file: File, asked: str, wanted: Any) -> Any:
    """The one value of a JSON type in a file."""
    suffix = suffix_in(file, asked)
    if suffix in TABLES:
        if wanted in (list, Any):
            return read_items([file], asked, Any)
        raise unreadable(
            file, f"one {name_of(wanted)}", "it holds rows; annotate with list[...] to get them"
        )
    data = content_of(file, asked)
    with explained(file, ".json", data):
        value = _decoder(Any)(data)
        return value if wanted in (None, Any) else _checked(file, value, wanted)


def read_items(files: Sequence[File], asked: str, item: Any) -> list[Any]:
    """All values of a JSON type in files: items of JSON arrays, lines, rows of tables.

    A JSON file whose value is no array is one item.
    """
    return [one for file in files for one in _items(file, asked, item)]


def read_named(files: Sequence[File], asked: str, item: Any) -> dict[str, Any]:
    """The one JSON object, its values of a type."""
    found: dict[str, Any] = read_value(only(files), asked, dict[str, item])
    return found


def _items(file: File, asked: str, item: Any) -> Iterator[Any]:
    suffix = suffix_in(file, asked)
    if suffix in LINES:
        yield from _lines(file, asked, item)
    elif suffix in TABLES:
        rows = arrow.read_table([file], asked).to_pylist()
        first = 2 if suffix in DELIMITERS else 1
        for at, row in enumerate(rows):
            yield _item(file, at, row, item, strict=False, line=at + first)
    else:
        data = content_of(file, asked)
        with explained(file, ".json", data):
            value = _decoder(Any)(data)
        rows = value if isinstance(value, list) else [value]
        for at, row in enumerate(rows):
            yield _item(file, at, row, item)


def _lines(file: File, asked: str, item: Any) -> Iterator[Any]:
    data = content_of(file, asked)
    decode = _decoder(Any)
    for at, line in enumerate(data.split(b"\n")):
        if line.strip():
            with explained(file, ".jsonl", data):
                row = decode(line)
            yield _item(file, at, row, item, line=at + 1)


def _item(
    file: File, at: int, row: Any, item: Any, *, strict: bool = True, line: int | None = None
) -> Any:
    if item in (None, Any):
        return row
    try:
        return _converter(item)(row, strict)
    except (msgspec.ValidationError, ValueError) as error:
        where = f"row {at + 1}" if line is None else f"row {at + 1} (line {line})"
        raise unreadable(file, f"{name_of(item)}", f"{where}: {_said(error)}") from None


def _checked(file: File, value: Any, wanted: Any) -> Any:
    try:
        return _converter(wanted)(value, True)
    except (msgspec.ValidationError, ValueError) as error:
        raise unreadable(file, f"a JSON {name_of(wanted)}", _said(error)) from None


def _said(error: Exception) -> str:
    return models.said(error) or first_line(error)


@lru_cache(maxsize=256)
def _converter(wanted: Any) -> Callable[[Any, bool], Any]:
    """What makes a value of a type of plain JSON."""
    if models.has_model(wanted):
        return models.converter(wanted)
    plain = wanted_of(wanted).type if isinstance(wanted, str) else wanted
    if isinstance(plain, str):
        plain = {"int": int, "float": float, "bool": bool, "dict": dict, "list": list}[plain]
    return lambda value, strict: msgspec.convert(value, plain, strict=strict)


@lru_cache(maxsize=4)
def _decoder(wanted: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(wanted).decode


# writing --------------------------------------------------------------------------------------


def write_value(value: Any, suffix: str = ".json") -> bytes:
    """JSON of a value; equal values give equal bytes.

    Raises:
        Invalid: ``value.not_json``.
    """
    form = suffix.removesuffix(".gz")
    if form in TABLES - LINES:
        return arrow.write_table(arrow.table_of(_plain_rows(value)), suffix)
    try:
        if form in LINES:
            encoder = msgspec.json.Encoder(enc_hook=_scalar, order="deterministic")
            return squeeze(encoder.encode_lines(value), suffix)
        made = msgspec.json.encode(value, enc_hook=_scalar, order="deterministic")
        return squeeze(made, suffix)
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(
            "value.not_json",
            f"The value cannot be kept as JSON: {first_line(error)}.",
            hint="Return numbers, texts, lists and dicts with text keys, or register a codec.",
        ) from None


def _plain_rows(value: Any) -> list[Any]:
    rows = msgspec.json.decode(write_value(list(value)))
    if any(not isinstance(row, dict) for row in rows):
        raise Invalid(
            "value.not_written",
            "Only a list of records can be kept as a table.",
            hint="Return a list of dataclasses, Structs, models or dicts.",
        )
    return list(rows)


def _scalar(value: Any) -> object:
    """The plain value in a numpy scalar, a pydantic model or an item of a lazy kind."""
    if name_of(type(value)).startswith("numpy.") and hasattr(value, "item"):
        return value.item()
    if models.is_model(type(value)):
        return models.plain(value)
    raise TypeError(f"it holds a {name_of(type(value))}")


def is_value(value: object) -> bool:
    """Whether a value is of a JSON type (a container is, whatever it holds)."""
    kind = type(value)
    if isinstance(value, str | bytes | bytearray):
        return False
    if name_of(kind).startswith("numpy."):
        return hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0 and kind_of(kind) is None
    return is_json(kind) or isinstance(value, list | dict | tuple | set | frozenset | int | float)
