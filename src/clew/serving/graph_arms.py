"""A graph as a revision of another endpoint: whether it may be one, and what it takes there.

Knows rows, trees and signatures; neither requests nor what is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace
from sqlalchemy import select

from clew.base.errors import Invalid
from clew.base.records import Column, Signature
from clew.base.records.graphs import GRAPH, Graph
from clew.db import Tx
from clew.serving import tables
from clew.serving.overlaying import graph_of
from clew.serving.revisions import definition_of
from clew.store import Store


def graph_at(tx: Tx, endpoint: str) -> Graph:
    """The graph that an endpoint is, as it is defined now.

    Raises:
        NotFound: ``endpoint.unknown``.
        Invalid: ``endpoint.no_graph``.
    """
    row = definition_of(tx, endpoint)
    found = graph_of(row)
    if found is None:
        raise Invalid(
            "endpoint.no_graph",
            f"{endpoint} is no graph: it serves the model {row.model}.",
            hint=f"Deploy a version of that model by its name: {row.model}@VERSION",
        )
    return found


def check_arm(tx: Tx, store: Store, endpoint: str, graph: Graph) -> None:
    """That a graph on an endpoint does not lead back to it, whatever is deployed on its nodes now.

    Raises:
        Invalid: ``graph.cycle``.
    """
    circle = circle_of(endpoint, graph.endpoints, _asked(tx, store))
    if circle:
        raise Invalid(
            "graph.cycle",
            f"The graph would never end on {endpoint}: {' → '.join(circle)}.",
            hint="Leave one of these nodes out, or put the graph on an endpoint of its own.",
        )


def circle_of(
    endpoint: str, nodes: tuple[str, ...], asked: Mapping[str, set[str]]
) -> tuple[str, ...]:
    """The way from an endpoint that asks ``nodes`` back to itself; nothing where there is none.

    ``asked``: endpoint → those that it asks.
    """
    ways: list[tuple[str, ...]] = [(endpoint, node) for node in nodes]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        if way[-1] == endpoint:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [(*way, one) for one in sorted(asked.get(way[-1], ()))]
    return ()


def _asked(tx: Tx, store: Store) -> dict[str, set[str]]:
    """Endpoint → those that its graphs ask: as it is defined, and as it is served."""
    found: dict[str, set[str]] = {}
    for row in tx.execute(select(tables.endpoints)):
        graph = graph_of(row)
        found[row.name] = set(graph.endpoints) if graph else set()
    for row in tx.execute(tables.OPEN):
        if not row.model_version:
            entry = store.get(row.tree, GRAPH)
            if entry is not None:
                graph = msgspec.json.decode(store.read(entry.digest), type=Graph)
                found.setdefault(row.endpoint, set()).update(graph.endpoints)
    return found


def fitted(mine: Signature, asked: Signature) -> tuple[Signature, str]:
    """What a graph takes beside a revision whose requests are ``asked``; why not, where its nodes
    need what these do not have.

    Columns that its nodes do not need are taken and go nowhere.
    """
    if not asked.inputs or not mine.inputs:
        if mine.width != asked.width:
            return mine, f"it takes {_width(mine)}, and requests have {_width(asked)}"
        return replace(mine, inputs=asked.inputs, frame=asked.frame), ""
    theirs = {column.name: column for column in asked.inputs}
    for column in mine.inputs:
        other = theirs.get(column.name)
        if other is None:
            return mine, f"it takes {column.name}, and requests have {', '.join(theirs)}"
        if why := _unlike(column, other):
            return mine, why
    return replace(mine, inputs=asked.inputs, width=asked.width), ""


def _unlike(mine: Column, theirs: Column) -> str:
    kinds = _kind(mine.type), _kind(theirs.type)
    if kinds[0] != kinds[1] and kinds != ("float", "int"):
        return f"it takes {mine.name} as {mine.type}, and requests have {theirs.type}"
    if theirs.nullable and not mine.nullable:
        return f"{mine.name} may be missing in requests, and a node needs it"
    return ""


def _kind(type: str) -> str:
    """Of an Arrow type: float, int, bool, or text for all that travels as that."""
    if type.startswith(("float", "double", "halffloat")):
        return "float"
    return "int" if type.startswith(("int", "uint")) else "bool" if type == "bool" else "text"


def _width(one: Signature) -> str:
    return f"{len(one.inputs)} columns" if one.inputs else f"a matrix of {one.width} columns"
