"""Whether the steps of a graph fit together, what it asks of a client, and what it gives.

Knows definitions and signatures; asks nobody. What is not known yet (an endpoint without a model)
is not checked yet: serving processes check again with what they have in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from clew.base.errors import Invalid
from clew.base.records import Column, Signature
from clew.base.records.graphs import (
    EnsembleStep,
    Graph,
    NodeStep,
    Part,
    SequenceStep,
    SwitchStep,
    below,
    steps_of,
)
from clew.base.row_conditions import read_condition
from clew.serving.definitions import EndpointDefinition
from clew.serving.graph_arms import fitted

Outputs: TypeAlias = dict[str, tuple[int, ...]]
"""Output → its shape behind the rows."""
_NUMBERS = ("int", "uint", "float", "double", "halffloat", "decimal")


class Known(Struct, frozen=True, kw_only=True):
    """What is known of an endpoint: what a client sends, and what it gives (None: not yet)."""

    signature: Signature
    outputs: Outputs | None = None


Look = Callable[[str], Known | None]
"""The name of an endpoint → what is known of it."""


def check_graphs(
    endpoints: Mapping[str, EndpointDefinition],
    names: Iterable[str],
    look: Callable[[str], tuple[Signature, Outputs | None] | None],
) -> None:
    """That graphs among ``endpoints`` (all that there will be) can be asked.

    ``look``: what an endpoint of a model takes and gives; None where nothing is known yet.

    Raises:
        Invalid: as :func:`check_nodes` and :func:`settle`.
    """
    graphs = {name: one.graph for name, one in endpoints.items()}
    known = _known(graphs, look)
    for name in names:
        check_nodes(name, graphs)
    for name in names:
        known(name)


def check_fit(
    endpoints: Mapping[str, EndpointDefinition],
    endpoint: str,
    graph: str,
    look: Callable[[str], tuple[Signature, Outputs | None] | None],
) -> None:
    """That the graph of one endpoint takes what another is asked with, as far as both are known.

    Raises:
        Invalid: ``graph.arm``.
    """
    known = _known({name: one.graph for name, one in endpoints.items()}, look)
    mine, theirs = known(graph), known(endpoint)
    if mine is None or theirs is None:
        return
    _, why = fitted(mine.signature, theirs.signature)
    if why:
        raise Invalid(
            "graph.arm",
            f"The graph {graph} cannot stand beside what {endpoint} serves: {why}.",
            hint="Give its nodes what is missing in a preprocess= of their endpoints.",
        )


def _known(
    graphs: Mapping[str, Graph | None],
    look: Callable[[str], tuple[Signature, Outputs | None] | None],
) -> Look:
    def known(name: str) -> Known | None:
        graph = graphs[name]
        if graph is not None:
            return settle(name, graph, known)
        found = look(name)
        return None if found is None else Known(signature=found[0], outputs=found[1])

    return known


def check_nodes(name: str, graphs: Mapping[str, Graph | None]) -> None:
    """That all nodes of a graph exist and none leads back to it; ``graphs`` are all endpoints.

    Raises:
        Invalid: ``graph.node``, ``graph.cycle``.
    """
    _visit(name, graphs, (name,))


def _visit(name: str, graphs: Mapping[str, Graph | None], path: tuple[str, ...]) -> None:
    graph = graphs[name]
    for one in graph.endpoints if graph else ():
        if one in path:
            circle = " → ".join((*path[path.index(one) :], one))
            raise Invalid(
                "graph.cycle",
                f"The graph {path[0]} would never end: {circle}.",
                hint="Leave one of these nodes out.",
            )
        if one not in graphs:
            raise Invalid(
                "graph.node",
                f"The graph {name} asks {one!r}, and there is no such endpoint.",
                hint=f"There is {', '.join(sorted(set(graphs) - {name})) or 'none yet'}.",
            )
        _visit(one, graphs, (*path, one))


def settle(name: str, graph: Graph, look: Look) -> Known:
    """What a client sends to a graph, and what it gives, as far as that is known.

    Raises:
        Invalid: ``graph.signature`` where steps take one column as different types, or a response
            has not what the next step takes; ``graph.outputs`` where steps of which one answers
            give different outputs, or nothing can be combined; ``graph.condition`` where a
            condition names no column of the rows.
    """
    found = _Settling(name, look, graph.inputs).settle(graph.root)
    return Known(signature=found[0], outputs=found[1])


class _Settling:
    """One walk over the steps: columns that the request must have are gathered on the way."""

    def __init__(self, name: str, look: Look, inputs: tuple[Column, ...] = ()) -> None:
        self._name, self._look = name, look
        self._needs: dict[str, Column] = {one.name: one for one in inputs}
        self._told: dict[str, Outputs] = {}
        self._width = 0
        self._unknown = False
        self._first: Signature | None = None

    def settle(self, root: Part) -> tuple[Signature, Outputs | None]:
        outputs = self._step(root, {}, whole=True)
        self._check_conditions(root)
        task, classes = self._about(root)
        if self._width:
            if self._needs:
                raise self._wrong(
                    "graph.signature",
                    "some steps take columns by name, others a matrix without names",
                    "Give the model of the matrix a frame to learn from.",
                )
            inputs = self._first.inputs if self._first else ()
            found = Signature(frame="numpy", inputs=inputs, width=self._width, task=task)
        else:
            columns = tuple(self._needs.values())
            found = Signature(frame="polars", inputs=columns, width=len(columns), task=task)
        return replace(found, classes=classes), outputs

    def _about(self, root: Part) -> tuple[str, tuple[str, ...]]:
        """Task and classes, where all who may answer agree on them."""
        told = {
            (known.signature.task, known.signature.classes)
            for known in map(self._look, {one.endpoint for one in answering(root)})
            if known is not None
        }
        combined = isinstance(root, EnsembleStep) and root.combine == "function"
        return told.pop() if len(told) == 1 and not combined else ("", ())

    # what each step needs and gives -------------------------------------------------------------

    def _step(self, step: Part, given: Outputs, *, whole: bool) -> Outputs | None:
        """``given``: columns of responses before it; ``whole``: the rest comes from the request."""
        if isinstance(step, NodeStep):
            return self._node(step, given, whole=whole)
        if isinstance(step, SequenceStep):
            return self._sequence(step, given, whole=whole)
        self._told[step.name] = given
        found = [self._step(one, given, whole=whole) for one in below(step)]
        if isinstance(step, EnsembleStep):
            return self._combined(step, found)
        return self._same(step, found)

    def _node(self, step: NodeStep, given: Outputs, *, whole: bool) -> Outputs | None:
        known = self._look(step.endpoint)
        if known is None:
            self._unknown = True
            return None
        signature = known.signature
        self._first = self._first or signature
        if signature.frame == "numpy":
            if whole and not given:
                self._need_matrix(step, signature.width)
            return known.outputs
        missing = [one for one in signature.inputs if one.name not in given]
        if missing and not whole:
            names = ", ".join(one.name for one in missing)
            raise self._wrong(
                "graph.signature",
                f"{step.name} takes {names}, and the response before it has "
                f"{', '.join(given) or 'nothing'}",
                f"Ask it with the request too: clew.node({step.name!r}, data='both').",
            )
        for one in missing:
            self._need(step, one)
        return known.outputs

    def _need_matrix(self, step: NodeStep, width: int) -> None:
        if self._width not in (0, width):
            raise self._wrong(
                "graph.signature",
                f"{step.name} takes a matrix of {width} columns, others one of {self._width}",
                "Give it what it takes in a preprocess= of its endpoint.",
            )
        self._width = width

    def _need(self, step: NodeStep, column: Column) -> None:
        known = self._needs.get(column.name)
        if known is None:
            self._needs[column.name] = column
            return
        kind = _common(known.type, column.type)
        if not kind:
            raise self._wrong(
                "graph.signature",
                f"{step.name} takes {column.name} as {column.type}, a step before it as "
                f"{known.type}",
                "Make the types the same, or change one in a preprocess= of its endpoint.",
            )
        nullable = known.nullable and column.nullable
        self._needs[column.name] = replace(known, type=kind, nullable=nullable)

    def _sequence(self, step: SequenceStep, given: Outputs, *, whole: bool) -> Outputs | None:
        outputs: Outputs | None = None
        for at, one in enumerate(step.steps):
            data = (one.data or "both") if at else "request"
            if data == "request":
                outputs = self._step(one, given, whole=whole)
            elif outputs is None:  # a response that is not known has whatever is needed
                outputs = self._after_unknown(one)
            else:
                columns = outputs if data == "response" else {**given, **outputs}
                outputs = self._step(one, columns, whole=whole and data == "both")
        return outputs

    def _after_unknown(self, step: Part) -> Outputs | None:
        """What a step gives, where nobody knows yet what it will be asked with."""
        inner = _Settling(self._name, self._look)
        found = inner._step(step, {}, whole=True)
        self._unknown = True
        for name, column in inner._needs.items():  # asked of the request until it is known better
            self._needs.setdefault(name, column)
        return found

    def _combined(self, step: EnsembleStep, found: Sequence[Outputs | None]) -> Outputs | None:
        if step.combine == "function":
            return None
        if any(one is None for one in found):
            return None
        known = [one for one in found if one is not None]
        if step.combine == "all":
            pairs = zip(step.steps, known, strict=True)
            return {f"{one.name}.{n}": tail for one, each in pairs for n, tail in each.items()}
        if step.combine == "vote":
            if not all("label" in one for one in known):
                raise self._wrong(
                    "graph.outputs",
                    f"{step.name} lets steps vote, and not all of them give a label",
                    "Use combine='mean' or a function of your own.",
                )
            self._check_classes(step)
            return {"label": (), "votes": ()}
        shared = [
            name
            for name, tail in known[0].items()
            if name != "label" and all(one.get(name) == tail for one in known)
        ]
        if not shared:
            raise self._wrong(
                "graph.outputs",
                f"the steps of {step.name} have no number in common: "
                f"{'; '.join(', '.join(one) for one in known)}",
                "Use combine='vote', 'all', or a function of your own.",
            )
        labels = [n for n in ("label",) if any(one.startswith("probabilit") for one in shared)]
        if labels:
            self._check_classes(step)
        return {**dict.fromkeys(labels, ()), **{name: known[0][name] for name in shared}}

    def _check_classes(self, step: EnsembleStep) -> None:
        told = {
            one.name: known.signature.classes
            for one in answering(step)
            if (known := self._look(one.endpoint)) is not None
        }
        if len(set(told.values())) > 1:
            shown = "; ".join(f"{name}: {', '.join(each)}" for name, each in told.items())
            raise self._wrong(
                "graph.outputs",
                f"the steps of {step.name} have different classes ({shown})",
                "Combine them by a function of your own.",
            )

    def _same(self, step: Part, found: Sequence[Outputs | None]) -> Outputs | None:
        known = [one for one in found if one is not None]
        if any(one != known[0] for one in known):
            shown = "; ".join(
                f"{one.name}: {', '.join(each or ())}"
                for one, each in zip(below(step), found, strict=True)
            )
            raise self._wrong(
                "graph.outputs",
                f"one step of {step.name} answers, and they give different outputs ({shown})",
                "Make them the same, in a postprocess= of an endpoint for example.",
            )
        return known[0] if len(known) == len(found) else None

    def _check_conditions(self, root: Part) -> None:
        if self._unknown:
            return
        for step, name in _asked(root):
            if self._width or name not in {*self._needs, *self._told.get(step, ())}:
                has = ", ".join(self._needs) or f"{self._width} columns without names"
                raise Invalid(
                    "graph.condition",
                    f"A condition of the graph {self._name} asks for {name!r}; rows have {has}.",
                    hint="Name a column that a step takes, or declare it: p.graph(..., inputs=…).",
                )

    def _wrong(self, kind: str, why: str, hint: str) -> Invalid:
        return Invalid(kind, f"The graph {self._name} does not fit: {why}.", hint=hint)


def answering(step: Part) -> Iterable[NodeStep]:
    """The nodes whose answers may come out of a step."""
    if isinstance(step, NodeStep):
        yield step
    elif isinstance(step, SequenceStep):
        yield from answering(step.steps[-1])
    else:
        for one in below(step):
            yield from answering(one)


def _asked(root: Part) -> Iterable[tuple[str, str]]:
    """Switches and the columns that their conditions name."""
    for step in steps_of(root):
        if isinstance(step, SwitchStep):
            for case in step.cases:
                if case.condition:
                    yield from ((step.name, n) for n in read_condition(case.condition).inputs)


def _common(one: str, other: str) -> str:
    """A type that is right for both; '' where there is none."""
    if one == other:
        return one
    if not (one.startswith(_NUMBERS) and other.startswith(_NUMBERS)):
        return ""
    whole = [kind for kind in (one, other) if kind.startswith(("int", "uint"))]
    return whole[0] if whole else "double"
