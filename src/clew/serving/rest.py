"""The paths: which request is an inference, a question about a model, or about the server.

Knows no sockets and no database. Paths of the Open Inference Protocol v2, with the extensions for
statistics, configuration and the model repository, and of v1.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, partial
from typing import Protocol
from urllib.parse import unquote

import orjson
from msgspec import Struct

from clew.base.errors import ClewError, Invalid
from clew.serving import describing
from clew.serving.dataplane import Answer, Call, DataPlane, Route, not_there, refusal, status_of
from clew.serving.protocol import V1, V2
from clew.serving.questions import TOO_MANY, Questions
from clew.serving.requests import Request
from clew.serving.tensors import InputError

HEALTH = (b"/v2/health/live", b"/v2/health/ready")
"""Paths for probes: they tell nothing but that, so they ask for no token."""
Reply = Callable[[Answer], None]
Around = Callable[[Reply, str, Mapping[str, str], str], Reply]
"""Stands around the reply of a request: given its path, its trace headers and its endpoint."""
Explain = Callable[..., None]
"""Answers a request with what each input did: see ``Explaining.ask``."""
_log = logging.getLogger("clew.serving")


class Target(Struct, frozen=True):
    """What a path asks for, by which methods."""

    what: str
    methods: tuple[str, ...]
    name: str = ""
    version: str = ""


_READ = ("GET", "HEAD")
_FIXED = {
    ("v2",): "server",
    ("v2", "health", "live"): "live",
    ("v2", "health", "ready"): "ready",
    ("metrics",): "metrics",
    ("v1", "models"): "models",
    ("v2", "models"): "models",
    ("v2", "models", "stats"): "stats",
    (): "root",
}
_OF_MODEL = {
    (): ("model", _READ),
    ("ready",): ("model_ready", _READ),
    ("infer",): ("infer", ("POST",)),
    ("explain",): ("explain", ("POST",)),
    ("stats",): ("stats", _READ),
    ("config",): ("config", _READ),
}


@lru_cache(maxsize=4096)
def target_of(raw: bytes) -> Target | None:
    """What a request target (path and query) asks for; None where there is nothing."""
    try:
        path = unquote(raw.partition(b"?")[0].decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        return None
    parts = tuple(path.strip("/").split("/")) if path.strip("/") else ()
    if parts in _FIXED:
        return Target(_FIXED[parts], _READ)
    below = _BELOW.get(parts[:2])
    return below(parts[2:]) if below else None


def _v1_model(parts: tuple[str, ...]) -> Target | None:
    if len(parts) not in {1, 3} or (len(parts) == 3 and parts[1] != "versions"):
        return None
    last, colon, verb = parts[-1].rpartition(":")
    asked = bool(colon) and verb in {"predict", "explain"}
    last = last if asked else parts[-1]
    name, version = (last, "") if len(parts) == 1 else (parts[0], last)
    if not name or (len(parts) == 3 and not version):
        return None
    if asked:
        return Target(f"v1_{verb}", ("POST",), name, version)
    return Target("v1_model", _READ, name, version)


def _model(parts: tuple[str, ...]) -> Target | None:
    if not parts or not parts[0]:
        return None
    name, rest, version = parts[0], parts[1:], ""
    if rest[:1] == ("versions",) and len(rest) >= 2 and rest[1]:
        version, rest = rest[1], rest[2:]
    found = _OF_MODEL.get(rest)
    return Target(found[0], found[1], name, version) if found else None


def _repository(parts: tuple[str, ...]) -> Target | None:
    if parts == ("index",):
        return Target("index", ("POST", "GET"))
    if len(parts) == 3 and parts[0] == "models" and parts[1] and parts[2] in {"load", "unload"}:
        return Target(parts[2], ("POST",), parts[1])
    return None


_BELOW: dict[tuple[str, ...], Callable[[tuple[str, ...]], Target | None]] = {
    ("v2", "models"): _model,
    ("v2", "repository"): _repository,
    ("v1", "models"): _v1_model,
}


class Clerk(Protocol):
    """Who knows what is no prediction (see ``desk``); each may wait, and raises a ClewError."""

    def metrics(self) -> str: ...  # noqa: D102 - as it says
    def statistics(self, name: str, version: str, /) -> list[dict[str, object]]: ...  # noqa: D102 - as it says
    def load(self, name: str, /) -> None: ...  # noqa: D102 - as it says
    def unload(self, name: str, /) -> None: ...  # noqa: D102 - as it says


class Rest:
    """Answers requests from a data plane, and what waits for rows from a desk."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plane: DataPlane,
        desk: Clerk,
        version: str,
        around: Around | None = None,
        explain: Explain | None = None,
    ) -> None:
        self._plane, self._desk = plane, desk
        self._questions = Questions(loop)
        self._version, self._around, self._explain = version, around, explain

    def __call__(self, request: Request, reply: Reply) -> None:
        """Answer a request, now or when its batch is done."""
        target = target_of(request.target)
        if target is None:
            shared = b"sharedmemory" in request.target
            reply(refusal(404, _NOT_SHARED if shared else "There is nothing at this path."))
        elif request.method not in target.methods:
            answer = refusal(405, f"Use {' or '.join(target.methods)} here.")
            answer.allow = ", ".join(target.methods)
            reply(answer)
        elif target.what in {"infer", "v1_predict"}:
            self._infer(request, target, reply)
        elif target.what in {"explain", "v1_explain"}:
            self._ask_why(request, target, reply)
        elif target.what in {"metrics", "stats", "load", "unload"}:
            self._ask(request, target, reply)
        elif (route := self._asleep(target)) is not None:
            again = partial(self, request, reply)
            self._plane.when_awake(route, target.version, again, reply)
        else:
            reply(self._tell(request, target))

    def _asleep(self, target: Target) -> Route | None:
        """The endpoint of which something is asked that only a model in memory can tell."""
        route = self._plane.routes.get(target.name)
        if target.what not in {"model", "config"} or route is None:
            return None
        return route if route.peek(target.version) is None and route.asleep else None

    def _infer(self, request: Request, target: Target, reply: Reply) -> None:
        if self._around is not None:
            reply = self._around(reply, target.what, _trace_of(request), target.name)
        self._plane.submit(
            Call(
                kind=V2 if target.what == "infer" else V1,
                endpoint=target.name,
                version=target.version,
                body=request.body,
                head=request.head,
                reply=reply,
                key=request.key,
                timeout_s=request.timeout_s,
                headers=request.headers,
            )
        )

    def _ask_why(self, request: Request, target: Target, reply: Reply) -> None:
        if self._explain is None:
            reply(refusal(404, "Nothing is explained here."))
            return
        self._explain(
            V2 if target.what == "explain" else V1,
            target.name,
            target.version,
            request.body,
            request.head,
            reply,
            key=request.key,
            timeout_s=request.timeout_s,
        )

    # what waits for rows ------------------------------------------------------------------------

    def _ask(self, request: Request, target: Target, reply: Reply) -> None:
        try:
            act = self._act(request, target)
        except Invalid as error:
            reply(refusal(400, error.message))
            return
        future = self._questions.ask(act, slow=target.what in {"load", "unload"})
        if future is None:
            reply(refusal(429, TOO_MANY))
        else:
            future.add_done_callback(lambda done: reply(_outcome(done)))

    def _act(self, request: Request, target: Target) -> Callable[[], Answer]:
        desk = self._desk
        if target.what == "metrics":
            return lambda: Answer(200, desk.metrics().encode(), media=_PROMETHEUS)
        if target.what == "stats":
            return lambda: _json({"model_stats": desk.statistics(target.name, target.version)})
        if asked := _object(request.body).get("parameters"):
            check_parameters(target.what, asked)
        change = desk.load if target.what == "load" else desk.unload

        def changed() -> Answer:
            change(target.name)
            return _json({})

        return changed

    # what is known at once ----------------------------------------------------------------------

    def _tell(self, request: Request, target: Target) -> Answer:
        routes = self._plane.routes
        if target.name:
            route = routes.get(target.name)
            if route is None:
                return refusal(404, f"There is no endpoint {target.name!r}.")
            return _OF_ROUTE[target.what](route, target)
        if target.what == "index":
            return _index(request, routes.values())
        if target.what == "ready":
            return _ready(describing.all_ready(routes.values()))
        values: dict[str, object] = {
            "root": {"status": "alive", "live": True},
            "live": {"live": True},
            "server": describing.server(self._version),
            "models": {"models": list(routes)},
        }
        return _json(values[target.what])


def _trace_of(request: Request) -> dict[str, str]:
    """The headers of W3C's trace context, where it has them."""
    return {
        name.decode(): request.headers[name].decode("latin-1")
        for name in (b"traceparent", b"tracestate")
        if name in request.headers
    }


_NOT_SHARED = "Shared memory is an extension that is not here; send tensors with the request."
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def _outcome(done: asyncio.Future[Answer]) -> Answer:
    try:
        return done.result()
    except ClewError as error:
        return refusal(status_of(error), error.message)
    except Exception:  # noqa: BLE001 - a bug costs one answer, not the server
        _log.exception("a question could not be answered")
        return refusal(500, "The server could not answer this.")


def _index(request: Request, routes: Collection[Route]) -> Answer:
    try:
        ready = _object(request.body).get("ready", False)
    except Invalid as error:
        return refusal(400, error.message)
    if not isinstance(ready, bool):
        return refusal(400, "'ready' must be true or false.")
    return _json(describing.index(routes, ready=ready))


def _object(body: bytes) -> dict[str, object]:
    """A body that may be empty.

    Raises Invalid ``predict.input`` where it is something else than a JSON object.
    """
    try:
        value = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise InputError(f"The body is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError("The body must be a JSON object.")
    return value


def check_parameters(what: str, parameters: object) -> None:
    """Whether a load or an unload may be asked for like this.

    Raises Invalid ``predict.input`` for what would change the model: it is what was committed.
    """
    if not isinstance(parameters, dict):
        raise InputError("'parameters' must be an object.")
    taken = {"unload_dependents"} if what == "unload" else set[str]()
    if wrong := sorted(str(name) for name in parameters.keys() - taken):
        raise InputError(
            f"A model is {what}ed as it was committed; it takes no {', '.join(map(repr, wrong))}."
        )


def _tell_model(route: Route, target: Target) -> Answer:
    runtime = route.peek(target.version)
    if runtime is None:
        return not_there(route, target.version)
    tell = describing.metadata if target.what == "model" else describing.configuration
    return _json(tell(route, runtime))


def _tell_ready(route: Route, target: Target) -> Answer:
    if not route.answers(target.version) and (target.version or route.unloaded):
        return not_there(route, target.version)
    return _ready(route.answers(target.version), name=route.name)


def _tell_v1(route: Route, target: Target) -> Answer:
    """What kserve's client reads (``ready``), and the status as TensorFlow Serving tells it."""
    held = dict.fromkeys(route.versions, "AVAILABLE")
    states_of = held | dict.fromkeys(filter(None, route.asleep), "START")
    asked = {each: state for each, state in states_of.items() if target.version in {"", each}}
    if target.version and not asked:
        return not_there(route, target.version)
    fine = {"error_code": "OK", "error_message": ""}
    states = [{"version": each, "state": state, "status": fine} for each, state in asked.items()]
    return _json({"name": route.name, "ready": route.ready, "model_version_status": states})


_OF_ROUTE = {
    "model": _tell_model,
    "config": _tell_model,
    "model_ready": _tell_ready,
    "v1_model": _tell_v1,
}


def _ready(ready: bool, **more: object) -> Answer:
    """The specification's body says ``live``, kserve's client reads ``ready``: both are there."""
    answer = _json({**more, "live": ready, "ready": ready})
    answer.status = 200 if ready else 503
    return answer


def _json(value: object) -> Answer:
    return Answer(200, orjson.dumps(value))
