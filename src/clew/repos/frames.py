"""Tables between files and the libraries that people use: polars, pandas, Arrow, DuckDB, numpy.

Knows no annotation. Each library is imported when a value of it is asked for. Writing is
deterministic: the same frame gives the same Parquet bytes, so that a digest means the content.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import msgspec

from clew.base.errors import ClewError, Invalid, Unavailable
from clew.repos.files import File

ARROW_SUFFIXES = frozenset({".arrow", ".feather", ".ipc"})
LINE_SUFFIXES = frozenset({".jsonl", ".ndjson"})
TABLE_SUFFIXES = ARROW_SUFFIXES | LINE_SUFFIXES | {".parquet", ".csv"}
"""Files that hold a table whatever is asked for; .json may be one."""

_FORMATS = {".parquet": "Parquet", ".csv": "CSV", ".json": "JSON", ".npy": "NPY"} | {
    **dict.fromkeys(ARROW_SUFFIXES, "Arrow"),
    **dict.fromkeys(LINE_SUFFIXES, "JSON lines"),
}
_ROW_GROUP = 262_144


def load_polars(files: Sequence[File]) -> Any:
    """A polars DataFrame of all files, one below the other."""
    polars = need("polars")
    frames = [_read(file, _polars_readers(polars)) for file in files]
    return frames[0] if len(frames) == 1 else _stack(files, lambda: polars.concat(
        frames, how="vertical_relaxed", rechunk=True
    ))  # fmt: skip


def load_lazy(files: Sequence[File]) -> Any:
    """A polars LazyFrame of all files."""
    return load_polars(files).lazy()


def load_pandas(files: Sequence[File]) -> Any:
    """A pandas DataFrame of all files; the index runs on over several."""
    pandas = need("pandas")
    frames = [_read(file, _pandas_readers(pandas)) for file in files]
    if len(frames) == 1:
        return frames[0]
    _same_columns(files, [list(frame.columns) for frame in frames])
    return _stack(files, lambda: pandas.concat(frames, ignore_index=True))


def load_arrow(files: Sequence[File]) -> Any:
    """An Arrow table of all files."""
    arrow = need("pyarrow")
    tables = [_read(file, _arrow_readers()) for file in files]
    if len(tables) == 1:
        return tables[0]
    _same_columns(files, [table.column_names for table in tables])
    return _stack(files, lambda: arrow.concat_tables(tables, promote_options="permissive"))


def load_duckdb(files: Sequence[File]) -> Any:
    """A DuckDB relation over all files, on a connection of its own."""
    return need("duckdb").connect().from_arrow(load_arrow(files))


def load_numpy(files: Sequence[File]) -> Any:
    """An array: of .npy files, joined along the first axis, or of a table's columns."""
    numpy = need("numpy")
    if any(file.suffix != ".npy" for file in files):
        return load_arrow(files).to_pandas().to_numpy()
    load = {".npy": lambda data: numpy.load(BytesIO(data), allow_pickle=False)}
    arrays = [_read(file, load) for file in files]
    return arrays[0] if len(arrays) == 1 else _stack(files, lambda: numpy.concatenate(arrays))


def dump_polars(frame: Any) -> bytes:
    """Parquet of a polars DataFrame."""
    return dump_arrow(frame.rechunk().to_arrow())


def dump_lazy(frame: Any) -> bytes:
    """Parquet of what a polars LazyFrame gives."""
    return dump_polars(frame.collect())


def dump_pandas(frame: Any) -> bytes:
    """Parquet of a pandas DataFrame, its index with it unless that only counts rows."""
    arrow = need("pyarrow")
    try:
        return dump_arrow(arrow.Table.from_pandas(frame))
    except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
        raise Invalid(
            "value.not_parquet",
            f"A pandas DataFrame cannot be kept as Parquet: {error}.",
            hint="Give each column one type before you return the frame.",
        ) from None


def dump_arrow(table: Any) -> bytes:
    """Parquet of an Arrow table."""
    parquet = importlib.import_module("pyarrow.parquet")
    sink = BytesIO()
    parquet.write_table(
        table.combine_chunks(),
        sink,
        row_group_size=_ROW_GROUP,
        compression="zstd",
        compression_level=1,
        version="2.6",
        use_dictionary=_with_dictionary(table.schema),
    )
    return sink.getvalue()


def _with_dictionary(schema: Any) -> bool | list[str]:
    """Columns to dictionary-encode: trying it on floats more than doubles the time of writing."""
    types = need("pyarrow").types
    if any(types.is_nested(column.type) for column in schema):
        return True  # leaves of nested columns cannot be chosen by the names of columns
    return [column.name for column in schema if not types.is_floating(column.type)]


def dump_duckdb(relation: Any) -> bytes:
    """Parquet of what a DuckDB relation gives."""
    return dump_arrow(relation.to_arrow_table())


def dump_numpy(array: Any) -> bytes:
    """NPY of an array that holds no Python objects."""
    numpy = need("numpy")
    if array.dtype.hasobject:
        raise Invalid(
            "value.objects",
            "A numpy array of Python objects cannot be kept.",
            hint="Give it a number or string dtype, or return a DataFrame.",
        )
    sink = BytesIO()
    numpy.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def need(module: str) -> Any:
    """A library that may not be installed.

    Raises:
        Unavailable: ``extra.missing``, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise Unavailable(
            "extra.missing",
            f"This needs {module}, which is not installed.",
            hint='Install it: pip install "clew[standard]"',
        ) from None


_Reader = Callable[[bytes], Any]


def _read(file: File, readers: dict[str, _Reader]) -> Any:
    reader = readers.get(file.suffix)
    if reader is None:
        raise Invalid(
            "file.unreadable",
            f"{file.path} is not a file that holds a table ({', '.join(sorted(readers))}).",
            hint="Choose such files with a glob, or annotate the parameter with clew.File.",
        )
    with _explained(file):
        return reader(file.read())


@contextmanager
def _explained(file: File) -> Iterator[None]:
    try:
        yield
    except ClewError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise Invalid(
            "file.unreadable",
            f"{file.path} ({file.size} bytes) is not readable as {_FORMATS[file.suffix]}: "
            f"{reason}.",
            hint="Look at the file, and commit one that can be read in its place.",
        ) from error


def _stack(files: Sequence[File], act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise _differ(files, reason) from error


def _same_columns(files: Sequence[File], columns: Sequence[list[str]]) -> None:
    for file, names in zip(files, columns, strict=True):
        if set(names) != set(columns[0]):
            odd = ", ".join(sorted(set(map(str, names)) ^ set(map(str, columns[0]))))
            raise _differ(files, f"{file.path} and {files[0].path} do not both have {odd}")


def _differ(files: Sequence[File], reason: str) -> Invalid:
    return Invalid(
        "files.differ",
        f"{len(files)} files from {files[0].path} to {files[-1].path} are not one table: {reason}.",
        hint="Annotate the parameter with list[...] to get one value for each file.",
    )


def _polars_readers(polars: Any) -> dict[str, _Reader]:
    def csv(data: bytes) -> Any:
        return polars.read_csv(data, infer_schema_length=None, try_parse_dates=True)

    return {
        ".parquet": lambda data: polars.read_parquet(BytesIO(data)),
        ".csv": csv,
        ".json": lambda data: polars.read_json(data, infer_schema_length=None),
        **dict.fromkeys(
            LINE_SUFFIXES, lambda data: polars.read_ndjson(data, infer_schema_length=None)
        ),
        **dict.fromkeys(ARROW_SUFFIXES, lambda data: polars.from_arrow(_arrow_file(data))),
    }


def _pandas_readers(pandas: Any) -> dict[str, _Reader]:
    tables = _arrow_readers()
    return {
        suffix: lambda data, read=read: read(data).to_pandas() for suffix, read in tables.items()
    } | {".csv": lambda data: pandas.read_csv(BytesIO(data))}


def _arrow_readers() -> dict[str, _Reader]:
    arrow = need("pyarrow")

    def parquet(data: bytes) -> Any:
        return importlib.import_module("pyarrow.parquet").read_table(BytesIO(data))

    def csv(data: bytes) -> Any:
        return importlib.import_module("pyarrow.csv").read_csv(BytesIO(data))

    def lines(data: bytes) -> Any:
        return importlib.import_module("pyarrow.json").read_json(BytesIO(data))

    def rows(data: bytes) -> Any:
        return arrow.Table.from_pylist(msgspec.json.decode(data, type=list[dict[str, Any]]))

    return {
        ".parquet": parquet,
        ".csv": csv,
        ".json": rows,
        **dict.fromkeys(LINE_SUFFIXES, lines),
        **dict.fromkeys(ARROW_SUFFIXES, _arrow_file),
    }


def _arrow_file(data: bytes) -> Any:
    """The table of an Arrow file or an Arrow stream (a file begins with its name)."""
    ipc = importlib.import_module("pyarrow.ipc")
    opener = ipc.open_file if data.startswith(b"ARROW1") else ipc.open_stream
    return opener(BytesIO(data)).read_all()
