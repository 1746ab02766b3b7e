"""Graphs of endpoints as a user writes them: sequence, ensemble, switch, splitter.

The words are those of KServe's InferenceGraph. Records what was written; what may stand together
is for serving, which knows what endpoints take and give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from clew.authoring.checks import check_name, invalid
from clew.authoring.steps import Training
from clew.base.records.graphs import (
    Case,
    EnsembleStep,
    Graph,
    NodeStep,
    Part,
    SequenceStep,
    SplitterStep,
    SwitchStep,
    steps_of,
)
from clew.base.row_conditions import read_condition

Function = Callable[..., Any]
COMBINES = ("mean", "vote", "all")
DATA = ("request", "response", "both")


class Written(Struct, frozen=True, kw_only=True):
    """A step as it was written. ``weighed``: what stands with each step (weight or condition)."""

    kind: str
    name: str = ""
    required: bool = True
    data: str = ""
    endpoint: str = ""
    steps: tuple[Written, ...] = ()
    weighed: tuple[Any, ...] = ()
    combine: str | Function = ""
    default: Written | None = None
    headers: tuple[str, ...] = ()


Given = Written | Training | str


def node(
    endpoint: str | Training,
    *,
    name: str = "",
    alias: str = "champion",
    required: bool = True,
    data: str = "",
) -> Written:
    """One endpoint of a graph, or a model by an alias of it.

    Args:
        endpoint: Name of an endpoint (also one that is a graph), ``pipeline/model@alias``, or a
            training step, whose ``alias`` is meant.
        name: Its name in the graph; that of the endpoint or model without it.
        alias: Of a training step.
        required: The graph fails where it fails; False: it goes on without it.
        data: In a sequence: it is asked with the ``request``, with the ``response`` of the step
            before, or with ``both`` (the default), where columns of the response come first.

    Raises:
        Invalid: ``pipeline.definition``.
    """
    if isinstance(endpoint, Training):
        endpoint = f"{endpoint.repo}@{alias}"
    if not isinstance(endpoint, str) or not endpoint:
        raise invalid(f"{endpoint!r} is no endpoint", "Give its name, or pipeline/model@alias.")
    last = endpoint.partition("@")[0].rpartition("/")[2]
    return _written(
        Written(kind="node", name=name or last, required=required, data=data, endpoint=endpoint)
    )


def sequence(*steps: Given, name: str = "", required: bool = True, data: str = "") -> Written:
    """Steps one after the other; the answer is that of the last."""
    return _written(
        Written(kind="sequence", name=name, required=required, data=data, steps=_steps(steps))
    )


def ensemble(
    *steps: Given,
    combine: str | Function = "mean",
    weights: Sequence[float] = (),
    name: str = "",
    required: bool = True,
    data: str = "",
) -> Written:
    """Steps that are all asked with the same rows, and one answer of theirs.

    Args:
        steps: Endpoints or other steps.
        combine: ``mean`` of numbers (of probabilities; the label is that of the largest mean),
            ``vote`` (of labels; ties go to the class that comes first), ``all`` (every output, as
            ``step.output``), or a function at module level: it gets a mapping of step → output →
            array, and the columns of the rows if it has a second parameter, and returns outputs by
            name, or one array.
        weights: One for each step, for ``mean`` and ``vote``.
        name: Its name in the graph.
        required: As for :func:`node`.
        data: As for :func:`node`.

    Raises:
        Invalid: ``pipeline.definition``.
    """
    found = _steps(steps)
    if not callable(combine) and combine not in COMBINES:
        raise invalid(f"combine={combine!r}", f"Use {', '.join(COMBINES)}, or a function.")
    if weights and (len(weights) != len(found) or any(one <= 0 for one in weights)):
        raise invalid(f"weights={list(weights)!r}", "Give a number above 0 for each step.")
    if weights and combine not in ("mean", "vote"):
        raise invalid("weights= is for mean and vote", "Weigh in the function, or leave it out.")
    return _written(
        Written(
            kind="ensemble",
            name=name,
            required=required,
            data=data,
            steps=found,
            weighed=tuple(float(one) for one in weights),
            combine=combine,
        )
    )


def switch(
    *cases: tuple[str | Function, Given],
    default: Given | None = None,
    headers: Sequence[str] = (),
    name: str = "",
    required: bool = True,
    data: str = "",
) -> Written:
    """Each row goes to the first case whose condition holds for it, else to ``default``.

    Args:
        cases: (condition, step). A condition is an expression over the columns and headers of the
            request, ``'amount > 1000 and headers["x-tenant"] == "a"'``, or a function at module
            level: it gets a mapping of column → values, and headers if it has a second parameter,
            and returns a truth for each row, or one for all.
        default: Where no case holds; without it such a row is refused (400).
        headers: Names of headers that functions ask for; expressions name their own.
        name: Its name in the graph.
        required: As for :func:`node`. In a case: where it fails, its rows go to ``default``.
        data: As for :func:`node`.

    Raises:
        Invalid: ``pipeline.definition``, ``graph.condition``.
    """
    if not cases or not all(isinstance(one, tuple) and len(one) == 2 for one in cases):
        raise invalid("A switch has cases", 'Write ("amount > 1000", "endpoint"), ….')
    asked = [name.lower() for name in headers]
    for condition, _ in cases:
        if isinstance(condition, str):
            asked += read_condition(condition).headers
        elif not callable(condition):
            raise invalid(f"{condition!r} is no condition", "Give an expression or a function.")
    return _written(
        Written(
            kind="switch",
            name=name,
            required=required,
            data=data,
            steps=_steps([step for _, step in cases]),
            weighed=tuple(condition for condition, _ in cases),
            default=None if default is None else _step(default),
            headers=tuple(dict.fromkeys(asked)),
        )
    )


def splitter(
    *shares: tuple[float, Given], name: str = "", required: bool = True, data: str = ""
) -> Written:
    """Each request goes to one step, drawn by weight; requests of one key go to the same one.

    Args:
        shares: (weight, step).
        name: Its name in the graph.
        required: As for :func:`node`.
        data: As for :func:`node`.

    Raises:
        Invalid: ``pipeline.definition``.
    """
    if not shares or not all(isinstance(one, tuple) and len(one) == 2 for one in shares):
        raise invalid("A splitter has shares", 'Write (80, "a"), (20, "b").')
    weights = tuple(float(weight) for weight, _ in shares)
    if any(not 0 < one < float("inf") for one in weights):
        raise invalid(f"The weights {list(weights)} of a splitter", "Give numbers above 0.")
    return _written(
        Written(
            kind="splitter",
            name=name,
            required=required,
            data=data,
            steps=_steps([step for _, step in shares]),
            weighed=weights,
        )
    )


def _written(one: Written) -> Written:
    if one.data not in ("", *DATA):
        raise invalid(f"data={one.data!r}", f"Use {', '.join(DATA)}.")
    if one.name:
        check_name(one.name, "a step of a graph")
    return one


def _steps(given: Sequence[Given]) -> tuple[Written, ...]:
    if not given:
        raise invalid("A step of a graph has nothing in it", "Give names of endpoints.")
    return tuple(_step(one) for one in given)


def _step(given: Given) -> Written:
    return given if isinstance(given, Written) else node(given)


# as values --------------------------------------------------------------------------------------


def graph_of(name: str, written: Given) -> tuple[Part, dict[str, Function]]:
    """The steps of the graph of an endpoint, and the functions in them by key.

    Raises:
        Invalid: ``graph.name`` where two steps have one name.
    """
    made = _Made(name)
    root = made.step(_step(written))
    names = [one.name for one in steps_of(root)]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise invalid(
            f"The graph {name} has two steps named {twice!r}",
            f"Give one another name: clew.node({twice!r}, name=…).",
        )
    return root, made.functions


class _Made:
    """What becomes of written steps; unnamed ones are numbered by kind."""

    def __init__(self, graph: str) -> None:
        self._graph = graph
        self._counts: dict[str, int] = {}
        self.functions: dict[str, Function] = {}

    def step(self, one: Written) -> Part:
        """A step with all in it."""
        how: dict[str, Any] = {"required": one.required, "data": one.data}
        how["name"] = one.name or self._numbered(one.kind)
        if one.kind == "node":
            alias = one.endpoint if "@" in one.endpoint else ""
            # a model by its alias is served by an endpoint of its own
            endpoint = f"{self._graph}.{one.name}" if alias else one.endpoint
            return NodeStep(endpoint=endpoint, alias=alias, **how)
        steps = tuple(self.step(each) for each in one.steps)
        if one.kind == "sequence":
            return SequenceStep(steps=steps, **how)
        if one.kind == "splitter":
            return SplitterStep(steps=steps, weights=one.weighed, **how)
        if one.kind == "ensemble":
            given = one.combine
            key = "" if isinstance(given, str) else self._kept(given)
            combine = given if isinstance(given, str) else "function"
            return EnsembleStep(
                steps=steps, combine=combine, weights=one.weighed, function=key, **how
            )
        cases = tuple(
            Case(step=step, condition=condition)
            if isinstance(condition, str)
            else Case(step=step, function=self._kept(condition))
            for step, condition in zip(steps, one.weighed, strict=True)
        )
        default = None if one.default is None else self.step(one.default)
        return SwitchStep(cases=cases, default=default, headers=one.headers, **how)

    def _numbered(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return kind if self._counts[kind] == 1 else f"{kind}-{self._counts[kind]}"

    def _kept(self, function: Function) -> str:
        key = f"f{len(self.functions)}"
        self.functions[key] = getattr(function, "__wrapped__", function)
        return key


def aliases_of(graph: Graph) -> Mapping[str, str]:
    """Endpoint → ``model@alias`` that it stands for, of the nodes that name a model."""
    return {
        one.endpoint: one.alias
        for one in steps_of(graph.root)
        if isinstance(one, NodeStep) and one.alias
    }
