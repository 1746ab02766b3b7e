"""One request through a graph: its nodes are asked here, each as if a client had asked it.

Knows steps and columns; who is asked, and how, is for the plane. Everything runs on its loop but
functions of the user, which run in a thread. A node that is asked has a prediction, a place in the
log and statistics of its own, goes through its own rollout, and keeps the deadline of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import orjson
from msgspec import Struct

from clew.base.records.graphs import (
    Case,
    EnsembleStep,
    NodeStep,
    Part,
    SequenceStep,
    SplitterStep,
    SwitchStep,
)
from clew.serving import combining
from clew.serving.contract import ColumnsContract, Contract, Values
from clew.serving.graph_model import GraphModel
from clew.serving.tensors import Array

Columns = dict[str, Any]
"""Name → list or array of one value a row."""


class Failed(Struct, frozen=True):
    """Why a step has no answer, in the words of HTTP."""

    status: int
    message: str


Result = Mapping[str, Array] | Failed
Done = Callable[[Result], None]


class Asked(Struct, frozen=True, kw_only=True):
    """What became of one question to a node; ``versions``: who answered."""

    name: str
    endpoint: str
    status: int
    prediction_id: str = ""
    version: str = ""
    revision: str = ""

    def told(self) -> dict[str, object]:
        """As an answer tells it."""
        return {
            "endpoint": self.endpoint,
            "version": self.version,
            "revision": self.revision,
            "prediction-id": self.prediction_id,
            "status": self.status,
        }


class Plane(Protocol):
    """What a request through a graph needs of the data plane."""

    def contract_of(self, endpoint: str) -> Contract | None:
        """What an endpoint takes now; None where it answers nothing."""
        ...

    def ask(
        self, run: GraphRun, endpoint: str, body: bytes, head: int, done: Callable[..., None], /
    ) -> None:
        """Ask an endpoint; ``done`` gets (status, message, outputs, identity, prediction id)."""
        ...

    def in_thread(
        self, run: GraphRun, act: Callable[[], Any], done: Callable[[Any], None], /
    ) -> None:
        """Do something in a thread; ``done`` gets what it returned, on the loop."""
        ...


class GraphRun:
    """One request. ``done`` is called once, on the loop, with the outputs or why there are none."""

    __slots__ = (
        "_columns", "_ended", "asked", "body", "call", "contract", "done", "graph", "headers",
        "id", "plane", "rows", "values",
    )  # fmt: skip

    def __init__(
        self,
        plane: Plane,
        graph: GraphModel,
        contract: Contract,
        call: Any,
        *,
        id: str,
        body: bytes,
        done: Callable[[GraphRun, Result], None],
    ) -> None:
        """``body``: the request itself where nodes can be handed it as it came; else empty."""
        self.plane, self.graph, self.contract = plane, graph, contract
        self.call: Any = call
        self.id, self.body, self.done = id, body, done
        self.values: Values = call.values
        self.rows: int = call.rows
        told = {_text(name): value for name, value in (call.headers or {}).items()}
        self.headers = {name: _text(told[name]) for name in graph.headers if name in told}
        self.asked: list[Asked] = []
        self._columns: Columns | None = None
        self._ended = False

    def begin(self) -> None:
        """Ask the first step."""
        self._step(self.graph.graph.root, None, self.rows, self.finish)

    def finish(self, result: Result) -> None:
        """Answer the request; once."""
        if not self._ended:
            self._ended = True
            self.done(self, result)

    # steps: ``given`` is what a step is asked with, None: the request as it came ------------------

    def _step(self, step: Part, given: Columns | None, rows: int, done: Done) -> None:
        if isinstance(step, NodeStep):
            self._node(step, given, rows, done)
        elif isinstance(step, SequenceStep):
            self._sequence(step, given, rows, done)
        elif isinstance(step, EnsembleStep):
            self._ensemble(step, given, rows, done)
        elif isinstance(step, SwitchStep):
            self._switch(step, given, rows, done)
        else:
            self._splitter(step, given, rows, done)

    def _node(self, step: NodeStep, given: Columns | None, rows: int, done: Done) -> None:
        contract = self.plane.contract_of(step.endpoint)
        if contract is None:
            self._answered(step, done, 503, f"{step.endpoint!r} has no revision loaded.")
            return
        try:
            body, head = self._question(contract, given, rows)
        except ValueError as error:
            self._answered(step, done, 500, str(error))
            return
        self.plane.ask(self, step.endpoint, body, head, partial(self._answered, step, done))

    def _answered(
        self,
        step: NodeStep,
        done: Done,
        status: int,
        message: str,
        outputs: Mapping[str, Array] | None = None,
        identity: Any = None,
        prediction_id: str = "",
    ) -> None:
        self.asked.append(
            Asked(
                name=step.name,
                endpoint=step.endpoint,
                status=status,
                prediction_id=prediction_id,
                version=identity.version if identity is not None else "",
                revision=identity.revision if identity is not None else "",
            )
        )
        if outputs is not None:
            done(outputs)
        else:  # that a node is unloaded is no mistake of who asks the graph
            done(Failed(503 if status == 404 else status, f"{step.name}: {message}"))

    def _sequence(self, step: SequenceStep, given: Columns | None, rows: int, done: Done) -> None:
        def go(at: int, before: Mapping[str, Array] | None) -> None:
            one = step.steps[at]
            self._step(one, self._asked_with(one, given, before), rows, partial(came, at, before))

        def came(at: int, before: Mapping[str, Array] | None, found: Result) -> None:
            if isinstance(found, Failed):
                if step.steps[at].required or (before is None and at + 1 == len(step.steps)):
                    done(found)
                    return
                found = before  # type: ignore[assignment]  # the next step goes on without it
            if at + 1 < len(step.steps):
                go(at + 1, found)  # type: ignore[arg-type]  # no Failed, by what is above
            else:
                done(found)

        go(0, None)

    def _asked_with(
        self, step: Part, given: Columns | None, before: Mapping[str, Array] | None
    ) -> Columns | None:
        """The columns of a step that stands behind an answer."""
        if before is None or step.data == "request":
            return given
        if step.data == "response":
            return dict(before)
        return {**(self.columns() if given is None else given), **before}

    def _ensemble(self, step: EnsembleStep, given: Columns | None, rows: int, done: Done) -> None:
        found: dict[str, Result] = {}

        def came(name: str, result: Result) -> None:
            found[name] = result
            if len(found) == len(step.steps):
                self._combine(step, found, given, rows, done)

        for one in step.steps:
            self._step(one, given, rows, partial(came, one.name))

    def _combine(
        self,
        step: EnsembleStep,
        found: Mapping[str, Result],
        given: Columns | None,
        rows: int,
        done: Done,
    ) -> None:
        weights = step.weights or (1.0,) * len(step.steps)
        answers: dict[str, Mapping[str, Array]] = {}
        kept: list[float] = []
        failed: list[Failed] = []
        for one, weight in zip(step.steps, weights, strict=True):
            result = found[one.name]
            if isinstance(result, Failed):
                if one.required:
                    done(result)
                    return
                failed.append(result)
            else:
                answers[one.name] = result
                kept.append(weight)
        if not answers:
            done(failed[0])
            return
        if step.combine == "function":
            columns = self.columns() if given is None else given
            plain = {name: dict(each) for name, each in answers.items()}
            self._call(step.function, (plain, columns), done, partial(_outputs, rows=rows))
            return
        try:
            done(self._combined(step, answers, kept))
        except ValueError as error:
            done(Failed(500, f"{step.name}: {error}."))

    def _combined(
        self, step: EnsembleStep, answers: combining.Answers, weights: Sequence[float]
    ) -> Mapping[str, Array]:
        if step.combine == "all":
            return combining.together(answers)
        act = combining.vote if step.combine == "vote" else combining.mean
        return act(answers, weights, self.graph.classes_of(step))

    def _splitter(self, step: SplitterStep, given: Columns | None, rows: int, done: Done) -> None:
        arm = self.graph.splits[step.name].choose(self.call.key)
        assert arm is not None, "weights are above 0"
        self._step(arm.value, given, rows, done)

    # switches -----------------------------------------------------------------------------------

    def _switch(self, step: SwitchStep, given: Columns | None, rows: int, done: Done) -> None:
        columns = self.columns() if given is None else given
        taken: list[int | None] = [None] * rows

        def look(at: int) -> None:
            if at == len(step.cases) or None not in taken:
                self._send(step, given, columns, taken, done)
                return
            case = step.cases[at]
            if case.function:
                act = partial(_truths, rows=rows)
                self._call(case.function, (columns, self.headers), partial(take, at), act)
                return
            try:
                take(at, self._holds(case, columns, taken))
            except ValueError as error:
                done(Failed(400, f"{step.name}: {error}."))

        def take(at: int, found: Any) -> None:
            if isinstance(found, Failed):
                done(found)
                return
            for row, holds in enumerate(found):
                if holds and taken[row] is None:
                    taken[row] = at
            look(at + 1)

        look(0)

    def _holds(self, case: Case, columns: Columns, taken: Sequence[int | None]) -> list[bool]:
        condition = self.graph.conditions[case.condition]
        asked = {name: _listed(columns[name]) for name in condition.inputs if name in columns}
        return [
            where is None
            and condition.holds({name: one[at] for name, one in asked.items()}, self.headers)
            for at, where in enumerate(taken)
        ]

    def _send(
        self,
        step: SwitchStep,
        given: Columns | None,
        columns: Columns,
        taken: Sequence[int | None],
        done: Done,
    ) -> None:
        """Rows go to their cases; where all go to one, the request goes as it came."""
        places: dict[int, list[int]] = {}
        for row, at in enumerate(taken):
            if at is None and step.default is None:
                done(Failed(400, f"{step.name}: no case holds for row {row}."))
                return
            places.setdefault(-1 if at is None else at, []).append(row)
        parts: dict[int, Result] = {}

        def came(at: int, result: Result) -> None:
            case = step.cases[at].step if at >= 0 else None
            if isinstance(result, Failed) and case and not case.required and step.default:
                ask(at, step.default)  # once: the default is tried in its place
                return
            settle(at, result)

        def settle(at: int, result: Result) -> None:
            parts[at] = result
            if len(parts) == len(places):
                done(_stitched(step.name, places, parts))

        def ask(at: int, one: Part) -> None:
            rows = places[at]
            some = given if len(places) == 1 else _rows_of(columns, rows)
            first = at >= 0 and one is step.cases[at].step
            self._step(one, some, len(rows), partial(came if first else settle, at))

        for at in list(places):
            default = step.default
            ask(at, step.cases[at].step if at >= 0 else default)  # type: ignore[arg-type]  # there is one where a place is -1

    # functions of the user ----------------------------------------------------------------------

    def _call(
        self,
        key: str,
        arguments: tuple[Any, ...],
        done: Callable[[Any], None],
        check: Callable[[str, Any], Any],
    ) -> None:
        """Call a function in a thread; ``check`` makes of what it returned what is wanted."""
        function, name = self.graph.functions[key], self.graph.graph.functions[key]
        taken = arguments[: self.graph.takes[key]]

        def act() -> Any:
            try:
                return check(name, function(*taken))
            except ValueError as error:
                return Failed(400, f"{name}: {error}")
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code
                return Failed(500, f"{name} raised {type(error).__name__}: {error}")

        self.plane.in_thread(self, act, done)

    # questions ----------------------------------------------------------------------------------

    def columns(self) -> Columns:
        """The request by column."""
        if self._columns is None:
            if isinstance(self.values, np.ndarray):
                if isinstance(self.contract, ColumnsContract):
                    rules = enumerate(self.contract.rules)
                    self._columns = {rule.name: self.values[:, at] for at, rule in rules}
                else:
                    self._columns = {self.contract.name: self.values}
            else:
                self._columns = dict(self.values)
        return self._columns

    def _question(self, contract: Contract, given: Columns | None, rows: int) -> tuple[bytes, int]:
        """The body of a v2 request for a node, and the length of its JSON where bytes follow."""
        if given is None:
            if self.body and _takes_same(contract, self.contract):
                return self.body, -1
            if isinstance(self.values, np.ndarray) and _takes_same(contract, self.contract):
                return _raw(self.values)
            given = self.columns()
        if isinstance(contract, ColumnsContract):
            return _named(contract, given, rows), -1
        return _raw(_matrix(given, contract.width))


def _text(value: str | bytes) -> str:
    """A header as text: HTTP has bytes, gRPC text."""
    return value if isinstance(value, str) else value.decode("latin-1")


def _takes_same(one: Contract, other: Contract) -> bool:
    """Whether two contracts take the same request."""
    if isinstance(one, ColumnsContract) and isinstance(other, ColumnsContract):
        return [(r.name, r.datatype) for r in one.rules] == [
            (r.name, r.datatype) for r in other.rules
        ]
    return not isinstance(one, ColumnsContract) and not isinstance(other, ColumnsContract)


def _raw(matrix: Array) -> tuple[bytes, int]:
    data = np.ascontiguousarray(matrix, dtype=np.float64).tobytes()
    tensor = {
        "name": "\x01rows",
        "datatype": "FP64",
        "shape": list(matrix.shape),
        "parameters": {"binary_data_size": len(data)},
    }
    head = orjson.dumps({"inputs": [tensor]})
    return head + data, len(head)


def _named(contract: ColumnsContract, given: Columns, rows: int) -> bytes:
    missing = [rule.name for rule in contract.rules if rule.name not in given]
    if missing:
        raise ValueError(f"the step before it gives no {', '.join(missing)}")
    tensors = [
        {
            "name": rule.name,
            "datatype": rule.datatype,
            "shape": [rows],
            "data": _listed(given[rule.name]),
        }
        for rule in contract.rules
    ]
    return orjson.dumps({"inputs": tensors}, default=str)


def _matrix(given: Columns, width: int) -> Array:
    """The columns side by side, as a model takes them that knows no names."""
    columns = [np.asarray(one) for one in given.values()]
    wide = [one for one in columns if one.ndim == 2 and one.shape[1] == width]
    if wide:
        return wide[0].astype(np.float64)
    numbers = [one.astype(np.float64) for one in columns if one.dtype.kind in "biuf"]
    found = np.column_stack(numbers) if numbers else np.empty((0, 0))
    if found.shape[-1] != width:
        raise ValueError(
            f"it takes a matrix of {width} columns, and the step before it gives {', '.join(given)}"
        )
    return found


def _listed(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _rows_of(columns: Columns, rows: Sequence[int]) -> Columns:
    return {
        name: one[list(rows)] if isinstance(one, np.ndarray) else [one[at] for at in rows]
        for name, one in columns.items()
    }


def _stitched(
    name: str, places: Mapping[int, Sequence[int]], parts: Mapping[int, Result]
) -> Result:
    """The answers of the cases as one, each row in its place."""
    good: dict[int, Mapping[str, Array]] = {}
    for at, one in parts.items():
        if isinstance(one, Failed):
            return one
        good[at] = one
    if len(good) == 1:
        return next(iter(good.values()))
    names = [tuple(sorted(one)) for one in good.values()]
    if len(set(names)) > 1:
        told = "; ".join(", ".join(each) for each in names)
        return Failed(500, f"{name}: its cases give different outputs ({told}).")
    first = next(iter(good.values()))
    order = np.argsort(np.concatenate([np.asarray(places[at]) for at in good]))
    try:
        return {
            output: np.concatenate([one[output] for one in good.values()])[order]
            for output in first
        }
    except ValueError:
        return Failed(500, f"{name}: its cases give outputs of different shapes.")


def _outputs(name: str, found: Any, *, rows: int) -> Mapping[str, Array]:
    """What a function returned, as outputs.

    Raises:
        TypeError: it has not one value for each row.
    """
    named = found if isinstance(found, Mapping) else {"prediction": found}
    outputs = {str(key): np.asarray(one) for key, one in named.items()}
    for key, one in outputs.items():
        if one.ndim < 1 or len(one) != rows:
            raise TypeError(f"{name} gave {key!r} of shape {list(one.shape)} for {rows} rows")
    if not outputs:
        raise TypeError(f"{name} gave no outputs")
    return outputs


def _truths(name: str, found: Any, *, rows: int) -> list[bool]:
    """What a condition returned, as a truth for each row.

    Raises:
        TypeError: it has another number of them.
    """
    if isinstance(found, bool | np.bool_):
        return [bool(found)] * rows
    listed = [bool(one) for one in found]
    if len(listed) != rows:
        raise TypeError(f"{name} gave {len(listed)} truths for {rows} rows")
    return listed
