"""Blessed models as InferenceServices of KServe, which reads them from the S3 gateway.

Knows the fields of ``serving.kserve.io`` (https://kserve.github.io/website/docs/reference/crd-api)
and what an endpoint serves; talks to no cluster.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from clew.base.buckets import bucket_name
from clew.base.errors import Denied, Invalid, NotReady
from clew.base.records import ModelVersion
from clew.base.records.exports import InferenceServiceWish
from clew.base.records.graphs import Graph
from clew.workspace.deploying import BLESSED
from clew.workspace.inference_graphs import GraphManifests, percents
from clew.workspace.rooms import Rooms

SERVICE_API = "serving.kserve.io/v1beta1"
GRAPH_API = "serving.kserve.io/v1alpha1"
MODES = {"standard": "Standard", "knative": "Knative"}
_MODE = "serving.kserve.io/deploymentMode"
_IMAGE_PORT = 8080
"""Where KServe asks a container; the image is told to listen there, whatever it was made for."""
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?")
"""Shorter than a label of DNS: KServe adds ``-predictor`` to it."""


class Arm(Struct, frozen=True, kw_only=True):
    """A model version with its share of the traffic, in percent. ``revision`` 0: of no endpoint."""

    version: ModelVersion
    percent: int
    revision: int = 0


def inference_services(
    rooms: Rooms, subject: str, wish: InferenceServiceWish
) -> tuple[dict[str, Any], ...]:
    """See :meth:`clew.base.export_verbs.ExportVerbs.export_inference_service`."""
    _check(wish)
    graphs = _graphs(rooms)
    if subject in graphs:
        if wish.canary:
            raise _no_canary(f"{subject} is a graph", "Leave --canary out.")
        if wish.image:
            return (_graph_in_image(rooms, subject, wish),)
        return _graph(rooms, subject, graphs, wish)
    if "@" in subject:
        version = blessed(rooms.models.get(subject))
        arms = [Arm(version=version, percent=wish.canary or 100)]
        name = _name(wish.name or version.model)
    else:
        arms = _arms(rooms, subject, wish.image)
        name = _name(wish.name or subject)
        if wish.canary:
            raise _no_canary(f"{subject} has weights of its own", "Leave --canary out.")
    return rendered(name, arms, wish)


def _graphs(rooms: Rooms) -> dict[str, Graph]:
    return {one.name: one.graph for one in rooms.serving.definitions() if one.graph is not None}


def _graph_in_image(rooms: Rooms, subject: str, wish: InferenceServiceWish) -> dict[str, Any]:
    """A graph whose image has all that it asks: one service to KServe."""
    live = rooms.serving.live(subject)
    if live is None or not live.traffic:
        raise _empty(subject)
    about = {"clew.graph": live.processing, "clew.global-id": live.global_id}
    return _service(
        _name(wish.name or subject), {}, about, {"containers": [_container(wish)]}, wish
    )


def _graph(
    rooms: Rooms, subject: str, graphs: dict[str, Graph], wish: InferenceServiceWish
) -> tuple[dict[str, Any], ...]:
    """The services that a graph asks, and the graph."""
    made = GraphManifests(
        subject, graphs, lambda endpoint: rendered(_name(endpoint), _arms(rooms, endpoint), wish)
    )
    graph = _inference_graph(_name(wish.name or subject), made.nodes, wish)
    graph["metadata"]["annotations"]["clew.graph"] = graphs[subject].code
    return (*made.services.values(), graph)


def rendered(name: str, arms: list[Arm], wish: InferenceServiceWish) -> tuple[dict[str, Any], ...]:
    """The objects for arms, oldest first, whose shares add up to 100 (a canary's alone: less)."""
    if wish.mode == "knative":
        return (_on_knative(name, arms, wish),)
    if arms[0].percent != 100 and len(arms) == 1:
        raise _no_canary(
            "In standard mode KServe keeps no revision beside the new one",
            "Export the endpoint with both versions, or use --mode knative.",
        )
    return _standard(name, arms, wish)


def _check(wish: InferenceServiceWish) -> None:
    if wish.mode not in MODES:
        raise Invalid(
            "export.mode",
            f"{wish.mode!r} is no mode of KServe.",
            hint=f"Use {' or '.join(MODES)}.",
        )
    if not 0 <= wish.canary <= 100:
        raise _no_canary(f"{wish.canary} is no percentage", "Give one from 1 to 100.")
    least = 0 if wish.mode == "knative" else 1
    if wish.min_replicas < least or 0 < wish.max_replicas < wish.min_replicas:
        raise Invalid(
            "export.replicas",
            f"{wish.min_replicas} to {wish.max_replicas or 'any number of'} replicas cannot be.",
            hint=f"At least {least} in {wish.mode} mode, and not more than the most.",
        )
    if wish.image and (wish.storage_uri or wish.runtime):
        raise Invalid(
            "export.image",
            "An image has the model in it, and reads none by a runtime.",
            hint="Leave --storage-uri and --runtime out, or --image.",
        )


def _no_canary(why: str, hint: str) -> Invalid:
    return Invalid("export.canary", f"{why}: there is no canary to export.", hint=hint)


def _no_image(why: str) -> Invalid:
    hint = "Export each version with an image of its own: MODEL@VERSION --image …"
    return Invalid("export.image", f"{why}.", hint=hint)


def blessed(version: ModelVersion) -> ModelVersion:
    """The version itself. Raises Denied ``model.not_blessed``."""
    if version.state not in BLESSED:
        raise Denied(
            "model.not_blessed",
            f"{version.model}@{version.version} is {version.state}, not blessed.",
            hint="See `clew model`; a person may override: clew deploy … --by NAME --reason “…”.",
        )
    return version


def _arms(rooms: Rooms, endpoint: str, image: str = "") -> list[Arm]:
    """What an endpoint serves, oldest revision first; ``image``: what has it, if that is one."""
    if rooms.serving.definition(endpoint).processing is not None and not image:
        raise Invalid(
            "export.processing",
            f"{endpoint} has functions around its model, and KServe reads the model alone.",
            hint=f"Make an image that has both: clew image {endpoint} --build --push IMAGE; then "
            f"clew export inferenceservice {endpoint} --image IMAGE",
        )
    sharing = [one for one in rooms.serving.endpoint(endpoint).revisions if one.traffic > 0]
    if graphs := [str(one.number) for one in sharing if not one.model_version]:
        raise Invalid(
            "export.graph",
            f"Revision {', '.join(graphs)} of {endpoint} is a graph, and no model of its own.",
            hint="Take it off first: clew traffic; or export the graph by its own name.",
        )
    found = [
        Arm(version=rooms.models.get(one.model_version), percent=percent, revision=one.number)
        for one, percent in zip(sharing, percents([one.traffic for one in sharing]), strict=True)
        if percent
    ]
    if not found:
        raise _empty(endpoint)
    if image and len(found) > 1:
        raise _no_image(
            f"{len(found)} revisions of {endpoint} have traffic, and an image is of one"
        )
    return sorted(found, key=lambda arm: arm.revision)


def _empty(endpoint: str) -> NotReady:
    return NotReady(
        "endpoint.empty",
        f"{endpoint} serves no model yet.",
        hint=f"Deploy one: clew deploy {endpoint} MODEL@VERSION",
    )


def _name(text: str) -> str:
    name = re.sub(r"[^-a-z0-9]+", "-", text.lower()).strip("-")
    if not _NAME.fullmatch(name):
        raise Invalid(
            "export.name",
            f"{text!r} makes no name of an InferenceService.",
            hint="Give one of at most 52 letters, digits and -, a letter first: --name",
        )
    return name


def _on_knative(name: str, arms: list[Arm], wish: InferenceServiceWish) -> dict[str, Any]:
    """One service: Knative keeps its revision before, which has the rest of the traffic."""
    if len(arms) > 2:
        raise _no_canary(
            f"{len(arms)} revisions have traffic, and Knative's canary has two",
            "Use --mode standard.",
        )
    newest = arms[-1]
    service = _of_version(name, newest.version, wish)
    if newest.percent < 100:
        service["spec"]["predictor"]["canaryTrafficPercent"] = newest.percent
    return service


def _standard(name: str, arms: list[Arm], wish: InferenceServiceWish) -> tuple[dict[str, Any], ...]:
    """A service for each arm, and a graph that splits the traffic where there are several."""
    if len(arms) == 1:
        return (_of_version(name, arms[0].version, wish),)
    names = [_name(f"{name}-r{arm.revision}") for arm in arms]
    services = [_of_version(own, arm.version, wish) for own, arm in zip(names, arms, strict=True)]
    steps = [
        {"serviceName": own, "name": own, "weight": arm.percent}
        for own, arm in zip(names, arms, strict=True)
    ]
    root = {"routerType": "Splitter", "steps": steps}
    return (*services, _inference_graph(name, {"root": root}, wish))


def _inference_graph(
    name: str, nodes: dict[str, Any], wish: InferenceServiceWish
) -> dict[str, Any]:
    return {
        "apiVersion": GRAPH_API,
        "kind": "InferenceGraph",
        "metadata": {
            "name": name,
            **_space(wish),
            "annotations": {_MODE: MODES[wish.mode]},
        },
        "spec": {"nodes": nodes},
    }


def _of_version(name: str, version: ModelVersion, wish: InferenceServiceWish) -> dict[str, Any]:
    labels = {"clew.model": version.model.replace("/", "."), "clew.version": str(version.version)}
    about = {
        "clew.commit": version.commit,
        "clew.global-id": version.global_id,
        **({"clew.verdict": version.verdict} if version.verdict else {}),
    }
    serves = {"containers": [_container(wish)]} if wish.image else {"model": _model(version, wish)}
    return _service(name, labels, about, serves, wish)


def _service(
    name: str,
    labels: dict[str, str],
    about: dict[str, str],
    serves: dict[str, Any],
    wish: InferenceServiceWish,
) -> dict[str, Any]:
    return {
        "apiVersion": SERVICE_API,
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            **_space(wish),
            **({"labels": labels} if labels else {}),
            "annotations": {_MODE: MODES[wish.mode], **about},
        },
        "spec": {
            "predictor": {
                **({"serviceAccountName": wish.service_account} if wish.service_account else {}),
                "minReplicas": wish.min_replicas,
                **({"maxReplicas": wish.max_replicas} if wish.max_replicas else {}),
                **serves,
            }
        },
    }


def _model(version: ModelVersion, wish: InferenceServiceWish) -> dict[str, Any]:
    """What KServe reads from the version's commit, and serves by one of its runtimes."""
    return {
        "modelFormat": {"name": "mlflow"},
        "protocolVersion": "v2",
        **({"runtime": wish.runtime} if wish.runtime else {}),
        "storageUri": wish.storage_uri or f"s3://{bucket_name(version.model, version.commit)}/",
        **_resources(wish),
    }


def _container(wish: InferenceServiceWish) -> dict[str, Any]:
    """An image of ``clew image`` as a custom predictor: KServe knows it by its name, and the
    protocol by a variable.
    """
    return {
        "name": "kserve-container",
        "image": wish.image,
        "env": [
            {"name": "PROTOCOL", "value": "v2"},
            {"name": "CLEW_PORT", "value": str(_IMAGE_PORT)},
        ],
        "ports": [{"containerPort": _IMAGE_PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": _IMAGE_PORT}},
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": _IMAGE_PORT}},
        **_resources(wish),
    }


def _resources(wish: InferenceServiceWish) -> dict[str, Any]:
    amounts = {
        **({"cpu": wish.cpu} if wish.cpu else {}),
        **({"memory": wish.memory} if wish.memory else {}),
    }
    return {"resources": {"requests": amounts, "limits": amounts}} if amounts else {}


def _space(wish: InferenceServiceWish) -> dict[str, str]:
    return {"namespace": wish.namespace} if wish.namespace else {}
