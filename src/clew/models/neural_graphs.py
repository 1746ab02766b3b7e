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


def graphs_of(model: Any, width: int) -> list[bytes]:
    """Graphs to try: one matrix of float64 in; values, or probabilities of all classes out.

    Of a net that takes whole numbers there is a second, which refuses negative ones as an embedding
    does; ONNX would count them from the end of its table.

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
    whole = bool(getattr(model.raw, "whole", ()))
    export = {"TorchRaw": _of_torch, "KerasRaw": _of_keras}[type(model.raw).__name__]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = compose.add_prefix(onnx.load_from_string(export(model.raw, width)), "net_")
    return [
        _around_net(onnx, helper, model, net, width, only) for only in (False, True)[: 1 + whole]
    ]


def _around_net(
    onnx: Any, helper: Any, model: Any, net: Any, width: int, refuses_negative: bool
) -> bytes:
    several = getattr(model.raw, "names", ())
    if len(net.graph.input) != max(1, len(several)) or len(net.graph.output) != 1:
        raise NotImplementedError("it has other inputs than columns, or several outputs")
    double = onnx.TensorProto.DOUBLE
    answer = net.graph.output[0].name
    nodes = [
        *_entries(onnx, helper, net.graph, several, refuses_negative),
        *net.graph.node,
        helper.make_node("Cast", [answer], ["raw"], to=double),
        helper.make_node("Flatten", ["raw"], ["flat"], axis=1),
    ]
    form = "values" if type(model).__name__ == "Values" else str(model.form)
    more, constants = around(helper, form, int(getattr(model, "count", 1)))
    graph = helper.make_graph(
        [*nodes, *more],
        "clew",
        [helper.make_tensor_value_info(MATRIX, double, ["rows", width])],
        [helper.make_tensor_value_info(OUTPUT, double, None)],
        [*net.graph.initializer, *constants, *_places(several)],
    )
    made = helper.make_model(graph, opset_imports=net.opset_import, ir_version=net.ir_version)
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def _entries(
    onnx: Any, helper: Any, graph: Any, several: tuple[str, ...], refuses_negative: bool
) -> list[Any]:
    """Nodes from our matrix of float64 to the inputs of a net, in their order and types."""
    if not several:
        kind = graph.input[0].type.tensor_type.elem_type
        return [helper.make_node("Cast", [MATRIX], [graph.input[0].name], to=kind)]
    found = []
    for at, one in enumerate(graph.input):
        kind, axes = one.type.tensor_type.elem_type, len(one.type.tensor_type.shape.dim)
        column, flat = f"column_{at}", f"column_{at}_flat"
        found.append(helper.make_node("Gather", [MATRIX, f"place_{at}"], [column], axis=1))
        if axes == 1:
            found.append(helper.make_node("Reshape", [column, "all_rows"], [flat]))
            column = flat
        if refuses_negative and kind in {onnx.TensorProto.INT64, onnx.TensorProto.INT32}:
            negative, kept = f"column_{at}_negative", f"column_{at}_kept"
            found.append(helper.make_node("Less", [column, "nothing"], [negative]))
            found.append(helper.make_node("Where", [negative, "nowhere", column], [kept]))
            column = kept
        found.append(helper.make_node("Cast", [column], [one.name], to=kind))
    return found


def _places(several: tuple[str, ...]) -> list[Any]:
    """The constants that :func:`_entries` names."""
    if not several:
        return []
    arrays = importlib.import_module("onnx.numpy_helper")
    found = [arrays.from_array(np.array([at]), f"place_{at}") for at in range(len(several))]
    return [
        *found,
        arrays.from_array(np.array([-1]), "all_rows"),
        arrays.from_array(np.array(0.0), "nothing"),
        arrays.from_array(np.array(2.0**31 - 1), "nowhere"),
    ]


def around(helper: Any, form: str, count: int = 1) -> tuple[list[Any], list[Any]]:
    """Nodes from a model's own answers (``flat``, [rows, n] of float64) to ours, and constants.

    ``form``: values (``count`` of them a row), or what a model of classes answers.
    """
    numpy_helper = importlib.import_module("onnx.numpy_helper")

    def constant(name: str, values: Any, kind: Any) -> Any:
        return numpy_helper.from_array(np.array(values, dtype=kind), name)

    constants = [
        constant("first", [0], np.int64),
        constant("one", [1.0], np.float64),
        constant("axis", [1], np.int64),
    ]
    node = helper.make_node
    if form == "proba" or (form == "values" and count > 1):
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
    names = list(raw.names) or ["input"]
    number = torch.float64 if raw.double else torch.float32
    example = [torch.zeros(2, width, dtype=number)]
    if raw.names:
        shape = (2, 1) if len(raw.shaped) > 1 else (2,)
        kinds = [torch.int64 if name in raw.whole else number for name in names]
        example = [torch.zeros(*shape, dtype=kind) for kind in kinds]
    with torch.no_grad():
        torch.onnx.export(
            raw.module,
            tuple(example),
            sink,
            dynamo=False,  # the other way needs onnxscript
            opset_version=OPSET,
            input_names=names,
            output_names=["output"],
            dynamic_axes={name: {0: "rows"} for name in (*names, "output")},
        )
    return sink.getvalue()


def _of_keras(raw: Any, width: int) -> bytes:  # noqa: ARG001 - the model knows its input
    with tempfile.TemporaryDirectory(prefix="clew-keras-") as place:
        file = Path(place, "model.onnx")
        raw.model.export(str(file), format="onnx", verbose=False)
        return file.read_bytes()
