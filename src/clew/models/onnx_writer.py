"""Nodes of a graph in ONNX, written one after the other, and the sums of boosted trees among them.

Knows ONNX's operators; no library of models, and not where the nodes go: a converter of skl2onnx or
a graph of our own.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from clew.models.boosted import Boosted
from clew.models.frames import Array
from clew.models.tree_nodes import ensemble

OPSET, ML_OPSET = 18, 5


class Writer:
    """Adds nodes to the graph of one operator, one after the other."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container
        self._types = importlib.import_module("onnx").TensorProto
        self._arrays = importlib.import_module("onnx.numpy_helper")

    def add(
        self, kind: str, inputs: Sequence[str], output: str = "", *, ml: bool = False, **about: Any
    ) -> str:
        """A node with one output; its name."""
        output = output or self._scope.get_unique_variable_name(kind.lower())
        self.several(kind, inputs, [output], ml=ml, **about)
        return output

    def several(
        self, kind: str, inputs: Sequence[str], outputs: list[str], *, ml: bool, **about: Any
    ) -> None:
        """A node with several outputs."""
        plain = {
            name: self._attribute(name, value) if isinstance(value, np.ndarray) else value
            for name, value in about.items()
        }
        self._container.add_node(
            kind,
            list(inputs),
            outputs,
            op_domain="ai.onnx.ml" if ml else "",
            op_version=3 if ml else _SINCE.get(kind, OPSET),
            name=self._scope.get_unique_operator_name(kind),
            **plain,
        )

    def _attribute(self, name: str, value: Array) -> Any:
        if name in _TENSORS:
            return self._arrays.from_array(value, name)
        return value.astype(np.int64).tolist()

    def cast(self, name: str, to: str, output: str = "") -> str:
        """A value in another type."""
        return self.add("Cast", [name], output, to=getattr(self._types, to))

    def is_first(self, name: str) -> bool:
        """Whether a value is an input of the whole graph."""
        return any(one.name == name for one in self._container.inputs)

    def sum(self, name: str, more: str) -> str:
        """A value with ``more`` added to it, where there is more."""
        return self.add("Add", [name, more]) if more else name

    def number(self, value: Array, kind: str = "DOUBLE") -> str:
        """A constant."""
        name = str(self._scope.get_unique_variable_name("constant"))
        listed = value.ravel().tolist()
        self._container.add_initializer(name, getattr(self._types, kind), value.shape, listed)
        return name


_SINCE = {"Cast": 13, "Sigmoid": 13, "Softmax": 13, "Exp": 13, "ArgMax": 13, "Gather": 13,
          "Concat": 13, "Sub": 14, "Div": 14, "Mul": 14, "Greater": 13, "GreaterOrEqual": 16,
          "Reshape": 14, "Identity": 16, "IsInf": 10, "ReduceSum": 13, "Neg": 13, "Sqrt": 13,
          "Add": 14, "MatMul": 13, "IsNaN": 13, "Abs": 13, "Flatten": 13,
          "Where": 9}  # fmt: skip
_TENSORS = {"nodes_splits", "leaf_weights", "nodes_modes", "nodes_values_as_tensor",
            "class_weights_as_tensor"}  # fmt: skip


def typed(about: dict[str, Any], kind: Any) -> dict[str, Any]:
    """Attributes of ``TreeEnsemble`` with thresholds and leaves of one type of numbers."""
    return {
        name: value.astype(kind) if name in {"nodes_splits", "leaf_weights"} else value
        for name, value in about.items()
    }


def raw_scores(writer: Writer, given: str, found: Boosted) -> str:
    """Raw scores [rows, targets] of trees, in the type that ``given`` has and they add in."""
    kind = np.float32 if found.float32 else np.float64
    about = typed(ensemble(found.trees, found.targets, mode=found.mode), kind)
    raw = writer.add("TreeEnsemble", [given], ml=True, **about)
    name = "FLOAT" if found.float32 else "DOUBLE"
    if found.averaged > 1:
        raw = writer.add("Div", [raw, writer.number(np.array([float(found.averaged)]), name)])
    if found.slope != 1.0:
        raw = writer.add("Mul", [raw, writer.number(np.array([found.slope]), name)])
    return raw


def linked(writer: Writer, raw: str, link: str, kind: str, output: str = "") -> str:
    """What an answer is made of its raw score. ``kind``: FLOAT or DOUBLE, as ``raw`` is."""

    def number(value: float) -> str:
        return writer.number(np.array([value]), kind)

    if link == "sigmoid":  # as libraries compute it: theirs is exact at one half
        power = writer.add("Exp", [writer.add("Neg", [raw])])
        return writer.add("Div", [number(1.0), writer.add("Add", [power, number(1.0)])], output)
    if link == "softmax":
        return writer.add("Softmax", [raw], output, axis=1)
    if link == "squares":
        return writer.add("Mul", [raw, writer.add("Abs", [raw])], output)
    if link == "above":
        return writer.cast(writer.add("Greater", [raw, number(0.0)]), kind, output)
    return writer.add({"identity": "Identity", "exp": "Exp"}[link], [raw], output)
