"""The paths: which request is an inference, a question about a model, or about the server.

Knows no sockets and no database. Paths of the Open Inference Protocol v2 and of v1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote

import orjson
from msgspec import Struct

from clew.serving.dataplane import Answer, Call, DataPlane, Route, refusal
from clew.serving.http import Request
from clew.serving.protocol import V1, V2
from clew.serving.runtime import Runtime

HEALTH = (b"/v2/health/live", b"/v2/health/ready")
"""Paths for probes: they tell nothing but that, so they ask for no token."""
EXTENSIONS = ["binary_tensor_data", "model_repository"]
Reply = Callable[[Answer], None]


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
    (): "live",
}
_OF_MODEL = {
    (): ("model", _READ),
    ("ready",): ("model_ready", _READ),
    ("infer",): ("infer", ("POST",)),
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
    if len(parts) != 1:
        return None
    name, colon, verb = parts[0].rpartition(":")
    if colon and verb == "predict":
        return Target("v1_predict", ("POST",), name)
    return Target("v1_model", _READ, parts[0])


def _model(parts: tuple[str, ...]) -> Target | None:
    if not parts:
        return None
    name, rest, version = parts[0], parts[1:], ""
    if rest[:1] == ("versions",) and len(rest) >= 2:
        version, rest = rest[1], rest[2:]
    found = _OF_MODEL.get(rest)
    return Target(found[0], found[1], name, version) if found else None


def _repository(parts: tuple[str, ...]) -> Target | None:
    if parts == ("index",):
        return Target("index", ("POST", "GET"))
    if len(parts) == 3 and parts[0] == "models" and parts[2] in {"load", "unload"}:
        return Target(parts[2], ("POST",), parts[1])
    return None


_BELOW: dict[tuple[str, ...], Callable[[tuple[str, ...]], Target | None]] = {
    ("v2", "models"): _model,
    ("v2", "repository"): _repository,
    ("v1", "models"): _v1_model,
}


class Rest:
    """Answers requests from a data plane. ``metrics`` gives the text of ``/metrics``."""

    def __init__(self, plane: DataPlane, metrics: Callable[[], str], version: str) -> None:
        self._plane = plane
        self._metrics = metrics
        self._version = version

    def __call__(self, request: Request, reply: Reply) -> None:
        """Answer a request, now or when its batch is done."""
        target = target_of(request.target)
        if target is None:
            reply(refusal(404, "There is nothing at this path."))
        elif request.method not in target.methods:
            answer = refusal(405, f"Use {' or '.join(target.methods)} here.")
            answer.allow = ", ".join(target.methods)
            reply(answer)
        elif target.what in {"infer", "v1_predict"}:
            self._infer(request, target, reply)
        else:
            reply(self._tell(target))

    def _infer(self, request: Request, target: Target, reply: Reply) -> None:
        self._plane.submit(
            Call(
                kind=V2 if target.what == "infer" else V1,
                endpoint=target.name,
                version=target.version,
                body=request.body,
                head=request.head,
                reply=reply,
            )
        )

    def _tell(self, target: Target) -> Answer:
        routes = self._plane.routes
        if target.name:
            route = routes.get(target.name)
            if route is None:
                return refusal(404, f"There is no endpoint {target.name!r}.")
            return _OF_ROUTE[target.what](route, target)
        if target.what == "metrics":
            media = "text/plain; version=0.0.4; charset=utf-8"
            return Answer(200, self._metrics().encode(), media=media)
        values: dict[str, object] = {
            "live": {"live": True},
            "server": {"name": "clew", "version": self._version, "extensions": EXTENSIONS},
            "index": [_entry(route) for route in routes.values()],
            "models": {"models": list(routes)},
        }
        if target.what == "ready":
            return _ready(all(route.ready for route in routes.values()))
        return _json(values[target.what])


def _tell_model(route: Route, target: Target) -> Answer:
    runtime = route.peek(target.version)
    if runtime is None:
        known = ", ".join(route.versions) or "none yet"
        status = 404 if target.version and route.ready else 503
        return refusal(status, f"{route.name!r} serves version {known}.")
    return _json(_metadata(route, runtime))


def _tell_ready(route: Route, target: Target) -> Answer:
    return _ready(route.peek(target.version) is not None, name=route.name)


def _tell_v1(route: Route, _: Target) -> Answer:
    return _json({"name": route.name, "ready": route.ready})


def _load(route: Route, target: Target) -> Answer:
    if target.what == "load" and route.ready:
        return _json({})
    return refusal(400, "Models are put on endpoints and taken off by 'clew deploy' alone.")


_OF_ROUTE = {
    "model": _tell_model,
    "model_ready": _tell_ready,
    "v1_model": _tell_v1,
    "load": _load,
    "unload": _load,
}


def _metadata(route: Route, runtime: Runtime) -> dict[str, object]:
    return {
        "name": route.name,
        "versions": list(route.versions),
        "platform": f"clew_{runtime.contract.frame}",
        "inputs": runtime.contract.describe(),
        "outputs": runtime.outputs,
        "parameters": {
            "clew-revision": runtime.identity.revision,
            "clew-model-version": runtime.identity.model_version,
            "clew-global-id": runtime.identity.global_id,
            "clew-task": runtime.model.signature.task,
            "clew-classes": list(runtime.model.signature.classes),
        },
    }


def _entry(route: Route) -> dict[str, object]:
    runtime = route.peek("")
    state = "READY" if runtime is not None else "UNAVAILABLE"
    version = runtime.identity.version if runtime else ""
    reason = "" if runtime else "no revision is loaded yet"
    return {"name": route.name, "version": version, "state": state, "reason": reason}


def _ready(ready: bool, **more: object) -> Answer:
    """The specification's body says ``live``, kserve's client reads ``ready``: both are there."""
    answer = _json({**more, "live": ready, "ready": ready})
    answer.status = 200 if ready else 503
    return answer


def _json(value: object) -> Answer:
    return Answer(200, orjson.dumps(value))
