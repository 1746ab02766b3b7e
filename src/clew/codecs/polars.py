"""Polars frames: eager, and lazy over files on disk where they are large.

The one file of this room that knows polars.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from clew.base.errors import Invalid
from clew.codecs.arrow import WRITTEN, arrow_file, write_table
from clew.codecs.formats import ARROW, LINES, explained, need, suffix_in
from clew.codecs.kinds import Kind, Place
from clew.codecs.tables import Readers, is_level, read_each, stack
from clew.repos import File

SCANNED_BYTES = 64 << 20
"""Parquet files of so many bytes together are scanned from disk by a lazy frame."""


def read_frame(files: Sequence[File], asked: str = "", place: Place | None = None) -> Any:  # noqa: ARG001 - a codec's form
    """A polars DataFrame of all files, one below the other; without where rows stood in pandas."""
    polars = need("polars")
    read = read_each(files, asked, _readers(polars))
    frames = [frame.drop(_places(frame.schema)) for frame in read]
    if len(frames) == 1:
        return frames[0]
    return stack(files, lambda: polars.concat(frames, how="vertical_relaxed", rechunk=True))


def _read_lazy(files: Sequence[File], asked: str, place: Place) -> Any:
    """A LazyFrame of all files; large Parquet files stay on disk until it is collected."""
    large = sum(file.size for file in files) >= SCANNED_BYTES and place.scratch is not None
    if not large or {suffix_in(file, asked) for file in files} != {".parquet"}:
        return read_frame(files, asked).lazy()
    frame = need("polars").scan_parquet(place.export(files))
    with explained(files[0], ".parquet"):
        places = _places(frame.collect_schema())
    return frame.drop(places)


def _places(schema: Any) -> list[str]:
    return [name for name, kind in schema.items() if is_level(name) and kind.is_integer()]


def _readers(polars: Any) -> Readers:
    def separated(data: bytes, separator: str) -> Any:
        return polars.read_csv(
            data, separator=separator, infer_schema_length=None, try_parse_dates=True
        )

    def lines(data: bytes) -> Any:
        return polars.read_ndjson(data, infer_schema_length=None)

    return {
        ".parquet": lambda data: polars.read_parquet(BytesIO(data)),
        ".csv": lambda data: separated(data, ","),
        ".tsv": lambda data: separated(data, "\t"),
        ".json": lambda data: polars.read_json(data, infer_schema_length=None),
        **dict.fromkeys(LINES, lines),
        **dict.fromkeys(ARROW, lambda data: polars.from_arrow(arrow_file(data))),
    }


def _write_frame(frame: Any, suffix: str) -> bytes:
    return write_table(frame.rechunk().to_arrow(), suffix)


def _write_lazy(frame: Any, suffix: str) -> bytes:
    return _write_frame(frame.collect(), suffix)


def _read_series(files: Sequence[File], asked: str, place: Place) -> Any:
    frame = read_frame(files, asked, place)
    if frame.width != 1:
        raise Invalid(
            "file.unreadable",
            f"{files[0].path} has {frame.width} columns where a Series has one.",
            hint="Annotate with polars.DataFrame.",
        )
    return frame.to_series()


def _write_series(series: Any, suffix: str) -> bytes:
    return _write_frame(series.to_frame(), suffix)


FRAME = Kind(suffix=".parquet", suffixes=WRITTEN, read=read_frame, write=_write_frame)
LAZY = Kind(suffix=".parquet", suffixes=WRITTEN, read=_read_lazy, write=_write_lazy)
SERIES = Kind(suffix=".parquet", suffixes=WRITTEN, read=_read_series, write=_write_series)
