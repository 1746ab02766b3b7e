"""Requests in, answers out: routes, micro-batches, and the log before the answer.

Knows no transport and no database. Everything here runs on one event loop; only a slow model's
``predict`` runs in a thread.

Batching: a request waits for nothing. What has arrived by the next turn of the loop, and what
arrives while a slow batch is computed, goes to the model together.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import Any

import orjson
from msgspec import Struct, field

from clew.base.errors import ClewError, Ended, Invalid
from clew.base.ids import PredictionIds
from clew.serving import protocol, quick
from clew.serving.bodies import body_of
from clew.serving.contract import Contract, Values
from clew.serving.graph_answers import Graphs, Hooks
from clew.serving.keeping import is_sampled, kept
from clew.serving.parking import Parked
from clew.serving.protocol import V2, Outputs, Wire
from clew.serving.recording import SHADOW, frame_of, record_of_copy
from clew.serving.router import Arm, Router
from clew.serving.runtime import Identity, Runtime, has_nan, nan_rows
from clew.serving.shadowing import Copy, Shadows
from clew.serving.sketches import MOST_BATCHES
from clew.serving.spool import Spool
from clew.serving.tensors import Array, InputError

SLOW_S = 0.002
"""A model whose batches take longer computes in a thread; the hop costs about 0.1 ms."""
THREADS = 32
"""Models that are slow, or in a process of their own, that compute at once."""
FUNCTIONS = 8
"""Functions of graphs that run at once: one that hangs is to hold up no model."""
MAX_BATCH = 512
"""Requests in one batch."""
Reply = Callable[["Answer"], None]
PINNED = "pinned"
"""The role in the log of who was asked by version."""
_log = logging.getLogger("clew.serving")


_LATER: Any = None
"""What is known as soon as a request is read, or has found its route."""


class Call(Struct, eq=False, kw_only=True):
    """One request. ``head``: length of the JSON before raw bytes, -1 where all is JSON.

    ``reply`` is called once with the answer. ``key``: of a header, where the body gives none.
    ``timeout_s``: how long the caller waits for it; after that it is not computed any more.
    ``headers``: those that graphs may ask for. ``part_of``: the prediction of the graph that asks,
    which wants the outputs as they are (``found``); ``parts``: of a graph, those of its nodes.
    ``unheard``: nobody gets the answer: a graph that is a shadow asks.
    """

    kind: str
    endpoint: str
    version: str
    body: bytes
    head: int
    reply: Callable[[Answer], None]
    key: str = ""
    timeout_s: float = math.inf
    headers: Mapping[str, str] | Mapping[bytes, bytes] | None = None
    begun_s: float = field(default_factory=time.perf_counter)
    deadline_s: float = math.inf
    part_of: str = ""
    parts: tuple[str, ...] | None = None
    matrix: bytes = b""
    told: bytes = b""
    hidden: frozenset[str] = frozenset()
    unheard: bool = False
    plain: quick.Request | None = None
    wire: Wire = _LATER
    route: Route = _LATER
    arm: Arm[Runtime] = _LATER
    values: Values = _LATER
    rows: int = 0
    found: tuple[Outputs, int, int] = _LATER

    def __post_init__(self) -> None:
        self.deadline_s = self.begun_s + self.timeout_s

    def give_up(self) -> None:
        """Nobody waits for it any more: it is not computed where its turn has not come."""
        self.deadline_s = -math.inf

    @property
    def redact(self) -> frozenset[str]:
        """The columns that are not kept: those of the endpoint, and of graphs that it asks for."""
        return self.route.redact | self.hidden if self.hidden else self.route.redact

    def read(self) -> None:
        """Parse the body: in one step where it is of the usual form.

        Raises:
            InputError: it is no request.
        """
        if self.kind is V2 and self.head < 0:
            self.plain = quick.read(self.body)
        if self.plain is not None:
            self.wire = quick.wire(self.plain)
        else:
            self.wire = protocol.parse(self.kind, self.body, None if self.head < 0 else self.head)
            self.deadline_s = min(self.deadline_s, self.begun_s + self.wire.timeout_s)

    def check(self, contract: Contract) -> tuple[Values, int]:
        """The inputs as a model takes them, and the number of rows.

        Raises:
            InputError: they are not what the model takes.
        """
        if self.plain is None:
            return protocol.check(self.wire, contract)
        found = quick.values_of(self.plain, contract)
        if found is not None:
            self.matrix = found[0].tobytes()  # now: a user's code may write to the array
            return found
        return protocol.check(protocol.parse(self.kind, self.body), contract)


class Answer(Struct):
    """The answer to one request. ``status`` in the words of HTTP, since the protocol has them.

    ``logged``: the prediction is in the log (False: not kept, or the log could not be written).
    ``trace``: the ``traceparent`` of its span, where requests are traced.
    """

    status: int
    body: bytes
    head: int = -1
    identity: Identity | None = None
    prediction_id: str = ""
    logged: bool = False
    media: str = "application/json"
    allow: str = ""
    trace: str = ""


class Route(Struct, dict=True):
    """An endpoint as it is served now. ``arms``: revisions with their share of the traffic
    (a pair of both is a live one).

    ``log``: the share of predictions that is logged, without the columns in ``redact``.
    ``shadows``: who gets copies of answered requests, and of which share (from 0 to 1) of them.
    """

    name: str
    arms: Sequence[Arm[Runtime] | tuple[Runtime, float]]
    log: float = 1.0
    redact: frozenset[str] = frozenset()
    max_queue: int = 1024
    unloaded: bool = False
    shadows: tuple[tuple[Runtime, float], ...] = ()
    asleep: Mapping[str, str] = MappingProxyType({})
    """Versions that are loaded when they are asked for, and '' or why that failed. '' stands for
    what has the traffic, whichever version it is."""
    why: str = ""
    """Why it answers nothing, where it is a graph that cannot be asked."""

    def __post_init__(self) -> None:
        arms = [arm if isinstance(arm, Arm) else _arm(*arm) for arm in self.arms]
        self.router = Router(arms)
        self.versions = {arm.value.identity.version: arm.value for arm in arms}
        self._pinned = {
            version: Arm(runtime, runtime.identity.revision, 0, PINNED)
            for version, runtime in self.versions.items()
        }
        self.ready = any(arm.weight > 0 for arm in arms) or self.asleep.get("") == ""
        """Whether requests are answered, also if that takes until their model is loaded."""
        self.drawn = len(self.router.arms) > 1
        self.only = None if self.drawn or self.why else next(iter(self.router.arms), None)
        """The arm that answers all but requests for a version, where there is one such."""

    def leave_out(self, broken: Collection[Runtime]) -> None:
        """Go on without these revisions: the others share what was theirs."""
        arms = [arm if isinstance(arm, Arm) else _arm(*arm) for arm in self.arms]
        self.arms = [arm for arm in arms if arm.value not in broken]
        self.shadows = tuple(one for one in self.shadows if one[0] not in broken)
        self.__post_init__()

    def choose(self, version: str, key: str) -> Arm[Runtime] | None:
        """The revision that answers: of that version, or by share of traffic and key."""
        return self._pinned.get(version) if version else self.router.choose(key)

    def answers(self, version: str) -> bool:
        """Whether that version ('': whichever has the traffic) is there, or comes if asked for."""
        return self.peek(version) is not None or self.asleep.get(version) == ""

    def peek(self, version: str) -> Runtime | None:
        """The revision of that version, or that with most of the traffic; counts for nothing."""
        if self.why:
            return None
        if version:
            return self.versions.get(version)
        best = max(self.router.arms, key=lambda arm: arm.weight, default=None)
        return best.value if best else None


def _arm(runtime: Runtime, weight: float) -> Arm[Runtime]:
    return Arm(runtime, runtime.identity.revision, weight)


class DataPlane:
    """Answers requests for the endpoints it was given. Belongs to one event loop.

    ``spool`` None: nothing is logged. ``parked``: requests whose model is being loaded.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, spool: Spool | None, *, threads: int = THREADS
    ) -> None:
        self.routes: Mapping[str, Route] = {}
        self.least_queue = 0
        """Below so many requests in flight no endpoint of ``follow`` is full."""
        self.log_failures = 0
        self.in_flight = 0
        self._loop = loop
        self._spool = spool
        self._ids = PredictionIds()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._waiting: dict[Runtime, list[Call]] = {}
        self._busy: set[Runtime] = set()
        self._outbox: list[tuple[Call, Answer]] = []
        self._frames: list[bytes] = []
        self._scheduled = False
        self.parked = Parked()
        self._functions = ThreadPoolExecutor(FUNCTIONS, thread_name_prefix="function")
        self._graphs = Graphs(self, Hooks(loop, self._functions, self._ids, Call, body_of, refusal))
        self._shadows = Shadows(spool, _outcomes, record_of_copy, loop, self._graphs.ask_copy)

    async def infer(
        self, endpoint: str, body: bytes, *, kind: str = V2, version: str = "", head: int = -1
    ) -> Answer:
        """Answer one request."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        reply = future.set_result
        self.submit(
            Call(kind=kind, endpoint=endpoint, version=version, body=body, head=head, reply=reply)
        )
        return await future

    def submit(self, call: Call) -> None:
        """Take one request; its ``reply`` is called once, on this loop, perhaps at once."""
        route = self.routes.get(call.endpoint)
        if route is None:
            call.reply(refusal(404, f"There is no endpoint {call.endpoint!r}."))
            return
        call.route = route
        only = route.only
        if call.version:
            only = None
        elif only is not None and only.value.waiting >= route.max_queue:
            self._overloaded(call, only.value)  # before it is read: a refusal is to cost little
            return
        try:
            call.read()
        except InputError as error:
            self._reject(call, route, error.message)
            return
        key = call.wire.key or call.key
        arm = route.choose(call.version, key) if only is None else only
        if arm is None or route.why:
            self.when_awake(route, call.version, partial(self.submit, call), call.reply)
            return
        call.arm, call.key, runtime = arm, key, arm.value
        if call.unheard:
            call.arm = Arm(runtime, arm.name, arm.weight, SHADOW, arm.propensity)
        elif route.drawn and not key and not call.version:
            runtime.account.assigned += 1
        if runtime.waiting >= route.max_queue:
            self._overloaded(call, runtime)
        else:
            self._accept(call, runtime)

    def _overloaded(self, call: Call, runtime: Runtime) -> None:
        runtime.account.overloads += 1
        call.reply(refusal(429, f"{runtime.waiting} requests wait already; retry later."))

    def reject(self, call: Call, message: str) -> None:
        """Answer 400 to a request that its transport could not read; counted and logged as one."""
        route = self.routes.get(call.endpoint)
        if route is None:
            call.reply(refusal(404, f"There is no endpoint {call.endpoint!r}."))
        else:
            self._reject(call, route, message)

    def _reject(self, call: Call, route: Route, message: str) -> None:
        arm = route.choose(call.version, "")
        if arm is None:
            act = partial(self.reject, call, message)
            self.when_awake(route, call.version, act, call.reply)
        else:
            call.route, call.arm = route, arm
            self._refuse(call, arm.value, 400, message)
            self.schedule()

    def when_awake(self, route: Route, version: str, act: Callable[[], None], reply: Reply) -> None:
        """``act`` once a version that sleeps is in memory; ``reply`` with why it does not come, or
        with what is said of one that is not there.
        """
        if route.why or version not in route.asleep:
            reply(not_there(route, version))
            return
        name, most = route.name, route.max_queue

        def fail(why: str) -> None:
            reply(refusal(503, f"{name!r} cannot be loaded: {why}"))

        if not self.parked.take(name, version, act, fail, most):
            reply(refusal(429, f"{most} requests wait for the model; retry later."))

    def follow(self, routes: Mapping[str, Route]) -> None:
        """Serve these routes from now on; what waited for a model goes on."""
        self.routes = routes
        self.least_queue = min((route.max_queue for route in routes.values()), default=0)
        self.parked.follow(routes)
        self._shadows.keep({one for route in routes.values() for one, _ in route.shadows})

    def _accept(self, call: Call, runtime: Runtime) -> None:
        try:
            call.values, call.rows = call.check(runtime.contract)
            if call.redact:  # now: a user's code may write to the values
                told = runtime.contract.columns(call.values)
                call.told = kept(told, call.rows, call.redact)
        except InputError as error:
            self._refuse(call, runtime, 400, error.message)
            self.schedule()
            return
        runtime.waiting += 1
        self.in_flight += 1
        if runtime.graph is not None:
            self._graphs.begin(call, runtime)
            return
        calls = self._waiting.get(runtime)
        if calls is None:
            self._waiting[runtime] = [call]
            self.schedule()
        else:
            calls.append(call)

    def schedule(self) -> None:
        """Take a turn as soon as all that has arrived is read."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Everything that has arrived goes to its model; then the log; then the answers."""
        self._scheduled = False
        if self._waiting:
            for runtime in [each for each in self._waiting if each not in self._busy]:
                self._start(runtime)
        self._flush()

    def _start(self, runtime: Runtime) -> None:
        calls = self._waiting.pop(runtime)
        if len(calls) > MAX_BATCH:
            self._waiting[runtime] = calls[MAX_BATCH:]
            calls = calls[:MAX_BATCH]
            self.schedule()
        now_s = time.perf_counter()
        late = [call for call in calls if call.deadline_s < now_s]
        if late:
            self._expire(runtime, late)
            calls = [call for call in calls if call.deadline_s >= now_s]
            if not calls:
                return
        if runtime.cost_s > SLOW_S or runtime.apart:
            self._busy.add(runtime)
            self._threads.submit(self._in_thread, runtime, calls)
        else:
            self._answer(runtime, *_predict(runtime, calls))

    def _expire(self, runtime: Runtime, late: list[Call]) -> None:
        """Nobody waits for these any more: they are not computed."""
        runtime.waiting -= len(late)
        self.in_flight -= len(late)
        runtime.account.expired += len(late)
        for call in late:
            waited_ms = (time.perf_counter() - call.begun_s) * 1e3
            said = f"The request's deadline passed while it waited for {waited_ms:.0f} ms."
            self._outbox.append((call, refusal(504, said)))

    def _in_thread(self, runtime: Runtime, calls: list[Call]) -> None:
        outcomes, cost_s = _predict(runtime, calls)
        self._loop.call_soon_threadsafe(self._after_thread, runtime, outcomes, cost_s)

    def _after_thread(self, runtime: Runtime, outcomes: _Outcomes, cost_s: float) -> None:
        self._busy.discard(runtime)
        self._answer(runtime, outcomes, cost_s)
        self._turn()

    # answers ------------------------------------------------------------------------------------

    def _answer(self, runtime: Runtime, outcomes: _Outcomes, cost_s: float) -> None:
        runtime.cost_s += (cost_s - runtime.cost_s) * 0.2
        account = runtime.account
        for calls, outputs, begun_s, ready_s, ended_s in outcomes:
            runtime.waiting -= len(calls)
            self.in_flight -= len(calls)
            if isinstance(outputs, Exception):
                for call in calls:
                    self._fail(call, runtime, outputs)
                continue
            answering_s = time.perf_counter()
            at, nan = 0, has_nan(outputs)
            if runtime.watch is not None and len(runtime.watch) < MOST_BATCHES:
                runtime.watch.append((outputs.arrays, [call.rows for call in calls]))
            for call, id in zip(calls, self._ids.take(len(calls)), strict=True):
                stop = at + call.rows
                if nan and nan_rows(outputs, at, stop):
                    account.nans += 1
                self._succeed(call, runtime, outputs, at, stop, id)
                at = stop
            took = account.execute(
                len(calls),
                at,
                len(calls) * begun_s - sum([call.begun_s for call in calls]),
                ready_s - begun_s,
                ended_s - ready_s,
            )
            output_s = time.perf_counter() - answering_s
            took[3] += output_s
            account.output_s += len(calls) * output_s

    def _succeed(
        self, call: Call, runtime: Runtime, outputs: Outputs, at: int, stop: int, id: str
    ) -> None:
        try:
            body, head = body_of(call.wire, runtime, id, outputs, at, stop)
        except InputError as error:
            self._refuse(call, runtime, 400, error.message)
        except Exception as error:  # noqa: BLE001 - what the user's model gave cannot be written
            self._fail(call, runtime, error)
        else:
            if call.part_of or call.wire.outputs:
                call.found = outputs, at, stop
            self.keep(call, runtime, Answer(200, body, head, runtime.identity, id), "")
            if call.route.shadows:
                self.copy(call, id, outputs.arrays, at, stop)

    def copy(self, call: Call, id: str, arrays: Mapping[str, Array], at: int, stop: int) -> None:
        """Offer an answered request to the shadows of its endpoint."""
        if call.arm.role not in {PINNED, SHADOW}:
            for runtime, share in call.route.shadows:
                self._shadows.offer(Copy(runtime, share, call, id, arrays, at, stop))

    def _fail(self, call: Call, runtime: Runtime, error: Exception) -> None:
        """The model raised for this request alone. A ValueError is about the values it was given,
        so it is told as a bad request; both count as the model's errors.
        """
        runtime.account.errors += 1
        about_input = isinstance(error, ValueError) or (
            isinstance(error, Invalid) and error.code.startswith("input.")
        )
        status = 400 if about_input else 500
        said = str(error).encode(errors="replace").decode()
        about = "" if isinstance(error, Ended) else "The model refused the input: "
        self._refuse(call, runtime, status, about + said)

    def _refuse(self, call: Call, runtime: Runtime, status: int, message: str) -> None:
        if status == 400:
            runtime.account.rejected += 1
        answer = refusal(status, message)
        answer.identity, answer.prediction_id = runtime.identity, self._ids.next()
        self.keep(call, runtime, answer, message)

    def keep(self, call: Call, runtime: Runtime, answer: Answer, error: str) -> None:
        """Log and count an answer; it goes out at the end of the turn."""
        latency_s = time.perf_counter() - call.begun_s
        account = runtime.account
        account.add(latency_s)
        if answer.status != 200:
            account.fail(latency_s)
        share = call.route.log
        if self._spool is not None and (
            share == 1 or (share and is_sampled(answer.prediction_id, share))
        ):
            answer.logged = True
            self._frames.append(frame_of(call, answer, runtime.identity, latency_s, error))
        self._outbox.append((call, answer))

    def _flush(self) -> None:
        """One write for all records, then the answers."""
        outbox, self._outbox = self._outbox, []
        frames, self._frames = self._frames, []
        if frames and self._spool is not None:
            try:
                self._spool.append(frames)
            except OSError as error:
                self._unlogged(outbox, error)
        for call, answer in outbox:
            try:
                call.reply(answer)
            except Exception:  # noqa: BLE001 - a bug costs one answer, not those behind it
                _log.exception("an answer of %r could not be told", call.endpoint)

    def _unlogged(self, outbox: list[tuple[Call, Answer]], error: OSError) -> None:
        """A full disk does not take the endpoint down: the answers say that they are not kept."""
        if not self.log_failures:
            _log.error("the prediction log cannot be written: %s", error)
        self.log_failures += len(outbox)
        for _, answer in outbox:
            answer.logged = False

    def close(self) -> None:
        """End the threads; nothing may be in flight."""
        self._threads.shutdown()
        self._functions.shutdown(wait=False, cancel_futures=True)
        self._shadows.close()


_Outcomes = list[tuple[list[Call], Outputs | Exception, float, float, float]]
"""Requests, what the model made of them, and when their batch began, was stacked, and ended."""


def _predict(runtime: Runtime, calls: list[Call]) -> tuple[_Outcomes, float]:
    begun_s = time.perf_counter()
    outcomes = _outcomes(runtime, calls)
    return outcomes, time.perf_counter() - begun_s


def _outcomes(runtime: Runtime, calls: list[Call]) -> _Outcomes:
    """Predictions of a batch. One that fails is halved until each bad request fails by itself."""
    begun_s = ready_s = time.perf_counter()
    try:
        if len(calls) == 1:
            outputs = runtime.run(calls[0].values, calls[0].rows)
        else:
            values = runtime.contract.stack([call.values for call in calls])
            ready_s = time.perf_counter()
            outputs = runtime.run(values, sum(call.rows for call in calls))
        return [(calls, outputs, begun_s, ready_s, time.perf_counter())]
    except Exception as error:  # noqa: BLE001 - the model is the user's code
        if len(calls) == 1 or isinstance(error, Ended):  # what killed a process is not tried again
            return [(calls, error, begun_s, ready_s, time.perf_counter())]
    half = len(calls) // 2
    return _outcomes(runtime, calls[:half]) + _outcomes(runtime, calls[half:])


def refusal(status: int, message: str) -> Answer:
    """An answer that only says what is wrong."""
    return Answer(status, orjson.dumps({"error": message}))


def unloaded(name: str) -> str:
    """What is said of an endpoint that a client has unloaded."""
    return f"{name!r} is unloaded; load it with POST /v2/repository/models/{name}/load."


def status_of(error: ClewError) -> int:
    """The status of an error that is told to a client."""
    return _STATUSES.get(error.kind, 500)


_STATUSES = {
    "not_found": 404, "invalid": 400, "conflict": 409, "denied": 403, "not_ready": 503,
    "unavailable": 503,
}  # fmt: skip


def not_there(route: Route, version: str) -> Answer:
    """The answer of an endpoint that has no such version, or none at all now."""
    if route.unloaded:
        return refusal(404, unloaded(route.name))
    if route.why:
        return refusal(503, f"The graph {route.name!r} cannot be asked: {route.why}.")
    if version and route.ready:
        known = ", ".join(route.versions)
        return refusal(404, f"{route.name!r} serves version {known}, not {version!r}.")
    said = f"The endpoint {route.name!r} has no revision loaded yet; retry. Why: clew endpoints."
    return refusal(503, said)
