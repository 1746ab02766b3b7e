"""Files as values: what an annotation says, and its reader.

Knows how kinds are put together: one value, one for each file, by path; not how any is read.
"""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec.structs import replace

from clew.base.errors import Invalid
from clew.codecs import numpy, records
from clew.codecs.formats import TABLES, format_of, stem_of, suffix_in
from clew.codecs.kinds import Place, only
from clew.codecs.registry import cached_kind, kind_of, name_of
from clew.codecs.wanted import NOT_SAID, Wanted, wanted_of
from clew.repos import File, file_of

if TYPE_CHECKING:
    from clew.store import Store

Reader: TypeAlias = Callable[[Sequence[File], Place], Any]
"""What makes the value of a parameter of its files, in the order of their paths."""

_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_DICTS = (dict, collections.abc.Mapping)


def load_value(
    store: Store,
    tree: str,
    paths: Sequence[str],
    annotation: object = NOT_SAID,
    *,
    scratch: Path | None = None,
    directory: bool = False,
) -> Any:
    """The files of a tree as a value of the annotated type; see :func:`reader_of`.

    ``scratch`` is a directory of its own for types that are read from disk; it need not be there.

    Raises:
        NotFound: ``file.unknown``.
        Invalid: as :func:`reader_of` and its readers.
    """
    files = [file_of(store, tree, path) for path in paths]
    return reader_of(annotation)(files, Place(scratch=scratch, directory=directory))


def reader_of(annotation: object) -> Reader:
    """What makes values of the annotated type of files.

    Frames: several files are put below one another. ``tuple[X, ...]`` is one X a file; so are
    ``list[X]`` and, by path without slash and suffix, ``dict[str, X]``. Where X is of JSON,
    ``list[X]`` is all X that the files hold (items of arrays, lines, rows of tables), and
    ``dict[str, X]`` the object of one JSON file, but for classes of records: those are one a file.
    ``Optional[X]`` is None where there is no file. ``Path`` is the file where there is one, else
    (and always with ``directory``) the directory. ``clew.File`` reads nothing yet. ``str`` is UTF-8
    text. ``Annotated[X, ".csv"]`` reads any file as CSV. Without an annotation: tables come as
    polars, JSON as its value, others as bytes; several that make no table as a list.

    The reader raises Invalid ``file.unreadable`` (naming path, format, reason and row),
    ``files.differ``, ``input.empty``, ``input.many_files``.

    Raises:
        Invalid: ``codec.unknown`` where no codec knows the type.
    """
    try:
        return _cached(annotation)
    except TypeError:  # metadata that has no hash
        return _reader(annotation)


def _reader(annotation: Any) -> Reader:
    wanted = wanted_of(annotation)
    read = _of(wanted)
    if wanted.optional:
        return lambda files, place: read(files, place) if files else None
    return read


def _of(wanted: Wanted) -> Reader:
    kind, asked = wanted.type, wanted.suffix
    if kind is None:
        return lambda files, place: _unasked(files, asked, place)
    own = kind_of(kind) if typing.get_origin(kind) is None else None
    if own is not None:
        return lambda files, place: own.read(files, asked, place)
    made = _container(wanted)
    if made is not None:
        return made
    if records.is_json(kind):
        return lambda files, _: records.read_value(only(files), asked, kind)
    if isinstance(kind, str):
        raise Invalid(
            "code.annotation",
            f"The annotation {kind!r} cannot be read: the module has no such name when it runs.",
            hint="Import the type where the module can see it, not under TYPE_CHECKING only.",
        )
    raise Invalid(
        "codec.unknown",
        f"No codec reads a value of type {name_of(kind)}.",
        hint="Annotate with pathlib.Path or clew.File to get files, or call clew.codec.",
    )


def _container(wanted: Wanted) -> Reader | None:
    """The reader of a list, a tuple or a dict; None for other types and for plain JSON."""
    kind, asked = wanted.type, wanted.suffix
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is tuple and arguments:
        if arguments[1:] == (Ellipsis,):
            return _each(arguments[0], asked, tuple)
        return None if records.is_json(kind) else _one_each(arguments, asked)
    if origin in _LISTS:
        return _list(arguments[0] if arguments else Any, asked)
    if origin in _DICTS and len(arguments) == 2:
        return _dict(arguments[1], asked)
    return None


def _list(item: Any, asked: str) -> Reader:
    inner = wanted_of(item)
    if inner.type is str or inner.type == "str":
        return _texts(asked or inner.suffix)
    if records.is_json(item):
        form = asked or inner.suffix
        return lambda files, _: records.read_items(files, form, item)
    return _each(item, asked, list)


def _dict(item: Any, asked: str) -> Reader:
    inner = wanted_of(item)
    form = asked or inner.suffix
    if inner.type is str or inner.type == "str":
        by_path = _by_path(item, asked)
        return lambda files, place: (
            records.read_named(files, form, str)
            if len(files) == 1 and suffix_in(files[0], form) == ".json"
            else by_path(files, place)
        )
    if records.is_json(item) and not _has_records(inner.type):
        return lambda files, _: records.read_named(files, form, item)
    if inner.type is not None and name_of(inner.type) == "numpy.ndarray":
        return _arrays(item, asked)
    return _by_path(item, asked)


def _has_records(kind: Any) -> bool:
    return records.is_record(kind) or any(_has_records(one) for one in typing.get_args(kind))


def _each(item: Any, asked: str, kind: Callable[[Any], Any]) -> Reader:
    read = reader_of(_with(item, asked))
    return lambda files, place: kind(read([file], _inner(place)) for file in files)


def _by_path(item: Any, asked: str) -> Reader:
    read = reader_of(_with(item, asked))
    return lambda files, place: {stem_of(file.path): read([file], _inner(place)) for file in files}


def _one_each(items: tuple[Any, ...], asked: str) -> Reader:
    """A tuple of so many types: the files in the order of their paths."""
    readers = [reader_of(_with(item, asked)) for item in items]

    def read(files: Sequence[File], place: Place) -> Any:
        if len(files) != len(readers):
            raise Invalid(
                "input.many_files",
                f"This input has {len(files)} files where {len(readers)} are expected.",
                hint="Annotate with tuple[X, ...] to get one X for each file.",
            )
        inner = _inner(place)
        return tuple(one([file], inner) for one, file in zip(readers, files, strict=True))

    return read


def _texts(asked: str) -> Reader:
    """The texts of files; a JSON file of texts is its list."""
    read = reader_of(str)

    def texts(files: Sequence[File], place: Place) -> list[str]:
        found: list[str] = []
        for file in files:
            if suffix_in(file, asked) == ".json":
                found += records.read_items([file], asked, str)
            else:
                found.append(read([file], place))
        return found

    return texts


def _arrays(item: Any, asked: str) -> Reader:
    """Arrays by path; those of an .npz file by path and name."""
    by_path = _by_path(item, asked)
    return lambda files, place: {
        key: array
        for file in files
        for key, array in (
            {
                f"{stem_of(file.path)}/{name}": one
                for name, one in numpy.read_members(file, asked).items()
            }
            if suffix_in(file, asked) == ".npz"
            else by_path([file], place)
        ).items()
    }


def _inner(place: Place) -> Place:
    return replace(place, directory=False)


def _with(item: Any, asked: str) -> Any:
    return typing.Annotated[item, asked] if asked and item is not Any else item


def _unasked(files: Sequence[File], asked: str, place: Place) -> Any:
    if files and all(suffix_in(file, asked) in TABLES for file in files):
        frames = cached_kind("polars.DataFrame")
        assert frames is not None
        return frames.read(files, asked, place)
    if len(files) != 1:
        return [_unasked([file], asked, place) for file in files]
    if format_of(files[0].path)[0] == ".json":
        return records.read_value(files[0], asked, None)
    return files[0].read()


_cached = lru_cache(maxsize=1024)(_reader)
