"""Polars frames: eager, and lazy over files on disk where they are large.

The one file of this room that knows polars.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from clew.base.columns import is_row_place
from clew.base.errors import Invalid
from clew.codecs.arrow import WRITTEN, arrow_file, write_table
from clew.codecs.formats import ARROW, LINES, explained, need, suffix_in
from clew.codecs.kinds import Kind, Place
from clew.codecs.tables import Readers, as_text, read_each, same_columns, same_kinds, stack
from clew.repos import File

SCANNED_BYTES = 64 << 20
"""Parquet files of so many bytes together are scanned from disk by a lazy frame."""


def read_frame(files: Sequence[File], asked: str = "", place: Place | None = None) -> Any:  # noqa: ARG001 - a codec's form
    """A polars DataFrame of all files, one below the other; without where rows stood in pandas."""
    polars = need("polars")
    read = read_each(files, asked, _readers(polars))
    frames = _without_places(read)
    if len(frames) == 1:
        return frames[0]
    types = [frame.schema for frame in _without_empty_kinds(polars, frames)]
    frames = _without_places(as_text(files, asked, frames, types, partial(_separated, polars)))
    frames = _without_empty_kinds(polars, frames)
    same_kinds(files, [frame.schema for frame in frames])
    return stack(files, lambda: polars.concat(frames, how="vertical_relaxed", rechunk=True))


def _without_empty_kinds(polars: Any, frames: list[Any]) -> list[Any]:
    """The frames, their columns without a value of no type where that of others is another: of CSV
    they come as text, and numbers of other files would with them.
    """
    kinds = {name: kind for frame in frames for name, kind in frame.schema.items()}
    odd = {name for frame in frames for name, kind in frame.schema.items() if kind != kinds[name]}
    if not odd:
        return frames
    empty = [
        [name for name in frame.columns if name in odd and frame[name].null_count() == frame.height]
        for frame in frames
    ]
    some = odd - set.intersection(*map(set, empty))
    return [
        frame.with_columns(polars.col(name).cast(polars.Null) for name in names if name in some)
        for frame, names in zip(frames, empty, strict=True)
    ]


def _read_lazy(files: Sequence[File], asked: str, place: Place) -> Any:
    """A LazyFrame of all files; large Parquet files stay on disk until it is collected."""
    large = sum(file.size for file in files) >= SCANNED_BYTES and place.scratch is not None
    if not large or {suffix_in(file, asked) for file in files} != {".parquet"}:
        return read_frame(files, asked).lazy()
    return _scanned(need("polars"), files, place.export(files))


def _scanned(polars: Any, files: Sequence[File], paths: Sequence[Path]) -> Any:
    """A LazyFrame over Parquet on disk."""
    frames = [polars.scan_parquet(path) for path in paths]
    schemas = []
    for file, frame in zip(files, frames, strict=True):
        with explained(file, ".parquet"):
            schemas.append(frame.collect_schema())
    if all(schema == schemas[0] for schema in schemas):
        return polars.scan_parquet(paths).drop(_places(schemas[0]))
    frames = [frame.drop(_places(schema)) for frame, schema in zip(frames, schemas, strict=True)]
    types = [frame.collect_schema() for frame in frames]
    same_columns(files, [one.names() for one in types])
    same_kinds(files, types)
    return polars.concat(frames, how="vertical_relaxed")


def _without_places(frames: Sequence[Any]) -> list[Any]:
    return [frame.drop(_places(frame.schema)) for frame in frames]


def _places(schema: Any) -> list[str]:
    return [name for name, kind in schema.items() if is_row_place(name, kind)]


def _separated(polars: Any, data: bytes, separator: str, texts: Collection[str] = ()) -> Any:
    return polars.read_csv(
        data,
        separator=separator,
        infer_schema_length=None,
        try_parse_dates=True,
        schema_overrides=dict.fromkeys(texts, polars.String),
    )


def _readers(polars: Any) -> Readers:
    def lines(data: bytes) -> Any:
        return polars.read_ndjson(data, infer_schema_length=None)

    return {
        ".parquet": lambda data: polars.read_parquet(BytesIO(data)),
        ".csv": lambda data: _separated(polars, data, ","),
        ".tsv": lambda data: _separated(polars, data, "\t"),
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
