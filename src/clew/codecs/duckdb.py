"""DuckDB relations, each on a connection of its own.

The one file of this room that knows DuckDB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clew.base.columns import is_row_place
from clew.codecs.arrow import WRITTEN, read_table, schemas_on_disk, write_table
from clew.codecs.formats import explained, need, suffix_in
from clew.codecs.kinds import Kind, Place
from clew.codecs.tables import same_columns, same_kinds
from clew.repos import File

SCANNED_BYTES = 64 << 20
"""Parquet files of so many bytes together are scanned from disk."""


def _read(files: Sequence[File], asked: str, place: Place) -> Any:
    connection = need("duckdb").connect()
    large = sum(file.size for file in files) >= SCANNED_BYTES and place.scratch is not None
    if not large or {suffix_in(file, asked) for file in files} != {".parquet"}:
        return connection.from_arrow(read_table(files, asked))
    paths = place.export(files)
    types = schemas_on_disk(files, paths)
    differ = any(one != types[0] for one in types)
    if differ:
        same_columns(files, [list(one) for one in types])
        same_kinds(files, types)
    with explained(files[0], ".parquet"):
        relation = connection.read_parquet([str(path) for path in paths], union_by_name=differ)
    kept = [
        name
        for name, kind in zip(relation.columns, relation.types, strict=True)
        if not is_row_place(name, kind)
    ]
    if kept == relation.columns:
        return relation
    return relation.project(", ".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in kept))


def _write(relation: Any, suffix: str) -> bytes:
    return write_table(relation.to_arrow_table(), suffix)


RELATION = Kind(suffix=".parquet", suffixes=WRITTEN, read=_read, write=_write)
