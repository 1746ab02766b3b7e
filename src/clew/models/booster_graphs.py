"""A raw booster of XGBoost or LightGBM as an ONNX graph, with what stands around it here.

Runs in workers alone. Knows the face that ``flavours`` gives a booster (by name, since its class
travels by value) and the trees that ``boosted`` reads; whether both answer the same is for
``parity``. Answers are made of raw scores in the booster's own type of numbers, labels and
probabilities of those in float64, as our face makes them.
"""

from __future__ import annotations

import importlib
from typing import Any

from clew.base.errors import Unavailable
from clew.models.boosted import Boosted, of_lightgbm_booster, of_xgboost_booster
from clew.models.neural_graphs import OUTPUT, around
from clew.models.onnx_model import MATRIX
from clew.models.onnx_writer import ML_OPSET, OPSET, Writer, linked, raw_scores
from clew.models.tree_nodes import Tree

_BOOSTERS = ("XGBoostRaw", "LightGBMRaw")
_IR_VERSION = 10


def is_booster(model: Any) -> bool:
    """Whether a model is a booster behind the face that ``flavours`` gives it."""
    raw = getattr(model, "raw", None)
    return type(model).__name__ in {"Values", "Classes"} and type(raw).__name__ in _BOOSTERS


def trees_of(model: Any) -> list[Tree]:
    """Its trees; their features are the columns that it is given.

    Raises:
        NotImplementedError: a part of it has no form here.
    """
    return _read(model.raw).trees


def graph_of(model: Any, width: int) -> bytes:
    """The graph: one matrix of float64 in; values, or probabilities of all classes out.

    Raises:
        Unavailable: ``extra.missing`` without ONNX.
        NotImplementedError: a part of it has no form here.
    """
    try:
        helper = importlib.import_module("onnx.helper")
    except ModuleNotFoundError as error:
        raise Unavailable(
            "extra.missing",
            f"Converting a model needs {error.name}, which is not installed.",
            hint='Install it: pip install "clew[standard]"',
        ) from None
    raw, found = model.raw, _read(model.raw)
    sheet = _Sheet(helper)
    writer = Writer(sheet, sheet)
    kind = "FLOAT" if found.float32 else "DOUBLE"
    scores = raw_scores(writer, writer.cast(MATRIX, kind), found)
    link = "identity" if getattr(raw, "margin", False) else found.link
    answers = writer.cast(linked(writer, scores, link, kind), "DOUBLE")
    writer.add("Flatten", [answers], "flat", axis=1)
    form = "values" if type(model).__name__ == "Values" else str(model.form)
    nodes, constants = around(helper, form, found.targets)
    double = importlib.import_module("onnx").TensorProto.DOUBLE
    graph = helper.make_graph(
        [*sheet.nodes, *nodes],
        "clew",
        [helper.make_tensor_value_info(MATRIX, double, ["rows", width])],
        [helper.make_tensor_value_info(OUTPUT, double, None)],
        [*sheet.constants, *constants],
    )
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    made = helper.make_model(graph, opset_imports=domains, ir_version=_IR_VERSION)
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def _read(raw: Any) -> Boosted:
    if type(raw).__name__ == "LightGBMRaw":
        return of_lightgbm_booster(raw.booster)
    return of_xgboost_booster(raw.booster, getattr(raw, "rounds", None))


class _Sheet:
    """Takes nodes and constants, as skl2onnx's scope and container do."""

    inputs = ()

    def __init__(self, helper: Any) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._helper = helper
        self._names = 0

    def get_unique_variable_name(self, seed: str) -> str:
        """A name that no other value has."""
        self._names += 1
        return f"{seed}_{self._names}"

    get_unique_operator_name = get_unique_variable_name

    def add_node(
        self, kind: str, inputs: list[str], outputs: list[str], *, op_domain: str,
        op_version: int, name: str, **about: Any,  # noqa: ARG002 - as the other container has it
    ) -> None:  # fmt: skip
        """A node. Operators have the versions of the whole graph, whatever ``op_version`` is."""
        node = self._helper.make_node(kind, inputs, outputs, name=name, domain=op_domain, **about)
        self.nodes.append(node)

    def add_initializer(self, name: str, kind: int, shape: tuple[int, ...], values: Any) -> None:
        """A constant."""
        self.constants.append(self._helper.make_tensor(name, kind, shape, values))
