"""Pandas frames and series.

The one file of this room that knows pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from clew.base.errors import Invalid
from clew.codecs import arrow
from clew.codecs.formats import ARROW, first_line, need
from clew.codecs.kinds import Kind, Place
from clew.codecs.tables import read_each, same_columns, stack
from clew.repos import File


def read_frame(files: Sequence[File], asked: str = "", place: Place | None = None) -> Any:  # noqa: ARG001 - a codec's form
    """A pandas DataFrame of all files; the index runs on over several."""
    pandas = need("pandas")
    readers = {suffix: _to_pandas(read) for suffix, read in arrow.readers().items()} | {
        ".csv": lambda data: pandas.read_csv(BytesIO(data)),
        ".tsv": lambda data: pandas.read_csv(BytesIO(data), sep="\t"),
    }
    frames = read_each(files, asked, readers)
    if len(frames) == 1:
        return frames[0]
    same_columns(files, [list(frame.columns) for frame in frames])
    return stack(files, lambda: pandas.concat(frames, ignore_index=True))


def _to_pandas(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    return lambda data: read(data).to_pandas()


def _write_frame(frame: Any, suffix: str) -> bytes:
    """A DataFrame; in Parquet and Arrow with its index, unless that only counts rows."""
    pyarrow = need("pyarrow")
    with_index = None if suffix in {".parquet", *ARROW} else False
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
