"""Routes that hand work to other systems.

Thin over the verbs; knows neither system.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import Response

from clew.base.records.exports import RUNTIME, TrainJob, TrainJobWish
from clew.server.call import Asked
from clew.server.shapes import Routes

router = Routes(tags=["models"])


@dataclass(frozen=True, kw_only=True)
class TrainJobAsked:
    """A training step or a model version, and how its TrainJob should look."""

    model: str
    image: str = ""
    runtime: str = RUNTIME
    namespace: str = ""
    name: str = ""
    nodes: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    store: str = ""
    url: str = ""
    secret: str = ""
    secret_keys: list[str] = field(default_factory=list)


@router.post("/exports/trainjob", response_model=TrainJob)
def export_trainjob(call: Asked, asked: TrainJobAsked) -> Response:
    """A Kubeflow TrainJob that repeats the training of a model version."""
    wish = TrainJobWish(
        image=asked.image,
        runtime=asked.runtime,
        namespace=asked.namespace,
        name=asked.name,
        nodes=asked.nodes,
        params=asked.params,
        store=asked.store,
        url=asked.url,
        secret=asked.secret,
        secret_keys=tuple(asked.secret_keys),
    )
    return call.reply(call.verbs.export_trainjob(asked.model, wish))
