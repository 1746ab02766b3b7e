"""A model version as it is loaded: the original, or the converted form that may serve for it.

Knows a store's trees; nothing of how forms were made and compared.
"""

from __future__ import annotations

import hashlib
import logging

import msgspec

from clew.base.errors import Corrupt, Unavailable
from clew.base.records import Signature
from clew.base.records.parity import Parity
from clew.base.untold import tell_nobody
from clew.models.explaining import explained
from clew.models.isolated import load_original
from clew.models.layout import ONNX, ONNX_RECIPE, PARITY, RECIPE, SIGNATURE
from clew.models.loading import LoadedModel, Reads, Recipe
from clew.models.onnx_model import OnnxModel, OnnxRecipe, session_of
from clew.models.processing import processed

_log = logging.getLogger("clew.models")


def load_model(
    store: Reads, tree: str, *, served: bool = False, explains: bool = False
) -> LoadedModel:
    """The model in the tree of a model version's commit.

    Args:
        store: Where the tree is.
        tree: Its digest.
        served: The form that serves: the converted one where its parity report lets it, else (or
            where ONNX Runtime is not installed) the original; between the functions of its
            endpoint, where the tree is that of a revision which has such.

        explains: What explains its answers: their parts for each feature, in place of answers.

    Raises:
        NotFound: ``model.tree`` where the tree holds no packaged model.
        Unavailable: ``model.distribution`` where a distribution that it needs is missing;
            ``extra.missing`` where explanations are asked for without shap.
        Invalid: ``explain.background`` where no rows were kept for them.
        Corrupt: ``model.pickle`` where it cannot be unpickled for another reason;
            ``model.parity`` where the converted form is not the one that was compared;
            ``processing.code`` where a function of the endpoint cannot be read.
    """
    tell_nobody()
    if explains:
        return explained(store, tree)
    return processed(store, tree, _served(store, tree)) if served else load_original(store, tree)


def _served(store: Reads, tree: str) -> LoadedModel:
    report = parity_in(store, tree)
    if report is not None and report.serves == "onnx":
        try:
            return _converted(store, tree, report)
        except Unavailable as missing:
            _log.warning("the original of %s serves: %s", tree, missing)
    return load_original(store, tree)


def parity_in(store: Reads, tree: str) -> Parity | None:
    """The parity report of a version; None where there is none."""
    entry = store.get(tree, PARITY)
    return None if entry is None else msgspec.json.decode(store.read(entry.digest), type=Parity)


def _converted(store: Reads, tree: str, report: Parity) -> OnnxModel:
    graph = _read(store, tree, ONNX)
    if hashlib.sha256(graph).hexdigest() != report.digests.get("onnx"):
        raise Corrupt(
            "model.parity",
            f"The ONNX form in {tree} is not the one that was compared with the original.",
            hint="Run `clew fsck`, then train the model again.",
        )
    return OnnxModel(
        signature=msgspec.json.decode(_read(store, tree, SIGNATURE), type=Signature),
        recipe=msgspec.json.decode(_read(store, tree, RECIPE), type=Recipe),
        onnx=msgspec.json.decode(_read(store, tree, ONNX_RECIPE), type=OnnxRecipe),
        session=session_of(graph),
    )


def _read(store: Reads, tree: str, path: str) -> bytes:
    entry = store.get(tree, path)
    if entry is None:
        raise Corrupt(
            "model.parity",
            f"There is no {path} in {tree}, though its parity report lets it serve.",
            hint="Run `clew fsck`, then train the model again.",
        )
    return store.read(entry.digest)
