"""Routes that hand work to other systems.

Thin over the verbs; knows neither system.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fastapi.responses import Response

from clew.base.records.exports import (
    RUNTIME,
    ImageContext,
    ImageWish,
    InferenceServiceWish,
    Manifests,
    TrainJob,
    TrainJobWish,
)
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


@dataclass(frozen=True, kw_only=True)
class InferenceServiceAsked:
    """An endpoint or a model version, and how its InferenceService should look."""

    subject: str
    mode: str = "standard"
    name: str = ""
    namespace: str = ""
    storage_uri: str = ""
    service_account: str = ""
    runtime: str = ""
    canary: int = 0
    min_replicas: int = 1
    max_replicas: int = 0
    cpu: str = ""
    memory: str = ""
    image: str = ""


@router.post("/exports/inferenceservice", response_model=Manifests)
def export_inference_service(call: Asked, asked: InferenceServiceAsked) -> Response:
    """KServe's InferenceService for an endpoint or a model version."""
    given = asdict(asked)
    subject = given.pop("subject")
    return call.reply(call.verbs.export_inference_service(subject, InferenceServiceWish(**given)))


@dataclass(frozen=True, kw_only=True)
class ImageAsked:
    """An endpoint or a model version, and how its image should look."""

    subject: str
    base: str = ""
    name: str = ""
    port: int = 8080


@router.post("/exports/image", response_model=ImageContext)
def export_image(call: Asked, asked: ImageAsked) -> Response:
    """The build context of an image that serves a model."""
    given = asdict(asked)
    subject = given.pop("subject")
    return call.reply(call.verbs.export_image(subject, ImageWish(**given)))
