"""Tables of the lineage and the statements over them.

Knows nothing of walks.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Select, Table, Text, bindparam, func, select

from clew.db import Json, metadata

nodes = Table(
    "lineage_nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("detail", Json, nullable=False),
    Column("added_us", BigInteger, nullable=False),
    Index("lineage_nodes_by_change", "global_id", "added_us"),
)

# No foreign keys: a thing may be named as a source before the room that owns it has told of it.
edges = Table(
    "lineage_edges",
    metadata,
    Column("target", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Index("lineage_edges_by_source", "source", "target"),
)

# The nodes of one change, oldest first.
OF_CHANGE: Select[*tuple[object, ...]] = (
    select(nodes)
    .where(nodes.c.global_id == bindparam("global_id"))
    .order_by(nodes.c.added_us, nodes.c.id)
)

# Ids that begin with a prefix; a range, so that the primary key serves it.
BY_PREFIX: Select[*tuple[object, ...]] = (
    select(nodes)
    .where(nodes.c.id >= bindparam("prefix"), nodes.c.id < bindparam("end"))
    .order_by(nodes.c.id)
    .limit(100)
)

# One step up and one step down from a set of nodes.
ABOVE: Select[*tuple[object, ...]] = select(edges).where(
    edges.c.target.in_(bindparam("ids", expanding=True))
)
BELOW: Select[*tuple[object, ...]] = select(edges).where(
    edges.c.source.in_(bindparam("ids", expanding=True))
)

# Nodes by id, oldest first.
BY_IDS: Select[*tuple[object, ...]] = (
    select(nodes)
    .where(nodes.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(nodes.c.added_us, nodes.c.id)
)

# Full global ids that begin with a prefix.
CHANGES: Select[*tuple[object, ...]] = (
    select(nodes.c.global_id)
    .where(nodes.c.global_id >= bindparam("prefix"), nodes.c.global_id < bindparam("end"))
    .distinct()
    .limit(10)
)

# The changes that were told of last.
LATEST_CHANGES: Select[*tuple[object, ...]] = (
    select(nodes.c.global_id)
    .where(nodes.c.global_id != "")
    .group_by(nodes.c.global_id)
    .order_by(func.max(nodes.c.added_us).desc())
    .limit(bindparam("limit"))
)
