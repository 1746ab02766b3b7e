"""A PyTorch module or a Keras model as an ONNX graph, with what stands around it here.

The only file that knows how nets are exported; it runs in workers alone. The net itself computes in
float32, as it does in its own library; labels and probabilities are made of its answers in float64,
as ``flavours`` makes them. Whether both answer the same is for ``parity``.
"""

from __future__ import annotations

import importlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from clew.base.errors import Unavailable
from clew.models.onnx_model import MATRIX

OPSET = 18
OUTPUT = "answers"
_NETS = ("TorchRaw", "KerasRaw")


def is_net(model: Any) -> bool:
    """Whether a model is a net behind the face that ``flavours`` gives it (which travels by value,
    so that its class is known by name alone).
    """
    raw = getattr(model, "raw", None)
    return type(model).__name__ in {"Values", "Classes"} and type(raw).__name__ in _NETS


def graph_of(model: Any, width: int) -> bytes:
    """The graph: one matrix of float64 in; values, or probabilities of all classes out.

    Raises:
        Unavailable: ``extra.missing`` without ONNX.
        Exception: whatever says that a part of the net has no form in ONNX.
    """
    try:
        onnx = importlib.import_module("onnx")
        helper = importlib.import_module("onnx.helper")
        compose = importlib.import_module("onnx.compose")
    except ModuleNotFoundError as error:
        raise Unavailable(
            "extra.missing",
            f"Converting a model needs {error.name}, which is not installed.",
            hint='Install it: pip install "clew[standard]"',
        ) from None
    export = {"TorchRaw": _of_torch, "KerasRaw": _of_keras}[type(model.raw).__name__]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = compose.add_prefix(onnx.load_from_string(export(model.raw, width)), "net_")
    if len(net.graph.input) != 1 or len(net.graph.output) != 1:
        raise NotImplementedError("it has several inputs or outputs")
    double, single = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT
    entry, answer = net.graph.input[0].name, net.graph.output[0].name
    nodes = [
        helper.make_node("Cast", [MATRIX], [entry], to=single),
        *net.graph.node,
        helper.make_node("Cast", [answer], ["raw"], to=double),
        helper.make_node("Flatten", ["raw"], ["flat"], axis=1),
    ]
    form = "values" if type(model).__name__ == "Values" else str(model.form)
    more, constants = _around(helper, form)
    graph = helper.make_graph(
        [*nodes, *more],
        "clew",
        [helper.make_tensor_value_info(MATRIX, double, ["rows", width])],
        [helper.make_tensor_value_info(OUTPUT, double, None)],
        [*net.graph.initializer, *constants],
    )
    made = helper.make_model(graph, opset_imports=net.opset_import, ir_version=net.ir_version)
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def _around(helper: Any, form: str) -> tuple[list[Any], list[Any]]:
    """Nodes from the net's answers (``flat``, [rows, n] of float64) to ours, and constants."""
    numpy_helper = importlib.import_module("onnx.numpy_helper")

    def constant(name: str, values: Any, kind: Any) -> Any:
        return numpy_helper.from_array(np.array(values, dtype=kind), name)

    constants = [
        constant("first", [0], np.int64),
        constant("one", [1.0], np.float64),
        constant("axis", [1], np.int64),
    ]
    node = helper.make_node
    if form == "proba":
        return [node("Identity", ["flat"], [OUTPUT])], []
    if form == "logits":
        return [
            node("ReduceMax", ["flat", "axis"], ["most"], keepdims=1),
            node("Sub", ["flat", "most"], ["below"]),
            node("Exp", ["below"], ["powers"]),
            node("ReduceSum", ["powers", "axis"], ["whole"], keepdims=1),
            node("Div", ["powers", "whole"], [OUTPUT]),
        ], constants[2:]
    nodes = [node("Gather", ["flat", "first"], ["column"], axis=1)]
    if form == "values":
        return [*nodes, node("Identity", ["column"], [OUTPUT])], constants[:1]
    score = "column"
    if form == "logit":
        nodes += [
            node("Neg", ["column"], ["negative"]),
            node("Exp", ["negative"], ["power"]),
            node("Add", ["power", "one"], ["more"]),
            node("Div", ["one", "more"], ["score"]),
        ]
        score = "score"
    nodes += [
        node("Sub", ["one", score], ["other"]),
        node("Concat", ["other", score], [OUTPUT], axis=1),
    ]
    return nodes, constants[:2]


def _of_torch(raw: Any, width: int) -> bytes:
    torch = importlib.import_module("torch")
    sink = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            raw.module,
            (torch.zeros(2, width, dtype=torch.float32),),
            sink,
            dynamo=False,  # the other way needs onnxscript
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "rows"}, "output": {0: "rows"}},
        )
    return sink.getvalue()


def _of_keras(raw: Any, width: int) -> bytes:  # noqa: ARG001 - the model knows its input
    with tempfile.TemporaryDirectory(prefix="clew-keras-") as place:
        file = Path(place, "model.onnx")
        raw.model.export(str(file), format="onnx", verbose=False)
        return file.read_bytes()
