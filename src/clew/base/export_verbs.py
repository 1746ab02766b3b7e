"""The verbs that hand work to other systems, in their words.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records.exports import TrainJob, TrainJobWish


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
