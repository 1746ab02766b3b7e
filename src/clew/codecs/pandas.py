"""Pandas frames and series.

The one file of this room that knows pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from io import BytesIO
from typing import Any

from clew.base.columns import NOTHING
from clew.base.errors import Invalid
from clew.codecs import arrow
from clew.codecs.formats import ARROW, DELIMITERS, first_line, need
from clew.codecs.kinds import Kind, Place
from clew.codecs.tables import as_text, read_each, same_columns, same_kinds, stack
from clew.repos import File

_INFERRED = {
    "integer": "int64",
    "floating": "float64",
    "mixed-integer-float": "float64",
    "boolean": "bool",
    "bytes": "binary",
    "datetime": "datetime",
    "timedelta": "duration",
}
"""What pandas says of objects, as other libraries write such a type."""


def read_frame(files: Sequence[File], asked: str = "", place: Place | None = None) -> Any:  # noqa: ARG001 - a codec's form
    """A pandas DataFrame of all files, one below the other.

    An index that only says where a row stood runs on over several; any other is kept. Categories
    are those of all files together.
    """
    pandas = need("pandas")
    readers = {suffix: _to_pandas(read) for suffix, read in arrow.readers().items()} | {
        suffix: partial(_separated, pandas, delimiter=delimiter)
        for suffix, delimiter in DELIMITERS.items()
    }
    frames = read_each(files, asked, readers)
    if len(frames) == 1:
        return frames[0]
    same_columns(files, [[*_kept_levels(frame.index), *frame.columns] for frame in frames])
    places = all(_is_place(frame.index) for frame in frames)
    together = _with_all_categories(pandas, frames)
    kinds = _kinds(pandas, together)
    together = as_text(files, asked, together, kinds, partial(_separated, pandas))
    together = _of_one_kind(pandas, files, together)
    return stack(files, lambda: pandas.concat(together, ignore_index=places))


def _separated(pandas: Any, data: bytes, delimiter: str, texts: Collection[str] = ()) -> Any:
    return pandas.read_csv(BytesIO(data), sep=delimiter, dtype=dict.fromkeys(texts, str))


def _of_one_kind(pandas: Any, files: Sequence[File], frames: list[Any]) -> list[Any]:
    """The frames, their own to write into, where each column holds values of one kind in all files.

    A column without a value gets the type that it has elsewhere. Raises Invalid ``files.differ``.
    """
    kinds = _kinds(pandas, frames)
    same_kinds(files, kinds)
    for name in kinds[0]:
        known = [
            frame[name].dtype
            for frame, kind in zip(frames, kinds, strict=True)
            if kind[name] != NOTHING
        ]
        for frame, kind in zip(frames, kinds, strict=True):
            if kind[name] == NOTHING and known:
                frame[name] = _nothing(pandas, frame[name], known[0])
    return frames


def _kinds(pandas: Any, frames: list[Any]) -> list[dict[str, str]]:
    """Of each frame, what its columns hold that are not plainly of one type in all."""
    if not frames[0].columns.is_unique:
        return [{} for _ in frames]
    odd = [
        name
        for name in frames[0].columns
        if len(dtypes := {frame[name].dtype for frame in frames}) > 1 or object in dtypes
    ]
    return [{name: _kind(pandas, frame[name]) for name in odd} for frame in frames]


def _kind(pandas: Any, column: Any) -> str:
    """What values a column holds, as a type is written; of objects, what they are."""
    if column.isna().all():
        return NOTHING
    if isinstance(column.dtype, pandas.CategoricalDtype):
        return _kind(pandas, column.dtype.categories.to_series())
    if column.dtype != object:
        text = pandas.api.types.is_string_dtype(column.dtype)
        return "string" if text else str(column.dtype).partition("[pyarrow]")[0]
    found: str = pandas.api.types.infer_dtype(column, skipna=True)
    return _INFERRED.get(found, found)


def _nothing(pandas: Any, column: Any, kind: Any) -> Any:
    """The same rows without a value, in a type that goes with another."""
    kinds = pandas.api.types
    if not len(column):
        return column.astype(kind)
    if kinds.is_bool_dtype(kind):  # where nothing is there, it would say False
        return column
    try:
        return column.astype("float64" if kinds.is_numeric_dtype(kind) else kind)
    except (TypeError, ValueError):  # a type that has no missing values
        return column


def _to_pandas(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    return lambda data: read(data).to_pandas()


def _is_place(index: Any) -> bool:
    """Whether an index only says where a row stood, here or before rows were left out: whole
    numbers without a name.
    """
    integers = need("pandas").api.types.is_integer_dtype
    return index.nlevels == 1 and index.name is None and bool(integers(index.dtype))


def _kept_levels(index: Any) -> list[str]:
    """How the levels of an index are called; none of one that only says where rows stood."""
    return [] if _is_place(index) else [f"the index {name}" for name in index.names]


def _with_all_categories(pandas: Any, frames: list[Any]) -> list[Any]:
    """The frames, their own to write into, with one set of categories a column.

    Else a column whose categories differ from file to file would come as text.
    """
    if not frames[0].columns.is_unique:
        return frames
    for name in frames[0].columns:
        kinds = [frame[name].dtype for frame in frames]
        if len(set(kinds)) > 1 and all(_is_unordered(pandas, kind) for kind in kinds):
            known = _all_categories([kind.categories for kind in kinds])
            for frame in frames:
                frame[name] = frame[name].cat.set_categories(known)
    return frames


def _is_unordered(pandas: Any, kind: Any) -> bool:
    return isinstance(kind, pandas.CategoricalDtype) and not kind.ordered


def _all_categories(each: Sequence[Any]) -> Any:
    """Each category once: sorted where they are in each file, else as they come."""
    known = each[0].append(list(each[1:])).unique()
    ordered = all(one.is_monotonic_increasing and one.dtype == each[0].dtype for one in each)
    return known.sort_values() if ordered else known


def _write_frame(frame: Any, suffix: str) -> bytes:
    """A DataFrame with its index: in Parquet and Arrow as such, unless that only counts rows; in
    other formats as columns, unless it only says where rows stood.
    """
    pyarrow = need("pyarrow")
    with_index = None
    if suffix not in {".parquet", *ARROW}:
        with_index = False
        frame = _with_index_as_columns(frame)
    try:
        table = pyarrow.Table.from_pandas(frame, preserve_index=with_index)
    except (
        pyarrow.ArrowInvalid,
        pyarrow.ArrowTypeError,
        pyarrow.ArrowNotImplementedError,
    ) as error:
        raise Invalid(
            "value.not_parquet",
            f"A pandas DataFrame cannot be kept: {first_line(error)}.",
            hint="Give each column one type before you return the frame.",
        ) from None
    return arrow.write_table(table, suffix)


def _with_index_as_columns(frame: Any) -> Any:
    levels = [at for at, name in enumerate(frame.index.names) if name not in frame.columns]
    return frame if _is_place(frame.index) or not levels else frame.reset_index(level=levels)


def _read_series(files: Sequence[File], asked: str, place: Place) -> Any:
    frame = read_frame(files, asked, place)
    if len(frame.columns) != 1:
        raise Invalid(
            "file.unreadable",
            f"{files[0].path} has {len(frame.columns)} columns where a Series has one.",
            hint="Annotate with pandas.DataFrame.",
        )
    return frame.iloc[:, 0]


def _write_series(series: Any, suffix: str) -> bytes:
    name = "value" if series.name is None else series.name
    return _write_frame(series.to_frame(name), suffix)


FRAME = Kind(suffix=".parquet", suffixes=arrow.WRITTEN, read=read_frame, write=_write_frame)
SERIES = Kind(suffix=".parquet", suffixes=arrow.WRITTEN, read=_read_series, write=_write_series)
