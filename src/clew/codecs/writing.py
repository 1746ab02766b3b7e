"""Values as files: what a step returned, and how each part of it is named and kept.

Knows how kinds are put together, not how any is written.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clew.base.address import normal_path
from clew.base.errors import Invalid
from clew.codecs import numpy, records
from clew.codecs.formats import TABLES, format_of
from clew.codecs.kinds import Content, Kind
from clew.codecs.registry import kind_of, name_of
from clew.codecs.wanted import NOT_SAID, wanted_of
from clew.repos import File

Written = tuple[str, Content]


def dump_value(
    value: object, directory_name: str, annotation: object = NOT_SAID
) -> list[tuple[str, Content]]:
    """Files (normal path, content) that keep a value; equal values give equal files.

    A frame becomes ``/<name>.parquet``, an array ``.npy``, an image ``.png``, ``bytes`` ``.bin``,
    ``str`` ``.txt``, values of JSON ``.json``. A tuple or list of values that JSON cannot keep
    becomes ``/<name>/0.parquet`` …, a dict of them ``/<name>/<key>.parquet``; a key with a suffix
    names the format (``report.csv``), one that begins with ``/`` the whole path. A Path or a
    ``clew.File`` is the file, under its own name, or all files below the directory. None is no
    file.

    The return ``annotation`` says more: ``Annotated[pl.DataFrame, ".csv.gz"]`` the format,
    ``tuple[X, ...]`` and ``dict[str, Record]`` one file for each, also where X is of JSON.

    Raises:
        Invalid: ``value.unknown`` where no codec knows the type, ``value.not_json``,
            ``value.not_written``, ``value.no_file``.
    """
    files = list(_dump(value, directory_name, annotation))
    return [(normal_path(path), content) for path, content in files]


def form_of(annotation: object) -> str:
    """What a return annotation says about how results are kept; '' where it says nothing.

    The same text in every process, so that it can count into keys.
    """
    wanted = wanted_of(annotation)
    origin, arguments = typing.get_origin(wanted.type), typing.get_args(wanted.type)
    inner = ""
    if origin is tuple:
        inner = ",".join("..." if one is Ellipsis else form_of(one) for one in arguments)
        inner = f"tuple[{inner}]" if inner.strip(",") else ""
    elif origin is dict and len(arguments) == 2:
        record = records.is_record(wanted_of(arguments[1]).type)
        inner = form_of(arguments[1]) or ("record" if record else "")
        inner = f"dict[{inner}]" if inner else ""
    elif origin is list and arguments:
        inner = form_of(arguments[0])
        inner = f"list[{inner}]" if inner else ""
    return inner + wanted.suffix


def _dump(value: Any, name: str, annotation: Any) -> Iterator[Written]:
    wanted = wanted_of(annotation)
    if value is None:
        return
    if isinstance(value, Path):
        yield from _path(value)
    elif isinstance(value, File):
        yield name + "".join(format_of(value.path)), value.read()
    elif (kind := _kind(value, wanted.type)) is not None:
        yield _one(kind, value, name, wanted.suffix)
    elif records.is_value(value):
        yield from _value(value, name, wanted.type, wanted.suffix)
    else:
        raise Invalid(
            "value.unknown",
            f"No codec keeps a value of type {name_of(type(value))}.",
            hint="Return a DataFrame, an array, bytes, text, a Path or JSON values, "
            "or call clew.codec.",
        )


def _kind(value: object, annotated: Any) -> Kind | None:
    """The codec of a value's own type, else of the type that it was said to be."""
    found = kind_of(type(value))
    if found is not None or records.is_value(value):
        return found
    return kind_of(annotated) if isinstance(annotated, type) else None


def _one(kind: Kind, value: Any, name: str, asked: str) -> Written:
    suffix = asked or kind.suffix
    if not _takes(kind, suffix):
        raise Invalid(
            "value.not_written",
            f"A {name_of(type(value))} cannot be kept as {suffix}.",
            hint=f"Use one of {', '.join(sorted(kind.suffixes or ()))}.",
        )
    return name + suffix, kind.write(value, suffix)


def _takes(kind: Kind, suffix: str) -> bool:
    return kind.suffixes is None or suffix in kind.suffixes


def _value(value: Any, name: str, wanted: Any, asked: str) -> Iterator[Written]:
    """A value of JSON, or a container of parts that are files of their own."""
    origin, arguments = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if isinstance(value, Mapping) and asked == ".npz":
        yield name + asked, numpy.write_members(value)
    elif isinstance(value, dict) and _are_files(value.values(), origin, arguments):
        item = arguments[1] if origin is dict and len(arguments) == 2 else NOT_SAID
        for key, part in value.items():
            yield from _part(part, name, str(key), item, asked)
    elif isinstance(value, list | tuple) and _are_files(value, origin, arguments):
        width = len(str(max(len(value) - 1, 0)))
        for at, part in enumerate(value):
            yield from _dump(part, f"{name}/{at:0{width}}", _item(arguments, at))
    else:
        yield _json(value, name, asked)


def _part(part: Any, name: str, key: str, item: Any, asked: str) -> Iterator[Written]:
    """One value of a dict; its key may name the format, and the whole path."""
    place = key.lstrip("/") if key.startswith("/") else f"{name}/{key}"
    suffix = "".join(format_of(key))
    if suffix and not asked and _can_be(part, suffix):
        asked, place = suffix, place[: -len(suffix)]
    yield from _dump(part, place, typing.Annotated[item, asked] if asked else item)


def _can_be(part: Any, suffix: str) -> bool:
    """Whether a value can be kept in the format of a suffix."""
    if isinstance(part, Path | File):
        return False
    kind = kind_of(type(part))
    if kind is not None:
        return _takes(kind, suffix)
    return suffix in records.WRITTEN and records.is_value(part)


def _item(arguments: tuple[Any, ...], at: int) -> Any:
    if not arguments:
        return NOT_SAID
    if len(arguments) == 1 or arguments[1:] == (Ellipsis,):
        return arguments[0]
    return arguments[at] if at < len(arguments) else NOT_SAID


def _json(value: Any, name: str, asked: str) -> Written:
    suffix = asked or ".json"
    if suffix.removesuffix(".gz") not in TABLES | {".json"}:
        raise Invalid(
            "value.not_written",
            f"A {name_of(type(value))} cannot be kept as {suffix}.",
            hint="Use .json, .jsonl, .csv or .parquet.",
        )
    return name + suffix, records.write_value(value, suffix)


def _are_files(parts: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether parts are files of their own: JSON cannot keep them, or the annotation says so."""
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return True
    if origin is dict and len(arguments) == 2 and records.is_record(wanted_of(arguments[1]).type):
        return True
    return _has_parts(list(parts))


def _has_parts(parts: Sequence[Any]) -> bool:
    kinds = {type(part): part for part in parts}
    return any(_is_part(part) for part in kinds.values()) or any(
        _has_parts(list(part.values()) if isinstance(part, dict) else part)
        for part in parts
        if isinstance(part, dict | list | tuple)
    )


def _is_part(value: object) -> bool:
    if isinstance(value, Path | File):
        return True
    return not isinstance(value, str) and kind_of(type(value)) is not None


def _path(path: Path) -> list[Written]:
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return [(file.relative_to(path).as_posix(), file) for file in inside]
    if not path.is_file():
        raise Invalid(
            "value.no_file",
            f"The step returned the path {path.name}, where there is no file.",
            hint="Write the file before you return its path.",
        )
    return [(path.name, path)]
