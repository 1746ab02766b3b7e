"""A graph of endpoints, as KServe's InferenceGraph has it: sequence, ensemble, switch, splitter.

Plain values that travel between rooms; functions of the user lie in a tree of the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

from clew.base.records.models import Column

GRAPH = "/clew/graph.json"
"""Where it lies in the tree of a revision; functions are beside it, see :func:`function_path`."""


def function_path(key: str) -> str:
    """Where a function of a graph lies in the tree of its revision."""
    return f"/clew/functions/{key}.pkl"


class Step(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every step has.

    ``name``: unique in its graph. ``required``: the graph fails with it; else it goes on without.
    ``data``: what a step of a sequence is asked with: the graph's ``request``, the ``response`` of
    the step before, or ``both`` (columns of the response before those of the request).
    """

    name: str
    required: bool = True
    data: str = ""


class NodeStep(Step, frozen=True, kw_only=True, tag="node"):
    """One endpoint. ``alias`` is ``model@alias`` where it stands for one."""

    endpoint: str
    alias: str = ""


class SequenceStep(Step, frozen=True, kw_only=True, tag="sequence"):
    """One after the other; the answer is that of the last."""

    steps: tuple[Part, ...]


class EnsembleStep(Step, frozen=True, kw_only=True, tag="ensemble"):
    """All at once. ``combine``: mean, vote, all or function (then ``function`` is its key).

    ``weights``: one for each step; none: all weigh the same.
    """

    steps: tuple[Part, ...]
    combine: str = "mean"
    weights: tuple[float, ...] = ()
    function: str = ""


class Case(Struct, frozen=True, kw_only=True):
    """Rows for which ``condition`` (an expression; or the function of this key) holds."""

    step: Part
    condition: str = ""
    function: str = ""


class SwitchStep(Step, frozen=True, kw_only=True, tag="switch"):
    """Each row goes to the first case that holds, else to ``default``. ``headers``: names that
    conditions may ask for.
    """

    cases: tuple[Case, ...]
    default: Part | None = None
    headers: tuple[str, ...] = ()


class SplitterStep(Step, frozen=True, kw_only=True, tag="splitter"):
    """Each request goes to one step, drawn by weight; those of one key to the same one."""

    steps: tuple[Part, ...]
    weights: tuple[float, ...]


Part: TypeAlias = NodeStep | SequenceStep | EnsembleStep | SwitchStep | SplitterStep


class Graph(Struct, frozen=True, kw_only=True):
    """A graph. ``code``: digest of its steps and functions. ``functions``: key → ``file:name``;
    ``packages``: what these import, with versions.

    ``inputs``: columns that a client sends besides those that nodes take. ``tree``: where it lies
    with its functions, and ``place``: the commit that has it.
    """

    code: str
    root: Part
    inputs: tuple[Column, ...] = ()
    functions: dict[str, str] = {}
    packages: dict[str, str] = {}
    tree: str = ""
    place: str = ""

    @property
    def version(self) -> str:
        """What stands for the version of a model in its revisions."""
        return self.code.rpartition(":")[2][:8]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Names of the endpoints it asks, each once."""
        return tuple(dict.fromkeys(node.endpoint for node in nodes_of(self.root)))


def below(step: Part) -> tuple[Part, ...]:
    """The steps directly in a step."""
    if isinstance(step, NodeStep):
        return ()
    if isinstance(step, SwitchStep):
        return (*(case.step for case in step.cases), *([step.default] if step.default else []))
    return step.steps


def steps_of(step: Part) -> Iterator[Part]:
    """A step and all in it."""
    yield step
    for one in below(step):
        yield from steps_of(one)


def nodes_of(step: Part) -> Iterator[NodeStep]:
    """The nodes in a step, from left to right."""
    return (one for one in steps_of(step) if isinstance(one, NodeStep))


def needed_nodes(step: Part) -> set[str]:
    """The endpoints without which a step cannot answer, or not for every row."""
    if isinstance(step, NodeStep):
        return {step.endpoint}
    if isinstance(step, SwitchStep):
        cases = [case.step for case in step.cases if case.step.required or step.default is None]
        inner = [*cases, *([step.default] if step.default else [])]
    elif isinstance(step, SplitterStep) or len(step.steps) == 1:
        inner = list(step.steps)
    else:
        inner = [one for one in step.steps if one.required]
    return {name for one in inner for name in needed_nodes(one)}
