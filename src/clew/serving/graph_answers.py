"""Requests to graphs in one serving process: begun, their nodes asked, answered as any other.

Knows the data plane by what it was given of it; which step comes next is for ``graph_run``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

import orjson
from msgspec import Struct

from clew.base.ids import PredictionIds
from clew.serving.contract import Contract
from clew.serving.graph_run import Failed, GraphRun, Result
from clew.serving.protocol import Outputs
from clew.serving.runtime import Runtime, has_nan
from clew.serving.shadowing import Copy, Lost
from clew.serving.sketches import MOST_BATCHES
from clew.serving.tensors import Array, InputError

COPY_S = 10.0
"""How long a graph that is a shadow may take for one copy."""
_BUSY = frozenset({429, 503, 504})
_log = logging.getLogger("clew.serving")


class Plane(Protocol):
    """What of a data plane is needed here; on its loop alone."""

    routes: Mapping[str, Any]
    in_flight: int

    def submit(self, call: Any, /) -> None:
        """Take a request."""
        ...

    def keep(self, call: Any, runtime: Runtime, answer: Any, error: str, /) -> None:
        """Log and count an answer."""
        ...

    def schedule(self) -> None:
        """Take a turn soon."""
        ...

    def copy(self, call: Any, id: str, arrays: Mapping[str, Array], at: int, stop: int, /) -> None:
        """Offer an answered request to the shadows of its endpoint."""
        ...


class Hooks(Struct, frozen=True):
    """``call``: makes a request. ``body``: of an answer, and the length of its JSON. ``refusal``:
    an answer of a status that says why.
    """

    loop: Any
    threads: Executor
    ids: PredictionIds
    call: Callable[..., Any]
    body: Callable[..., tuple[bytes, int]]
    refusal: Callable[[int, str], Any]


class Graphs:
    """The requests to graphs that are under way. Belongs to the loop of its data plane."""

    def __init__(self, plane: Plane, hooks: Hooks) -> None:
        self._plane, self._hooks = plane, hooks

    def begin(self, call: Any, runtime: Runtime) -> None:
        """Take a checked request; it is answered later, or at once."""
        run = GraphRun(
            self,
            runtime.graph,
            runtime.contract,
            call,
            id=self._hooks.ids.next(),
            body=call.body if call.plain is not None else b"",
            done=partial(self._finish, runtime),
        )
        self._guarded(run, run.begin)

    def ask_copy(self, copy: Copy, done: Callable[[Any], None]) -> None:
        """Ask a graph that is a shadow about a copy; ``done`` gets outputs or an error, once.

        Its nodes are asked as for anybody, but nobody hears them: they have no shadows of their own
        then, and nothing of it counts in a test. What they refuse for want of room or time says
        nothing of the graph.
        """
        of, runtime = copy.call, copy.runtime
        call: Any = self._hooks.call(
            kind=of.kind, endpoint=runtime.identity.endpoint, version="", body=b"", head=-1,
            reply=done, key=of.key, timeout_s=COPY_S, headers=of.headers,
        )  # fmt: skip
        call.route, call.hidden, call.unheard = of.route, of.hidden, True
        call.values, call.rows = copy.values, copy.rows

        def finish(run: GraphRun, result: Result) -> None:
            copy.id, copy.parts = run.id, _parts(run)
            if isinstance(result, Failed):
                said = f"{result.status}: {result.message}"
                done(Lost(said) if result.status in _BUSY else RuntimeError(said))
                return
            done(Outputs(result, runtime.model.signature.classes))

        run = GraphRun(
            self, runtime.graph, runtime.contract, call, id=self._hooks.ids.next(), body=b"",
            done=finish,
        )  # fmt: skip
        self._guarded(run, run.begin)

    def _guarded(self, run: GraphRun, act: Callable[..., None], *given: Any) -> None:
        """Take a step of a request; a bug costs that one alone, and it is answered."""
        try:
            act(*given)
        except Exception:  # noqa: BLE001 - as it says
            _log.exception("a request to the graph %s was lost", run.call.endpoint)
            run.finish(Failed(500, "The graph could not be asked."))

    # what a request through a graph needs -------------------------------------------------------

    def contract_of(self, endpoint: str) -> Contract | None:
        """What an endpoint takes now; None where it answers nothing."""
        route = self._plane.routes.get(endpoint)
        runtime = None if route is None else route.peek("")
        return None if runtime is None else runtime.contract

    def ask(
        self, run: GraphRun, endpoint: str, body: bytes, head: int, done: Callable[..., None], /
    ) -> None:
        """Ask an endpoint as a client would, for a part of a request to a graph."""
        call: Any = self._hooks.call(
            kind="v2",
            endpoint=endpoint,
            version="",
            body=body,
            head=head,
            reply=lambda answer: self._guarded(run, _came, call, answer, done),
            key=run.call.key,
        )
        call.part_of = run.id
        call.headers = run.call.headers
        call.deadline_s = run.call.deadline_s
        call.hidden = run.call.redact
        call.unheard = run.call.unheard
        self._plane.submit(call)

    def in_thread(
        self, run: GraphRun, act: Callable[[], Any], done: Callable[[Any], None], /
    ) -> None:
        """Do something in a thread; ``done`` gets what it returned, on the loop."""
        loop = self._hooks.loop
        self._hooks.threads.submit(
            lambda: loop.call_soon_threadsafe(self._guarded, run, done, act())
        )

    # answers ------------------------------------------------------------------------------------

    def _finish(self, runtime: Runtime, run: GraphRun, result: Result) -> None:
        call = run.call
        call.parts = _parts(run)
        error = ""
        if isinstance(result, Failed):
            answer, error = self._hooks.refusal(result.status, result.message), result.message
        else:
            answer, error = self._answered(runtime, run, result)
        answer.identity, answer.prediction_id = runtime.identity, run.id
        _count(runtime, answer.status)
        runtime.waiting -= 1
        self._plane.in_flight -= 1
        runtime.account.execute(1, call.rows, 0.0, 0.0, time.perf_counter() - call.begun_s)
        self._plane.keep(call, runtime, answer, error)
        if call.route.shadows and answer.status == 200:
            outputs, at, stop = call.found
            self._plane.copy(call, run.id, outputs.arrays, at, stop)
        self._plane.schedule()

    def _answered(
        self, runtime: Runtime, run: GraphRun, result: Mapping[str, Array]
    ) -> tuple[Any, str]:
        try:
            return self._answer(runtime, run, result)
        except Exception as error:  # noqa: BLE001 - what nodes or functions gave cannot be written
            said = f"The graph's answer cannot be written: {error}"
            said = said.encode(errors="replace").decode()
            return self._hooks.refusal(500, said), said

    def _answer(
        self, runtime: Runtime, run: GraphRun, result: Mapping[str, Array]
    ) -> tuple[Any, str]:
        call = run.call
        outputs = Outputs(result, runtime.model.signature.classes)
        call.found = outputs, 0, call.rows
        if not runtime.outputs:
            runtime.learn(outputs)
        if has_nan(outputs):
            runtime.account.nans += 1
        if runtime.watch is not None and len(runtime.watch) < MOST_BATCHES:
            runtime.watch.append((outputs.arrays, [call.rows]))
        nodes = orjson.dumps({one.name: one.told() for one in run.asked}).decode()
        more = b',"clew-nodes":' + orjson.dumps(nodes)
        try:
            body, head = self._hooks.body(call.wire, runtime, run.id, outputs, 0, call.rows, more)
        except InputError as error:
            return self._hooks.refusal(400, error.message), error.message
        answer = self._hooks.refusal(200, "")
        answer.body, answer.head = body, head
        return answer, ""


def _came(call: Any, answer: Any, done: Callable[..., None]) -> None:
    """Hand on the answer of a node: its arrays, which need not be read from the body again."""
    if answer.status == 200:
        outputs, at, stop = call.found
        arrays = {name: array[at:stop] for name, array in outputs.arrays.items()}
        done(200, "", arrays, answer.identity, answer.prediction_id)
    else:
        said = str(orjson.loads(answer.body).get("error", ""))
        done(answer.status, said, None, answer.identity, answer.prediction_id)


def _parts(run: GraphRun) -> tuple[str, ...]:
    """The predictions of the nodes that were asked."""
    return tuple(one.prediction_id for one in run.asked if one.prediction_id)


def _count(runtime: Runtime, status: int) -> None:
    account = runtime.account
    if status == 429:
        account.overloads += 1
    elif status == 504:
        account.expired += 1
    elif status == 400:
        account.rejected += 1
    elif status != 200:
        account.errors += 1
