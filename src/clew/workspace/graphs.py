"""Graphs of endpoints among everything else: checked when applied, served, their aliases followed.

Knows what endpoints are defined and which model versions are on them; asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from clew.base.errors import Invalid, NotFound
from clew.base.ids import new_id
from clew.base.records import ModelVersion, Signature
from clew.serving import EndpointDefinition
from clew.workspace.deploying import BLESSED, deploy_version
from clew.workspace.rooms import Rooms

if TYPE_CHECKING:
    from clew.authoring import Manifest

Known = tuple[Signature, dict[str, tuple[int, ...]] | None]
_OPEN = frozenset({"live", "canary", "arm", "shadow", "loading"})


def check_all(rooms: Rooms, manifests: Iterable[Manifest]) -> None:
    """That the graphs of some files fit what there is, together with what these files define.

    Raises:
        Invalid: ``graph.node``, ``graph.cycle``, ``graph.signature``, ``graph.outputs``,
            ``graph.condition``.
    """
    new = {one.name: one for manifest in manifests for one in manifest.endpoints}
    graphs = [one.name for one in new.values() if one.graph is not None]
    if not graphs:
        return
    known = {one.name: one for one in rooms.serving.definitions()} | new
    rooms.serving.check_graphs(known, graphs, lambda name: _known(rooms, known[name]))


def check_fits(rooms: Rooms, endpoint: str, graph: str) -> None:
    """That the graph of one endpoint takes what another is asked with, as far as both are known.

    Raises:
        NotFound: ``endpoint.unknown``.
        Invalid: ``graph.arm``, ``endpoint.no_graph``.
    """
    known = {one.name: one for one in rooms.serving.definitions()}
    if rooms.serving.definition(graph).graph is None:
        raise Invalid(
            "endpoint.no_graph",
            f"{graph} is no graph: it serves the model {known[graph].model}.",
            hint=f"Deploy a version of that model by its name: {known[graph].model}@VERSION",
        )
    rooms.serving.check_fit(known, endpoint, graph, lambda name: _known(rooms, known[name]))


def _known(rooms: Rooms, endpoint: EndpointDefinition) -> Known | None:
    """What an endpoint takes and gives, by the version that it serves or would serve."""
    version = _version(rooms, endpoint)
    if version is None:
        return None
    around = endpoint.processing
    signature = around.signature(version.signature) if around else version.signature
    if around is not None and around.postprocess:
        return signature, None
    return signature, rooms.models.outputs(version)


def _version(rooms: Rooms, endpoint: EndpointDefinition) -> ModelVersion | None:
    if endpoint.alias:
        return _of_alias(rooms, endpoint)
    try:
        live = rooms.serving.live(endpoint.name)
    except NotFound:
        live = None
    if live is not None and live.model_version:
        return rooms.models.get(live.model_version)
    return rooms.models.champion(endpoint.model)


def _of_alias(rooms: Rooms, endpoint: EndpointDefinition) -> ModelVersion | None:
    try:
        return rooms.models.get(f"{endpoint.model}@{endpoint.alias}")
    except NotFound:
        return None


def serve_graphs(rooms: Rooms, manifest: Manifest, global_id: str) -> None:
    """Graphs that are not served as they are defined now get a revision. Idempotent."""
    for endpoint in manifest.endpoints:
        if endpoint.graph is not None:
            rooms.serving.deploy_graph(
                endpoint.name, global_id=global_id, reason="The graph as it is defined now."
            )


def follow_aliases(rooms: Rooms) -> bool:
    """Nodes of graphs that stand for an alias get the version that it stands on now.

    A version that is not blessed is not served. Whether there was one to get.
    """
    moved = False
    for endpoint in rooms.serving.followers():
        version = _of_alias(rooms, endpoint)
        if version is None or version.state not in BLESSED:
            continue
        revisions = [
            one
            for one in rooms.serving.endpoint(endpoint.name).revisions
            if one.state in _OPEN and one.model_version  # not a graph that stands beside it
        ]
        newest = max(revisions, key=lambda one: one.number, default=None)
        if newest is not None and newest.model_version == version.id:
            continue
        deploy_version(
            rooms.serving,
            rooms.repos,
            endpoint.name,
            version,
            global_id=new_id(),
            reason=f"{endpoint.alias} of {endpoint.model} stands on it.",
            verdict=version.verdict,
            cause="",
        )
        moved = True
    return moved
