"""The verbs that name model versions, and take models in: aliases with their history, imports.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from clew.base.records import AliasMove, ModelVersion


class ModelVerbs(Protocol):
    """What stands on which version, and what stood there before."""

    def alias_history(self, model: str) -> list[AliasMove]:
        """All moves of the aliases of a model, newest first; nothing is ever taken out.

        Raises NotFound ``model.unknown``.
        """
        ...

    def import_model(
        self,
        source: str | Path,
        *,
        name: str,
        trust: bool = False,
        example: str | Path = "",
        test: str = "",
        target: str = "",
        task: str = "auto",
        registry: str = "",
        requirements: Sequence[str] = (),
        python: str = "",
        own_environment: bool = False,
    ) -> ModelVersion:
        """A model of another tool as a candidate version of ``name``, read in a worker alone.

        ``source``: a directory of MLflow, a file (ONNX, XGBoost, LightGBM, Keras, PyTorch, pickle,
        joblib), or ``models:/name/version`` of the MLflow server ``registry``. A pickle runs code:
        it needs ``trust``. Rows that it takes come from the file ``example``, from ``test`` (a repo
        of rows with ``target``), or from itself. Its files are kept in ``<name>.source``.

        With ``requirements`` (and ``python``), or ``own_environment`` (what an MLflow model says it
        needs), it has an environment of its own, as a training step may: it is read there, and
        asked there where no ONNX form serves it. Raises
        NotFound ``file.missing``, ``repo.unknown``, ``import.missing``, Denied
        ``import.untrusted``, ``import.trained``, Invalid ``import.kind``, ``import.example``,
        ``model.target``, ``model.signature``, ``model.task``, Conflict ``import.name``, Corrupt
        ``import.unreadable``, Unavailable ``extra.missing``, ``import.unreachable``; of an
        environment Invalid ``import.environment``, ``environment.unsatisfiable``,
        ``environment.requirements``, ``environment.python``, Unavailable ``environment.no_uv``,
        ``environment.offline``, ``environment.build``.
        """
        ...

    def set_alias(
        self, model: str, alias: str, version: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Let an alias stand on a version of a model (its number, an alias of it, or its id).

        Only on a blessed one (``challenger``: on any; others than ``champion``: on an overridden
        one too). Raises Denied ``model.not_blessed``, NotFound ``model.unknown``, Invalid
        ``branch.name``, ``alias.number``, ``alias.model``, ``ref.ambiguous``.
        """
        ...

    def rollback_alias(
        self, model: str, alias: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Move an alias one step back, to where it stood before; the history grows by that move.

        Raises NotFound ``model.unknown``, ``alias.unknown``, Conflict ``alias.first``.
        """
        ...
