"""What graphs take and give now: that of the endpoints that they ask, as far as these are loaded.

Knows routes and what is loaded behind them; no requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from clew.base.errors import ClewError
from clew.base.records import Signature
from clew.base.records.graphs import needed_nodes
from clew.serving.contract import contract_of
from clew.serving.dataplane import Route
from clew.serving.graph_arms import circle_of, fitted
from clew.serving.graph_checks import Known, settle
from clew.serving.graph_model import GraphModel
from clew.serving.runtime import Runtime

_log = logging.getLogger("clew.serving")


Told = Callable[[str], Signature | None]
"""Endpoint → what a client sends to what is live there, by its row: it may not be in memory."""


def settle_graphs(routes: Mapping[str, Route], told: Told = lambda _: None) -> None:
    """Have every graph take and give what its nodes do now. One that cannot be asked says why
    (``Runtime.misfit`` where that will not pass by itself); requests go to what stands beside it,
    and where nothing does, the endpoint is not ready.
    """
    settled: set[str] = set()
    asked = {name: _asked(route) for name, route in routes.items()}
    for name in routes:
        _settle(name, routes, asked, settled, told)


def _asked(route: Route) -> set[str]:
    """The endpoints that graphs on a route ask."""
    return {
        node
        for runtime in _runtimes(route)
        if runtime.graph is not None
        for node in runtime.graph.graph.endpoints
    }


def _runtimes(route: Route) -> list[Runtime]:
    """What is loaded of an endpoint, what is live first."""
    arms = sorted(route.router.arms, key=lambda arm: arm.role != "live")
    found = [
        *(arm.value for arm in arms),
        *route.versions.values(),
        *(one for one, _ in route.shadows),
    ]
    return list(dict.fromkeys(found))


def _settle(
    name: str,
    routes: Mapping[str, Route],
    asked: Mapping[str, set[str]],
    settled: set[str],
    told: Told,
) -> None:
    if name in settled:
        return
    settled.add(name)
    route = routes[name]
    broken: dict[Runtime, str] = {}
    like: Runtime | None = None
    copied = {one for one, _ in route.shadows}
    for runtime in _runtimes(route):
        why = ""
        if runtime.graph is not None:
            for node in runtime.graph.graph.endpoints:
                if node in routes:
                    _settle(node, routes, asked, settled, told)
            why = _take(
                runtime, runtime.graph, routes, asked, told, like, heard=runtime not in copied
            )
        if why != runtime.why:
            runtime.why = why
            _log.warning("%s, revision %d: %s", name, runtime.identity.number, why or "goes again")
        if why:
            broken[runtime] = why
        elif like is None and runtime not in copied:
            like = runtime
    if broken:
        _leave_out(route, broken)


def _leave_out(route: Route, broken: Mapping[Runtime, str]) -> None:
    shared = route.router.arms
    if any(arm.value not in broken for arm in shared):
        route.leave_out(broken)
    elif shared:
        route.ready, route.why = False, broken[shared[0].value]
    elif "" not in route.asleep:
        route.ready, route.why = False, next(iter(broken.values()))


def _take(
    runtime: Runtime,
    graph: GraphModel,
    routes: Mapping[str, Route],
    asked: Mapping[str, set[str]],
    told: Told,
    like: Runtime | None,
    *,
    heard: bool,
) -> str:
    """Give a graph its contract; why it cannot be asked where that is so.

    ``like``: what stands beside it, whose requests it gets; ``heard``: and whose answers its own
    stand for.
    """
    name, nodes = runtime.identity.endpoint, graph.graph.endpoints
    runtime.misfit = ""
    if circle := circle_of(name, nodes, asked):
        runtime.misfit = f"it would ask itself: {' → '.join(circle)}"
        return runtime.misfit
    missing = [one for one in nodes if one not in routes or not routes[one].ready]
    needed = needed_nodes(graph.graph.root)
    for one in missing:
        if one in needed:
            why = (routes[one].why or "has no revision loaded") if one in routes else ""
            return f"its node {one!r} {why or 'does not exist'}"

    def look(node: str) -> Known | None:
        if node not in missing:
            return _known(routes[node])
        signature = told(node)  # the graph goes on without it, and takes what it took
        return None if signature is None else Known(signature=signature)

    try:
        known = settle(name, graph.graph, look)
    except ClewError as error:
        runtime.misfit = error.message
        return runtime.misfit
    signature = known.signature
    if like is not None:
        signature, why = fitted(signature, like.model.signature)
        lacking = [] if known.outputs is None or not heard else _lacking(known.outputs, like)
        if lacking and not why:
            why = f"it gives no {', '.join(lacking)}, and what stands beside it does"
        if why:
            runtime.misfit = why
            return why
    graph.learn_classes(look)
    if graph.signature != signature:
        graph.signature = signature
        runtime.contract = contract_of(signature)
        runtime.outputs = []
    if not runtime.outputs and known.outputs is not None:
        runtime.outputs = [_described(one, graph, routes) for one in known.outputs.items()]
    return ""


def _lacking(outputs: Mapping[str, object], like: Runtime) -> list[str]:
    return [str(one["name"]) for one in like.outputs if one["name"] not in outputs]


def _known(route: Route) -> Known | None:
    runtime = route.peek("")
    if runtime is None:
        return None
    tails = {str(one["name"]): _tail(one) for one in runtime.outputs}
    return Known(signature=runtime.model.signature, outputs=tails or None)


def _tail(told: Mapping[str, object]) -> tuple[int, ...]:
    shape = told["shape"]
    return tuple(shape[1:]) if isinstance(shape, list) else ()


def _described(
    output: tuple[str, tuple[int, ...]], graph: GraphModel, routes: Mapping[str, Route]
) -> dict[str, object]:
    """An output for the metadata, typed as the nodes give it; a mean or a share is FP64."""
    name, tail = output
    for node in graph.graph.endpoints:
        runtime = routes[node].peek("") if node in routes else None
        for one in runtime.outputs if runtime else ():
            if one["name"] in (name, name.rpartition(".")[2]) and _tail(one) == tail:
                return {**one, "name": name}
    return {"name": name, "datatype": "FP64", "shape": [-1, *tail]}


def headers_of(routes: Mapping[str, Route]) -> set[bytes]:
    """Headers that graphs ask for."""
    return {
        name.encode()
        for route in routes.values()
        for runtime in _runtimes(route)
        if runtime.graph is not None
        for name in runtime.graph.headers
    }
