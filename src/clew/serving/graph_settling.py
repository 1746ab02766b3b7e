"""What graphs take and give now: that of the endpoints that they ask, as far as these are loaded.

Knows routes and what is loaded behind them; no requests.
"""

from __future__ import annotations

from collections.abc import Mapping

from clew.base.errors import ClewError
from clew.serving.contract import contract_of
from clew.serving.dataplane import Route
from clew.serving.graph_checks import Known, settle
from clew.serving.graph_model import GraphModel
from clew.serving.runtime import Runtime


def settle_graphs(routes: Mapping[str, Route]) -> None:
    """Have every graph take and give what its nodes do now; one that cannot be asked says why."""
    settled: set[str] = set()
    for name in routes:
        _settle(name, routes, settled)


def _settle(name: str, routes: Mapping[str, Route], settled: set[str]) -> None:
    route = routes[name]
    if name in settled:
        return
    settled.add(name)
    for runtime in {arm.value for arm in route.router.arms} | set(route.versions.values()):
        graph = runtime.graph
        if graph is None:
            continue
        for node in graph.graph.endpoints:
            if node in routes:
                _settle(node, routes, settled)
        why = _take(runtime, graph, routes)
        if why:
            route.ready, route.why = False, why


def _take(runtime: Runtime, graph: GraphModel, routes: Mapping[str, Route]) -> str:
    """Give a graph its contract; why it cannot be asked where that is so."""
    name = runtime.identity.endpoint
    missing = [one for one in graph.graph.endpoints if one not in routes or not routes[one].ready]
    if missing:
        told = [routes[one].why or "has no revision loaded" for one in missing if one in routes]
        return f"its node {missing[0]!r} {told[0] if told else 'does not exist'}"

    def look(node: str) -> Known | None:
        return _known(routes[node])

    try:
        known = settle(name, graph.graph, look)
    except ClewError as error:
        return error.message
    graph.learn_classes(look)
    if graph.signature != known.signature:
        graph.signature = known.signature
        runtime.contract = contract_of(known.signature)
        runtime.outputs = []
    if not runtime.outputs and known.outputs is not None:
        runtime.outputs = [_described(one, graph, routes) for one in known.outputs.items()]
    return ""


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
        runtime = routes[node].peek("")
        for one in runtime.outputs if runtime else ():
            if one["name"] in (name, name.rpartition(".")[2]) and _tail(one) == tail:
                return {**one, "name": name}
    return {"name": name, "datatype": "FP64", "shape": [-1, *tail]}


def headers_of(routes: Mapping[str, Route]) -> set[bytes]:
    """Headers that graphs ask for."""
    return {
        name.encode()
        for route in routes.values()
        for runtime in route.versions.values()
        if runtime.graph is not None
        for name in runtime.graph.headers
    }
