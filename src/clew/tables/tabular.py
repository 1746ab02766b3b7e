"""Files of commits as Arrow tables that are read only as far as somebody asks, and back to files.

Knows pyarrow's datasets; knows no SQL, and nothing of which files belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.fs
import pyarrow.json
import pyarrow.parquet

from clew.base.columns import is_row_place, mixed, not_text
from clew.base.errors import ClewError, Invalid
from clew.repos import File

ARROW_SUFFIXES = frozenset({".arrow", ".feather", ".ipc"})
TABULAR = ARROW_SUFFIXES | {".parquet", ".csv", ".jsonl", ".ndjson", ".json"}
"""Suffixes of files that can be read as tables; a ``.json`` must be a list of objects."""

_WHOLE_BYTES = 256 << 20
"""CSV up to this size is read whole, so that its types are found over all rows."""
_FILE_MAGIC = b"ARROW1"


class Reading:
    """Tables over files of a store. What goes wrong while somebody else scans them is kept.

    Arrow hands errors of Python files on as text: :meth:`trouble` is the error itself.
    """

    def __init__(self) -> None:
        self._handler = _StoreFiles()
        self._files = pa.fs.PyFileSystem(self._handler)

    @property
    def trouble(self) -> ClewError | None:
        """The first error of the store that a scan met."""
        return self._handler.trouble

    def tables(self, files: Sequence[File]) -> list[Any]:
        """Arrow datasets or tables that together hold the rows of all files, one a format.

        Parquet and Arrow files are only opened: columns, row groups and files that a scan does
        not need are not fetched. Columns that only some files have are null in the others. Where
        rows stood in pandas is no column.

        Raises:
            Invalid: ``file.unreadable``, ``files.differ``.
        """
        kinds: dict[str, list[File]] = {}
        for file in files:
            kinds.setdefault(_kind(file), []).append(file)
        if "csv" in kinds:  # the small ones with the large: what a column is they say together
            kinds["csv"] += kinds.pop("whole .csv", [])
        tables = [self._table(kind, some) for kind, some in kinds.items()]
        named = [f"{one[0].path}{' and others' * (len(one) > 1)}" for one in kinds.values()]
        _same_kinds(files, named, [table.schema for table in tables])
        return tables

    def _table(self, kind: str, files: Sequence[File]) -> Any:
        if kind.startswith("whole"):
            return self._whole(files)
        if kind == "csv":
            reader = pyarrow.csv.ReadOptions(block_size=32 << 20)
            form = pyarrow.dataset.CsvFileFormat(read_options=reader)
        elif kind == "parquet":
            form = pyarrow.dataset.ParquetFileFormat()
        else:
            form = pyarrow.dataset.IpcFileFormat()
        fragments = [self._fragment(form, file) for file in files]
        schemas = [fragment.physical_schema for fragment in fragments]
        if kind == "csv":
            schemas = [_with_text(*one) for one in zip(schemas, _texts(schemas), strict=True)]
        _same_kinds(files, [file.path for file in files], schemas)
        with _differing(files):
            schema = pa.unify_schemas(schemas, promote_options="permissive")
        kept = [field for field in schema if not is_row_place(field.name, field.type)]
        schema = pa.schema(kept)  # without metadata of pandas, true of one file and not of all
        return pyarrow.dataset.FileSystemDataset(fragments, schema, form, self._files)

    def _whole(self, files: Sequence[File]) -> Any:
        tables = [_read_whole(file) for file in files]
        if files[0].suffix == ".csv":
            for at, names in enumerate(_texts([_with_values(one) for one in tables])):
                if names:
                    tables[at] = _read_whole(files[at], names)
        _same_kinds(files, [one.path for one in files], [_with_values(one) for one in tables])
        with _differing(files):
            whole = pa.concat_tables(tables, promote_options="permissive")
        places = [field.name for field in whole.schema if is_row_place(field.name, field.type)]
        return whole.drop_columns(places) if places else whole

    def _fragment(self, form: Any, file: File) -> Any:
        path = self._handler.add(file)
        try:
            fragment = form.make_fragment(path, filesystem=self._files)
            _ = fragment.physical_schema
        except (pa.ArrowException, OSError) as error:
            if self.trouble is not None:
                raise self.trouble from None
            raise unreadable(file, error) from None
        return fragment


class _StoreFiles(pa.fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """What Arrow needs of a file system, for files that were added; each is read by ranges."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self.trouble: ClewError | None = None

    def add(self, file: File) -> str:
        """The path under which Arrow finds a file: two versions of one path do not meet."""
        path = f"{file.digest.partition(':')[2]}{file.path}"
        self._files[path] = file
        return path

    def get_type_name(self) -> str:
        return "clew"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[Any]:
        return [
            pa.fs.FileInfo(path, pa.fs.FileType.File, size=self._files[path].size)
            if path in self._files
            else pa.fs.FileInfo(path, pa.fs.FileType.NotFound)
            for path in paths
        ]

    def open_input_file(self, path: str) -> Any:
        try:
            return pa.PythonFile(_Kept(self._files[path].open(), self._keep), mode="r")
        except ClewError as error:
            self._keep(error)
            raise

    def open_input_stream(self, path: str) -> Any:
        return self.open_input_file(path)

    def _keep(self, error: ClewError) -> None:
        self.trouble = self.trouble or error

    def _refuse(self, *_: object) -> Any:
        raise NotImplementedError("These files are read only.")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = _refuse
    delete_root_dir_contents = delete_file = move = copy_file = _refuse
    open_output_stream = open_append_stream = _refuse


class _Kept:
    """A stream whose errors are kept for whoever started the scan."""

    def __init__(self, stream: BinaryIO, keep: Callable[[ClewError], None]) -> None:
        self._stream = stream
        self._keep = keep

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except ClewError as error:
            self._keep(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __del__(self) -> None:
        self._stream.close()  # Arrow drops what it has read, and does not close it


def _kind(file: File) -> str:
    """parquet, ipc, csv: scanned piece by piece; ``whole`` and a suffix: read at once."""
    if file.suffix == ".parquet":
        return "parquet"
    if file.suffix == ".csv" and file.size > _WHOLE_BYTES:
        return "csv"
    if file.suffix in ARROW_SUFFIXES:
        with file.open() as stream:
            if stream.read(len(_FILE_MAGIC)) == _FILE_MAGIC:
                return "ipc"
    return f"whole {file.suffix}"


def _read_whole(file: File, texts: Collection[str] = ()) -> Any:
    """The rows of a file; ``texts``: columns to read as text, where it is delimited text."""
    try:
        return _read(file, file.read(), texts)
    except (pa.ArrowException, msgspec.MsgspecError, OSError) as error:
        raise unreadable(file, error) from None


def _read(file: File, content: bytes, texts: Collection[str]) -> Any:
    if file.suffix == ".csv":
        types = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
        return pyarrow.csv.read_csv(pa.BufferReader(content), convert_options=types)
    if file.suffix == ".json":
        return pa.Table.from_pylist(msgspec.json.decode(content, type=list[dict[str, Any]]))
    if file.suffix in ARROW_SUFFIXES:
        return pa.ipc.open_stream(content).read_all()
    return pyarrow.json.read_json(pa.BufferReader(content))


def _texts(schemas: Sequence[Any]) -> list[set[str]]:
    """Of each file of delimited text, the columns that are text as they are so in another."""
    return not_text([{field.name: field.type for field in one} for one in schemas])


def _with_text(schema: Any, names: Collection[str]) -> Any:
    text = pa.string()
    return pa.schema([one.with_type(text) if one.name in names else one for one in schema])


def write_rows(reader: Any, target: Path) -> int:
    """Write a RecordBatchReader as the format of the target's suffix; how many rows it had.

    ``.parquet``, ``.csv``, ``.arrow`` or ``.feather`` (Arrow files), ``.stream`` (an Arrow stream).

    Raises:
        Invalid: ``sql.format``.
    """
    rows = 0
    with _writer(target, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _writer(target: Path, schema: Any) -> Any:
    suffix = target.suffix.lower()
    if suffix == ".parquet":
        return pyarrow.parquet.ParquetWriter(
            target, schema, compression="zstd", compression_level=1, version="2.6"
        )
    if suffix == ".csv":
        return pyarrow.csv.CSVWriter(target, schema)
    if suffix in ARROW_SUFFIXES:
        return pa.ipc.new_file(target, schema)
    if suffix == ".stream":
        return pa.ipc.new_stream(target, schema)
    raise Invalid(
        "sql.format",
        f"{target.name!r} is not the name of a table.",
        hint="Name a .parquet, .csv or .arrow file.",
    )


def unreadable(file: File, error: Exception) -> Invalid:
    """The error for a file that is not what its suffix says."""
    reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    return Invalid(
        "file.unreadable",
        f"{file.path} ({file.size} bytes) is not readable as a table: {reason}.",
        hint="Look at the file, and commit one that can be read in its place.",
    )


@contextmanager
def _differing(files: Sequence[File]) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise _differ(files, reason) from None


def _same_kinds(files: Sequence[File], named: Sequence[str], schemas: Sequence[Any]) -> None:
    """Refuse to put numbers and text into one column. ``named``: the files of each schema.

    Raises:
        Invalid: ``files.differ``.
    """
    odd = [at for at, schema in enumerate(schemas) if not at or not schema.equals(schemas[0])]
    types = [{field.name: field.type for field in schemas[at]} for at in odd]
    if why := mixed([named[at] for at in odd], types):
        raise _differ(files, why)


def _with_values(table: Any) -> Any:
    """The schema of a table without columns that have no value."""
    columns = zip(table.schema, table.columns, strict=True)
    return pa.schema([field for field, column in columns if column.null_count < table.num_rows])


def _differ(files: Sequence[File], reason: str) -> Invalid:
    return Invalid(
        "files.differ",
        f"{len(files)} files from {files[0].path} to {files[-1].path} are not one table: {reason}.",
        hint="Name some of them: repo@ref:/directory or repo@ref:/2013-*.parquet.",
    )
