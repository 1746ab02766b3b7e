"""What of the user's code comes with a revision: functions around a model, or a graph.

Knows rows of endpoints and trees; runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from clew.base.records import Signature
from clew.base.records.graphs import Graph
from clew.base.records.processing import Processing
from clew.base.records.traffic import Rollout
from clew.serving.definitions import EndpointDefinition
from clew.store import Store

EXAMPLE = "/clew/example.json"
"""Where a model version keeps its input example, as a v2 request."""
NO_SIGNATURE = Signature(frame="polars", inputs=(), width=0, task="")
"""Of a graph, whose inputs are those of the endpoints that it asks."""


def processing_of(row: Any) -> Processing | None:
    """The functions around the model of an endpoint, from its row."""
    return None if row.processing is None else msgspec.convert(row.processing, Processing)


def graph_of(row: Any) -> Graph | None:
    """The graph that an endpoint is, from its row."""
    return None if row.graph is None else msgspec.convert(row.graph, Graph)


def asked_by_graphs(rows: Iterable[Any]) -> set[str]:
    """Endpoints that are graphs, and those that graphs ask, from the rows of all."""
    graphs = {row.name: graph_of(row) for row in rows}
    nodes = {node for graph in graphs.values() if graph for node in graph.endpoints}
    return nodes | {name for name, graph in graphs.items() if graph}


def definition_from(row: Any) -> EndpointDefinition:
    """An endpoint as it was defined, from its row."""
    return EndpointDefinition(
        name=row.name,
        pipeline=row.pipeline,
        model=row.model,
        rollout=msgspec.convert(row.rollout, Rollout),
        log=row.log,
        redact=tuple(row.redact),
        max_queue=row.max_queue,
        isolate=row.isolate,
        processing=processing_of(row),
        graph=graph_of(row),
        alias=row.alias,
    )


def overlaid(store: Store, tree: str, around: Processing) -> str:
    """The tree of a model version with the functions of an endpoint beside the model.

    Its example is no more what a client sends where the endpoint says what that is. The caller
    holds a lease until rows name the tree.
    """
    with store.writer() as writer:
        deletes = [EXAMPLE] if around.inputs else []
        return writer.tree(tree, list(store.entries(around.tree)), deletes)
