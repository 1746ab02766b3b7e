"""The verbs that hand work to other systems, in their words.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records.exports import (
    ImageContext,
    ImageWish,
    InferenceServiceWish,
    Manifests,
    TrainJob,
    TrainJobWish,
)


class ExportVerbs(Protocol):
    """What others run of what is here."""

    def export_trainjob(self, model: str, wish: TrainJobWish | None = None) -> TrainJob:
        """A Kubeflow TrainJob (``trainer.kubeflow.org/v1alpha1``) that repeats a training.

        ``model``: a training step (``pipeline/step``: its last version), or a version
        (``pipeline/step@3``). Its rows, code, parameters and seed are those of the version; the
        rows are committed to ``pipeline/step.exported``, so that they stay. Raises NotFound
        ``model.unknown``, Conflict ``reproduce.gone``, Invalid ``export.store``,
        ``export.launcher``, ``export.name``, ``export.nodes``, ``export.params``.
        """
        ...

    def export_inference_service(
        self, subject: str, wish: InferenceServiceWish | None = None
    ) -> Manifests:
        """KServe's ``serving.kserve.io/v1beta1`` InferenceService for what is blessed here.

        ``subject``: an endpoint (what it serves now, with its weights), or a model version
        (``pipeline/step@3``). KServe reads the version's commit, which never changes. Several
        revisions are a canary on Knative, and services with an InferenceGraph in standard mode.
        Raises NotFound ``endpoint.unknown``, ``model.unknown``; Denied ``model.not_blessed``;
        NotReady ``endpoint.empty``; Invalid ``export.mode``, ``export.name``, ``export.canary``,
        ``export.replicas``, ``export.processing``, ``export.graph``, ``export.image``.
        """
        ...

    def export_image(self, subject: str, wish: ImageWish | None = None) -> ImageContext:
        """What a container image needs that serves a model: its files, a lock file, a recipe.

        ``subject``: an endpoint (its live revision), or a blessed model version
        (``pipeline/step@champion``). The same subject gives the same context. Raises NotFound
        ``endpoint.unknown``, ``model.unknown``; Denied ``model.not_blessed``; NotReady
        ``endpoint.empty``; Invalid ``export.name``, ``export.port``, ``export.graph``,
        ``export.environment``.
        """
        ...
