"""What is told of endpoints: metadata, configuration and index, as plain values of the protocol.

Knows no transport, no rows and no requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clew.serving.dataplane import MAX_BATCH, Route, unloaded
from clew.serving.runtime import Runtime

ASLEEP = "asleep: it is loaded when it is asked for"
EXTENSIONS = (
    "binary_tensor_data", "classification", "model_repository", "model_configuration", "statistics",
)  # fmt: skip


def server(version: str) -> dict[str, object]:
    """The server's metadata."""
    return {"name": "clew", "version": version, "extensions": list(EXTENSIONS)}


def metadata(route: Route, runtime: Runtime) -> dict[str, object]:
    """A model's metadata: its true inputs and outputs, and the versions that can be asked."""
    return {
        "name": route.name,
        "versions": [*route.versions, *filter(None, route.asleep)],
        "platform": runtime.model.platform,
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


def configuration(route: Route, runtime: Runtime) -> dict[str, object]:
    """The part of Triton's model configuration that means something here.

    Shapes hold the rows (``max_batch_size`` is 0: the protocol adds no dimension to them).
    """
    return {
        "name": route.name,
        "platform": runtime.model.platform,
        "backend": "clew",
        "max_batch_size": 0,
        "input": [_tensor(each) for each in runtime.contract.describe()],
        "output": [_tensor(each) for each in runtime.outputs],
        "version_policy": {"all": {}},
        "dynamic_batching": {"preferred_batch_size": [], "max_queue_delay_microseconds": 0},
        "parameters": {"max_requests_in_batch": {"string_value": str(MAX_BATCH)}},
    }


def _tensor(told: Mapping[str, object]) -> dict[str, object]:
    datatype = str(told["datatype"])
    kind = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
    return {"name": told["name"], "data_type": kind, "dims": told["shape"]}


def index(routes: Iterable[Route], *, ready: bool = False) -> list[dict[str, str]]:
    """An entry for each version in memory; also (not if ``ready``) for those that sleep, and for
    each endpoint without any.
    """
    found = []
    for route in routes:
        if route.why:
            found += [] if ready else [_entry(route.name, "", "UNAVAILABLE", route.why)]
            continue
        found += [_entry(route.name, version, "READY", "") for version in route.versions]
        if ready:
            continue
        sleeping = {version: why or ASLEEP for version, why in route.asleep.items() if version}
        found += [
            _entry(route.name, version, "UNAVAILABLE", why) for version, why in sleeping.items()
        ]
        if not route.versions and not sleeping:
            found.append(_entry(route.name, "", "UNAVAILABLE", why_not(route)))
    return found


def why_not(route: Route) -> str:
    """Why an endpoint does not answer."""
    if route.why:
        return route.why
    return unloaded(route.name) if route.unloaded else "no revision is loaded yet"


def _entry(name: str, version: str, state: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": version, "state": state, "reason": reason}


def all_ready(routes: Iterable[Route]) -> bool:
    """Whether every endpoint answers, but for those that a client has unloaded."""
    return all(route.ready or route.unloaded for route in routes)
