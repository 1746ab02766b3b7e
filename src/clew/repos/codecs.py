"""Typed values as files and back: what an annotation says, in an open registry.

Knows no table library (``frames.py`` does) and imports none: types are matched by their names.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from clew.base.address import normal_path
from clew.base.errors import Invalid
from clew.repos import frames
from clew.repos.files import File, file_of

if TYPE_CHECKING:
    from clew.store import Store

Content = bytes | Path
_SHORT = {"pl": "polars", "pd": "pandas", "pa": "pyarrow", "np": "numpy"}


@dataclass(frozen=True, kw_only=True)
class Codec:
    """How values of one type become a file and come back.

    ``type_name`` is the root package and the class: ``polars.DataFrame`` (so that matching imports
    nothing). ``load`` gets one file or more, in the order of their paths, and makes one value;
    ``dump`` gives the bytes of a value, the same for equal values. Both may raise ClewErrors.
    """

    type_name: str
    suffix: str
    load: Callable[[Sequence[File]], Any]
    dump: Callable[[Any], bytes]


@dataclass(frozen=True, kw_only=True)
class _Loading:
    """What a load may use besides the files."""

    scratch: Path | None
    directory: bool


def register_codec(codec: Codec) -> None:
    """Let steps take and return values of another type. The last one for a type counts."""
    _CODECS[codec.type_name] = codec


def load_value(
    store: Store,
    tree: str,
    paths: Sequence[str],
    annotation: object = None,
    *,
    scratch: Path | None = None,
    directory: bool = False,
) -> Any:
    """The files of a tree as a value of the annotated type.

    Frames: several files are put below one another. ``tuple[X, ...]`` is one X a file. So are
    ``list[X]`` and, by path without slash and suffix, ``dict[str, X]``, but where X is of JSON:
    then they are the value of one JSON file, however many there are. ``Path`` needs ``scratch``, a
    directory of its own that the files are exported to: it is the file where there is one, else
    (and always with ``directory=True``) the directory. ``clew.File`` reads nothing yet. ``str`` is
    UTF-8 text; ``dict``, ``list``, ``int``, ``float``, ``bool`` are JSON. Without an annotation:
    tables come as polars, JSON as its value, others as bytes; several that make no table as a list.

    Raises:
        NotFound: ``file.unknown``.
        Invalid: ``file.unreadable`` (naming path, format and reason), ``files.differ``,
            ``input.empty``, ``input.many_files``, ``codec.unknown``.
    """
    files = [file_of(store, tree, path) for path in paths]
    return _load(files, annotation, _Loading(scratch=scratch, directory=directory))


def dump_value(value: object, directory_name: str) -> list[tuple[str, Content]]:
    """Files (normal path, content) that keep a value; equal values give equal files.

    A frame becomes ``/<name>.parquet``, an array ``.npy``, ``bytes`` ``.bin``, ``str`` ``.txt``,
    JSON values ``.json``. A tuple or list of such values that JSON cannot keep becomes
    ``/<name>/0.parquet`` …, a dict of them ``/<name>/<key>.parquet``. A Path is the file, under
    its own name, or all files below the directory. None is no file.

    Raises:
        Invalid: ``value.unknown`` where no codec knows the type.
    """
    return [(normal_path(path), content) for path, content in _dump(value, directory_name)]


def _load(files: Sequence[File], annotation: Any, loading: _Loading) -> Any:
    annotation = _plain(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None:
        return _load_unasked(files, loading)
    if origin in (list, tuple, dict) and _are_per_file(origin, arguments):
        each = replace(loading, directory=False)
        if origin is dict:
            return {_key(file): _load([file], arguments[1], each) for file in files}
        return origin(_load([file], arguments[0], each) for file in files)
    name = _name(origin or annotation)
    if name == "pathlib.Path":
        return _load_path(files, loading)
    if name == "clew.File":
        return _only(files)
    codec = _CODECS.get(name)
    if codec is None:
        raise Invalid(
            "codec.unknown",
            f"No codec loads a value of type {name}.",
            hint="Annotate with pathlib.Path to get files, or call clew.register_codec.",
        )
    if not files:
        raise Invalid(
            "input.empty",
            f"There is no file to make a {name} of.",
            hint="Check the glob of the input, or annotate with list[...].",
        )
    return codec.load(files)


def _load_unasked(files: Sequence[File], loading: _Loading) -> Any:
    if files and all(file.suffix in frames.TABLE_SUFFIXES for file in files):
        return frames.load_polars(files)
    if len(files) != 1:
        return [_load_unasked([file], loading) for file in files]
    return _load_json(files) if files[0].suffix == ".json" else files[0].read()


def _load_path(files: Sequence[File], loading: _Loading) -> Path:
    if loading.scratch is None:
        raise Invalid(
            "codec.scratch",
            "A Path can only be loaded where there is a directory to export files to.",
            hint="Pass scratch=, or annotate with clew.File.",
        )
    targets = [file.export(loading.scratch / file.path.lstrip("/")) for file in files]
    return targets[0] if len(targets) == 1 and not loading.directory else loading.scratch


def _load_bytes(files: Sequence[File]) -> bytes:
    return _only(files).read()


def _load_text(files: Sequence[File]) -> str:
    file = _only(files)
    try:
        return file.read().decode()
    except UnicodeDecodeError as error:
        raise _unreadable(file, "UTF-8 text", error) from None


def _load_json(files: Sequence[File]) -> Any:
    file = _only(files)
    try:
        return msgspec.json.decode(file.read())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(file, "JSON", error) from None


def _load_typed_json(expected: type) -> Callable[[Sequence[File]], Any]:
    def load(files: Sequence[File]) -> Any:
        value = _load_json(files)
        try:
            return msgspec.convert(value, expected)
        except msgspec.ValidationError as error:
            raise _unreadable(_only(files), f"a JSON {expected.__name__}", error) from None

    return load


def _unreadable(file: File, as_what: str, error: Exception) -> Invalid:
    return Invalid(
        "file.unreadable",
        f"{file.path} ({file.size} bytes) is not readable as {as_what}: {error}.",
        hint="Look at the file, and commit one that can be read in its place.",
    )


def _only(files: Sequence[File]) -> File:
    if len(files) != 1:
        raise Invalid(
            "input.many_files",
            f"This input has {len(files)} files where one is expected.",
            hint="Annotate with tuple[X, ...] to get one X for each file, or take one datum per "
            "file.",
        )
    return files[0]


def _key(file: File) -> str:
    return file.path.lstrip("/").removesuffix(file.suffix)


def _are_per_file(origin: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether there is one value a file. ``tuple[X, ...]`` always is: JSON has no tuples."""
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return True
    return _is_per_file(arguments[-1 if origin is dict else 0])


def _is_per_file(item: Any) -> bool:
    """Whether ``list[item]`` is one value per file, not one JSON array."""
    item = _plain(item)
    if item is None or item is Ellipsis:
        return False
    name = _name(typing.get_origin(item) or item)
    codec = _CODECS.get(name)
    return name in {"pathlib.Path", "clew.File"} or (codec is not None and codec.suffix != ".json")


def _plain(annotation: Any) -> Any:
    """An annotation without Annotated, Optional and the ways to say nothing (None then)."""
    if annotation in (None, Any, object, Parameter.empty):
        return None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _plain(arguments[0])
    if origin in (typing.Union, types.UnionType):
        some = [argument for argument in arguments if argument is not type(None)]
        return _plain(some[0]) if len(some) == 1 else None
    return annotation


def _name(kind: Any) -> str:
    """Root package and class, the same however the type was imported or written."""
    if isinstance(kind, str):
        root, _, rest = kind.partition(".")
        return f"{_SHORT.get(root, root)}.{rest.rsplit('.', 1)[-1]}" if rest else _BARE.get(
            kind, kind
        )  # fmt: skip
    if not isinstance(kind, type):
        return str(kind)
    root = kind.__module__.partition(".")[0]
    return kind.__name__ if root == "builtins" else f"{root.lstrip('_')}.{kind.__name__}"


_BARE = {"Path": "pathlib.Path", "File": "clew.File"}


def _dump(value: Any, name: str) -> list[tuple[str, Content]]:
    if value is None:
        return []
    if isinstance(value, Path):
        return _dump_path(value)
    if isinstance(value, File):
        return [(name + value.suffix, value.read())]
    codec = _codec_of(value)
    if codec is not None and not (codec.suffix == ".json" and _has_parts(value)):
        return [(name + codec.suffix, codec.dump(value))]
    if isinstance(value, dict):
        parts = {str(key): part for key, part in value.items()}
        return [file for key, part in parts.items() for file in _dump(part, f"{name}/{key}")]
    if isinstance(value, list | tuple):
        return [file for at, part in enumerate(value) for file in _dump(part, f"{name}/{at}")]
    raise Invalid(
        "value.unknown",
        f"No codec keeps a value of type {_name(type(value))}.",
        hint="Return a DataFrame, an array, bytes, text, a Path or JSON values, "
        "or call clew.register_codec.",
    )


def _dump_path(path: Path) -> list[tuple[str, Content]]:
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


def _codec_of(value: object) -> Codec | None:
    names = (_name(kind) for kind in type(value).__mro__)
    return next((_CODECS[name] for name in names if name in _CODECS), None)


def _has_parts(value: object) -> bool:
    """Whether a container holds what JSON cannot keep but another codec can."""
    if not isinstance(value, dict | list | tuple):
        return False
    parts = list(value.values()) if isinstance(value, dict) else value
    kinds = {type(part): part for part in parts}
    return any(_is_part(part) for part in kinds.values()) or any(
        _has_parts(part) for part in parts if isinstance(part, dict | list | tuple)
    )


def _is_part(value: object) -> bool:
    codec = _codec_of(value)
    return isinstance(value, Path | File) or (
        codec is not None and codec.suffix not in {".json", ".txt"}
    )


def _dump_json(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_scalar, order="deterministic")
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(
            "value.not_json",
            f"The value cannot be kept as JSON: {error}.",
            hint="Return numbers, texts, lists and dicts with text keys, or register a codec.",
        ) from None


def _scalar(value: Any) -> object:
    """The Python number in a numpy scalar."""
    if _name(type(value)).startswith("numpy.") and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"it holds a {_name(type(value))}")


def _same(value: bytes) -> bytes:
    return bytes(value)


_TEXT = Codec(type_name="str", suffix=".txt", load=_load_text, dump=str.encode)
_BYTES = Codec(type_name="bytes", suffix=".bin", load=_load_bytes, dump=_same)
_LAZY = Codec(
    type_name="polars.LazyFrame",
    suffix=".parquet",
    load=frames.load_lazy,
    dump=frames.dump_lazy,
)
_FRAMES = (
    _LAZY,
    replace(_LAZY, type_name="polars.DataFrame", load=frames.load_polars, dump=frames.dump_polars),
    replace(_LAZY, type_name="pandas.DataFrame", load=frames.load_pandas, dump=frames.dump_pandas),
    replace(_LAZY, type_name="pyarrow.Table", load=frames.load_arrow, dump=frames.dump_arrow),
    replace(
        _LAZY, type_name="duckdb.DuckDBPyRelation", load=frames.load_duckdb, dump=frames.dump_duckdb
    ),
    Codec(
        type_name="numpy.ndarray",
        suffix=".npy",
        load=frames.load_numpy,
        dump=frames.dump_numpy,
    ),
)
_JSON = tuple(
    Codec(type_name=kind.__name__, suffix=".json", load=_load_typed_json(kind), dump=_dump_json)
    for kind in (bool, int, float, list, dict, tuple)
)
_CODECS = {codec.type_name: codec for codec in (_TEXT, _BYTES, *_FRAMES, *_JSON)}
