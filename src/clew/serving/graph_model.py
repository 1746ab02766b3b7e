"""A graph of endpoints in memory: its steps, functions and conditions.

Knows no routes and no requests; how one goes through is for ``graph_run``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from clew.base.errors import Invalid
from clew.base.pickled import read_function
from clew.base.records.graphs import (
    GRAPH,
    EnsembleStep,
    Graph,
    Part,
    SplitterStep,
    SwitchStep,
    function_path,
    steps_of,
)
from clew.base.row_conditions import Condition, read_condition
from clew.serving.graph_checks import Known, answering
from clew.serving.overlaying import NO_SIGNATURE
from clew.serving.router import Arm, Router
from clew.store import Store


class GraphModel:
    """Stands where a model would: it is asked through its nodes, by the data plane."""

    platform = "clew_graph"

    def __init__(self, graph: Graph, functions: Mapping[str, Callable[..., Any]]) -> None:
        self.graph, self.functions = graph, functions
        self.signature = NO_SIGNATURE
        self.conditions: dict[str, Condition] = {}
        self.splits: dict[str, Router[Part]] = {}
        self.headers: frozenset[str] = frozenset()
        self.takes = {key: _takes(function) for key, function in functions.items()}
        """How many arguments each function wants, 1 or 2."""
        self._classes: dict[str, tuple[str, ...]] = {}
        for step in steps_of(graph.root):
            if isinstance(step, SwitchStep):
                texts = [case.condition for case in step.cases if case.condition]
                self.conditions |= {text: read_condition(text) for text in texts}
                self.headers |= set(step.headers)
            elif isinstance(step, SplitterStep):
                pairs = zip(step.steps, step.weights, strict=True)
                self.splits[step.name] = Router([Arm(one, one.name, w) for one, w in pairs])

    def classes_of(self, step: Part) -> tuple[str, ...]:
        """The classes that the answers to be combined in a step are of; none where they differ."""
        return self._classes.get(step.name, ())

    def learn_classes(self, look: Callable[[str], Known | None]) -> None:
        """Note which classes are combined where."""
        for step in steps_of(self.graph.root):
            if isinstance(step, EnsembleStep):
                told = {
                    known.signature.classes
                    for node in answering(step)
                    if (known := look(node.endpoint)) is not None
                }
                self._classes[step.name] = told.pop() if len(told) == 1 else ()

    def predict(self, data: Any, /) -> NoReturn:  # noqa: ARG002 - a model has this form
        """A graph is never asked as a model is."""
        raise Invalid("graph.alone", "A graph answers through the endpoints that it asks.")


def _takes(function: Callable[..., Any]) -> int:
    parameters = inspect.signature(function).parameters.values()
    return min(2, max(1, sum(one.default is one.empty for one in parameters)))


def graph_in(store: Store, tree: str) -> GraphModel | None:
    """The graph in the tree of a revision; None where it is a model's.

    Raises:
        Unavailable: ``model.distribution``.
        Corrupt: ``processing.code``.
    """
    entry = store.get(tree, GRAPH)
    if entry is None:
        return None
    graph = msgspec.json.decode(store.read(entry.digest), type=Graph)
    return GraphModel(graph, {key: _function(store, tree, key) for key in graph.functions})


def _function(store: Store, tree: str, key: str) -> Callable[..., Any]:
    entry = store.get(tree, function_path(key))
    assert entry is not None, "it was put with the graph"
    return read_function(store.read(entry.digest), "the graph")
