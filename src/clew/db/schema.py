"""The metadata that all rooms declare their tables on, and the two tables of this room.

Knows no table of another room.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = MetaData()

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


class Json(TypeDecorator[Any]):
    """A column of JSON text: builtins, dataclasses and times go in, builtins come out.

    NaN and infinities become null (JSON has none). None is SQL NULL.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Text of a value."""
        return None if value is None else _encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Value of a text."""
        return None if value is None else _decode(value)


schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created_us", BigInteger, nullable=False),
)

# A single row: which workspace the rows belong to, and where its bytes are; ``store`` is '' where
# that is the disk of one machine.
workspaces = Table(
    "workspaces",
    metadata,
    Column("id", Text, primary_key=True),
    Column("store", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

events = Table(
    "events",
    metadata,
    # BigInteger would not be SQLite's rowid alias; the sequence must never reuse a number.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("global_id", Text),
    Column("subject", Text, nullable=False),
    Column("data", Json, nullable=False),
    Index("events_by_change", "global_id", "seq"),
    sqlite_autoincrement=True,
)
