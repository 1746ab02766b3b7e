"""Arrow tables, batches and datasets; and how any table is written, in any format.

The one file of this room that knows pyarrow. Writing is deterministic: the same table gives the
same bytes, so that a digest means the content.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

from clew.base.columns import is_row_place, not_text
from clew.base.errors import ClewError, Invalid
from clew.codecs.formats import (
    ARROW,
    DELIMITERS,
    LINES,
    TABLES,
    explained,
    first_line,
    format_of,
    need,
    not_a_table,
    squeeze,
    suffix_in,
)
from clew.codecs.kinds import Kind, Place
from clew.codecs.tables import Readers, as_text, read_each, same_columns, same_kinds, stack
from clew.repos import File

_ROW_GROUP = 262_144
_SQUEEZED = {f"{suffix}.gz" for suffix in (*DELIMITERS, *LINES, ".json")}
WRITTEN = frozenset(TABLES | {".json"} | _SQUEEZED)
_SAMPLED = 4096
"""So many values say whether a column of floats shrinks; shorter tables are not asked."""
_DATASETS = {".parquet": "parquet", ".csv": "csv", **dict.fromkeys(ARROW, "ipc")} | {
    **dict.fromkeys(LINES, "json")
}


def read_table(files: Sequence[File], asked: str = "", place: Place | None = None) -> Any:  # noqa: ARG001 - a codec's form
    """An Arrow table of all files, one below the other; without where rows stood in pandas."""
    tables = [_without_places(table) for table in read_each(files, asked, readers())]
    if len(tables) == 1:
        return tables[0]
    same_columns(files, [table.column_names for table in tables])
    types = [types_of(table.schema) for table in _without_empty_kinds(tables)]
    tables = [_without_places(one) for one in as_text(files, asked, tables, types, _separated)]
    tables = _without_empty_kinds(tables)
    same_kinds(files, [types_of(table.schema) for table in tables])
    return stack(files, lambda: need("pyarrow").concat_tables(tables, promote_options="permissive"))


def _without_places(table: Any) -> Any:
    gone = _places(table.schema)
    return table.drop_columns(gone) if gone else table


def _places(schema: Any) -> list[str]:
    return [one.name for one in schema if is_row_place(one.name, one.type)]


def types_of(schema: Any) -> dict[str, object]:
    """The type of each column, by name."""
    return {one.name: one.type for one in schema}


def schemas_on_disk(files: Sequence[File], paths: Sequence[Path]) -> list[dict[str, object]]:
    """The types of the columns of Parquet files that lie on disk; without where rows stood."""
    found = []
    for file, path in zip(files, paths, strict=True):
        with explained(file, ".parquet"):
            schema = importlib.import_module("pyarrow.parquet").read_schema(path)
        places = _places(schema)
        found.append({name: kind for name, kind in types_of(schema).items() if name not in places})
    return found


def _without_empty_kinds(tables: list[Any]) -> list[Any]:
    """The tables, their columns without a value of no type where that of others is another."""
    kinds: dict[str, set[str]] = {}
    for table in tables:
        for one in table.schema:
            kinds.setdefault(one.name, set()).add(str(one.type))
    odd = {name for name, each in kinds.items() if len(each) > 1}
    empty: list[set[str]] = [
        {name for name in odd if table.column(name).null_count == table.num_rows}
        for table in tables
    ]
    some = odd.difference(set[str].intersection(*empty))
    return [_emptied(table, names & some) for table, names in zip(tables, empty, strict=True)]


def _emptied(table: Any, names: set[str]) -> Any:
    nothing = need("pyarrow").nulls(table.num_rows)
    for name in names:
        table = table.set_column(table.column_names.index(name), name, nothing)
    return table


def _separated(data: bytes, delimiter: str, texts: Collection[str] = ()) -> Any:
    csv = importlib.import_module("pyarrow.csv")
    return csv.read_csv(
        BytesIO(data),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(texts, need("pyarrow").string())
        ),
    )


def readers() -> Readers:
    """How Arrow reads each format."""
    arrow = need("pyarrow")

    def parquet(data: bytes) -> Any:
        return importlib.import_module("pyarrow.parquet").read_table(BytesIO(data))

    def lines(data: bytes) -> Any:
        return importlib.import_module("pyarrow.json").read_json(BytesIO(data))

    def rows(data: bytes) -> Any:
        return arrow.Table.from_pylist(msgspec.json.decode(data, type=list[dict[str, Any]]))

    return {
        ".parquet": parquet,
        ".csv": lambda data: _separated(data, ","),
        ".tsv": lambda data: _separated(data, "\t"),
        ".json": rows,
        **dict.fromkeys(LINES, lines),
        **dict.fromkeys(ARROW, arrow_file),
    }


def arrow_file(data: bytes) -> Any:
    """The table of an Arrow file or an Arrow stream (a file begins with its name)."""
    ipc = importlib.import_module("pyarrow.ipc")
    opener = ipc.open_file if data.startswith(b"ARROW1") else ipc.open_stream
    return opener(BytesIO(data)).read_all()


def write_table(table: Any, suffix: str) -> bytes:
    """An Arrow table in the format of a suffix.

    Raises:
        Invalid: ``value.not_written`` where the format cannot hold it.
    """
    form, _ = format_of(f"x{suffix}")
    try:
        return squeeze(_write(table, form), suffix)
    except ClewError:
        raise
    except (need("pyarrow").ArrowException, TypeError, ValueError) as error:
        raise Invalid(
            "value.not_written",
            f"The table cannot be kept as {suffix}: {first_line(error)}.",
            hint="Parquet holds every table: leave the suffix out.",
        ) from error


def _write(table: Any, form: str) -> bytes:
    if form in {"", ".parquet"}:
        return _parquet(table)
    if form in DELIMITERS:
        csv = importlib.import_module("pyarrow.csv")
        options = csv.WriteOptions(delimiter=DELIMITERS[form], quoting_style="needed")
        sink = BytesIO()
        csv.write_csv(_without_dictionaries(table), sink, options)
        return sink.getvalue()
    if form in ARROW:
        sink = BytesIO()
        with importlib.import_module("pyarrow.ipc").new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        return sink.getvalue()
    rows = table.to_pylist()
    if form in LINES:
        return msgspec.json.Encoder().encode_lines(rows)
    return msgspec.json.encode(rows)


def _parquet(table: Any) -> bytes:
    sink = BytesIO()
    whole = table.combine_chunks()
    codecs, levels = _compression(whole)
    importlib.import_module("pyarrow.parquet").write_table(
        whole,
        sink,
        row_group_size=_ROW_GROUP,
        compression=codecs,
        compression_level=levels,
        version="2.6",
        use_dictionary=_with_dictionary(table.schema),
    )
    return sink.getvalue()


def _compression(table: Any) -> tuple[str | dict[str, str], int | dict[str, int] | None]:
    """Codec and level by column: floats that do not shrink are not tried again and again (measured
    quantities seldom do; trying takes half of the time of writing).
    """
    types = need("pyarrow").types
    plain = not any(types.is_nested(column.type) for column in table.schema)
    if not plain or table.num_rows < _SAMPLED or len(set(table.column_names)) < table.num_columns:
        return "zstd", 1
    codecs = {
        column.name: "none"
        if types.is_floating(column.type) and not _shrinks(table.column(at))
        else "zstd"
        for at, column in enumerate(table.schema)
    }
    return codecs, {name: 1 for name, codec in codecs.items() if codec == "zstd"} or None


def _shrinks(column: Any) -> bool:
    """Whether a sample out of the middle of a column becomes smaller by a sixteenth or more."""
    middle = max(0, (len(column) - _SAMPLED) // 2)
    values = column.slice(middle, _SAMPLED).to_numpy().tobytes()
    small = need("pyarrow").compress(values, codec="zstd", asbytes=True)
    return len(small) <= len(values) - len(values) // 16


def _with_dictionary(schema: Any) -> bool | list[str]:
    """Columns to dictionary-encode: trying it on floats more than doubles the time of writing."""
    types = need("pyarrow").types
    if any(types.is_nested(column.type) for column in schema):
        return True  # leaves of nested columns cannot be chosen by the names of columns
    return [column.name for column in schema if not types.is_floating(column.type)]


def _without_dictionaries(table: Any) -> Any:
    """The table with plain columns: CSV has no others."""
    arrow = need("pyarrow")
    for at, column in enumerate(table.schema):
        if arrow.types.is_dictionary(column.type):
            plain = table.column(at).cast(column.type.value_type)
            table = table.set_column(at, column.name, plain)
    return table


def _read_dataset(files: Sequence[File], asked: str, place: Place) -> Any:
    """A dataset over the files on disk: nothing of them is in memory until it is asked for."""
    suffixes = {suffix_in(file, asked) for file in files}
    if not files or len(suffixes) > 1 or not suffixes <= _DATASETS.keys():
        if files and suffixes <= set(readers()):
            return need("pyarrow.dataset").dataset(read_table(files, asked))
        raise not_a_table(files[0], list(_DATASETS)) if files else _no_files()
    paths = [str(path) for path in place.export(files)]
    suffix = suffixes.pop()
    with explained(files[0], suffix):
        found = need("pyarrow.dataset").dataset(paths, format=_DATASETS[suffix])
        schemas = [fragment.physical_schema for fragment in found.get_fragments()]
    if not _places(found.schema) and all(one.equals(schemas[0]) for one in schemas):
        return found
    arrow = need("pyarrow")
    if suffix in DELIMITERS:
        schemas = _with_text(arrow, schemas)
    same_kinds(files, [types_of(schema) for schema in schemas])
    schema = stack(files, lambda: arrow.unify_schemas(schemas, promote_options="permissive"))
    gone = _places(schema)
    kept = arrow.schema([schema.field(name) for name in found.schema.names if name not in gone])
    return need("pyarrow.dataset").dataset(paths, format=_DATASETS[suffix], schema=kept)


def _with_text(arrow: Any, schemas: Sequence[Any]) -> list[Any]:
    """Schemas of delimited text, where columns of several kinds are text in all of them."""
    found = []
    for schema, names in zip(schemas, not_text([types_of(one) for one in schemas]), strict=True):
        for name in names:
            field = arrow.field(name, arrow.string())
            schema = schema.set(schema.get_field_index(name), field)
        found.append(schema)
    return found


def _no_files() -> Invalid:
    return Invalid(
        "input.empty",
        "There is no file to make a dataset of.",
        hint="Check the glob of the input, or annotate with Optional or list[...].",
    )


def _read_batches(files: Sequence[File], asked: str, place: Place) -> Any:
    return _read_dataset(files, asked, place).scanner().to_reader()


def _read_batch(files: Sequence[File], asked: str, place: Place) -> Any:
    table = read_table(files, asked, place).combine_chunks()
    batches = table.to_batches()
    empty = need("pyarrow").RecordBatch.from_pylist
    return batches[0] if batches else empty([], schema=table.schema)


def _of_batch(batch: Any, suffix: str) -> bytes:
    return write_table(need("pyarrow").Table.from_batches([batch]), suffix)


TABLE = Kind(suffix=".parquet", suffixes=WRITTEN, read=read_table, write=write_table)
DATASET = Kind(
    suffix=".parquet",
    suffixes=WRITTEN,
    read=_read_dataset,
    write=lambda value, suffix: write_table(value.to_table(), suffix),
)
BATCH = Kind(suffix=".parquet", suffixes=WRITTEN, read=_read_batch, write=_of_batch)
READER = Kind(
    suffix=".parquet",
    suffixes=WRITTEN,
    read=_read_batches,
    write=lambda value, suffix: write_table(value.read_all(), suffix),
)


def table_of(rows: list[dict[str, Any]]) -> Any:
    """An Arrow table of plain records."""
    return need("pyarrow").Table.from_pylist(rows)
