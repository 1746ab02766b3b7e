"""The verbs that hand work to other systems, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from msgspec import to_builtins

from clew.base.records.exports import (
    ImageContext,
    ImageWish,
    InferenceServiceWish,
    Manifests,
    TrainJob,
    TrainJobWish,
)
from clew.client.wire import Wire


class RemoteExporting:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def export_trainjob(self, model: str, wish: TrainJobWish | None = None) -> TrainJob:
        """A TrainJob that repeats the training of a model version."""
        asked = {"model": model, **to_builtins(wish or TrainJobWish())}
        return self._wire.post("/exports/trainjob", TrainJob, asked)

    def export_inference_service(
        self, subject: str, wish: InferenceServiceWish | None = None
    ) -> Manifests:
        """KServe's InferenceService for an endpoint or a model version."""
        asked = {"subject": subject, **to_builtins(wish or InferenceServiceWish())}
        return self._wire.post("/exports/inferenceservice", Manifests, asked)

    def export_image(self, subject: str, wish: ImageWish | None = None) -> ImageContext:
        """The build context of an image that serves a model."""
        asked = {"subject": subject, **to_builtins(wish or ImageWish())}
        return self._wire.post("/exports/image", ImageContext, asked)
