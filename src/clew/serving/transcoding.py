"""gRPC requests as requests of the data plane, and its answers as gRPC responses.

Knows no transport, no sockets and no models. A request becomes the same bytes as over REST with the
binary extension (JSON, then raw tensors), so contract, batches and log are those of REST.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from msgspec import Struct

from clew.base.ids import PREDICTION_ID_LENGTH
from clew.serving.contract import Tensor
from clew.serving.dataplane import Answer
from clew.serving.messages import MESSAGES
from clew.serving.protocol import V2, Wire
from clew.serving.runtime import Identity
from clew.serving.tensors import NUMPY, InputError, element

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype → the field of its typed contents; FP16 and BF16 have none."""


def body_of(request: Any) -> tuple[bytes, int]:
    """The body of a ModelInferRequest as over REST, and the length of its JSON.

    Raises:
        InputError: typed and raw contents do not fit the inputs.
    """
    raws = list(request.raw_input_contents) if request.raw_input_contents else _typed(request)
    inputs = request.inputs
    if len(raws) != len(inputs):
        raise InputError(
            f"raw_input_contents has {len(raws)} entries for {len(inputs)} inputs: one for each."
        )
    if request.raw_input_contents and any(each.HasField("contents") for each in inputs):
        raise InputError("An input has contents beside raw_input_contents: give one of them.")
    message: dict[str, object] = {
        "inputs": [
            {
                "name": each.name,
                "datatype": each.datatype,
                "shape": list(each.shape),
                "parameters": {"binary_data_size": len(raw)},
            }
            for each, raw in zip(inputs, raws, strict=True)
        ],
        "parameters": {**_plain(request.parameters), "binary_data_output": True},
    }
    if request.id:
        message["id"] = request.id
    if request.outputs:
        message["outputs"] = [
            {"name": each.name, "parameters": {**_plain(each.parameters), "binary_data": True}}
            for each in request.outputs
        ]
    head = orjson.dumps(message)
    return b"".join((head, *raws)), len(head)


class Usual(Struct, frozen=True):
    """A request that most clients send: a body with so much JSON, and what it says."""

    body: bytes
    head: int
    wire: Wire


def usual_of(request: Any) -> Usual | None:
    """One matrix of floats in raw_input_contents, and nothing that is asked beside it; None for
    every other request: that goes the long way (:func:`body_of`), which words every refusal.
    """
    raws, inputs = request.raw_input_contents, request.inputs
    if len(raws) != 1 or len(inputs) != 1 or request.parameters or request.outputs:
        return None
    tensor, raw, id = inputs[0], raws[0], request.id
    name, datatype, shape = tensor.name, tensor.datatype, tuple(tensor.shape)
    size = _FLOAT_BYTES.get(datatype)
    if size is None or not name or len(shape) != 2 or min(shape) < 1:
        return None
    if shape[0] * shape[1] * size != len(raw) or tensor.parameters or tensor.HasField("contents"):
        return None
    head = _usual_head(name, datatype, shape, len(raw))
    if id:
        head = head[:-1] + b',"id":' + orjson.dumps(id) + b"}"
    told = Tensor(name, datatype, shape, None, memoryview(raw))
    return Usual(head + raw, len(head), Wire(V2, id, "", (told,), [], (), None))


_FLOAT_BYTES = {"FP64": 8, "FP32": 4}


@lru_cache(maxsize=1024)
def _usual_head(name: str, datatype: str, shape: tuple[int, ...], size_bytes: int) -> bytes:
    tensor = {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": size_bytes},
    }
    return orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})


def _plain(parameters: Mapping[str, Any]) -> dict[str, object]:
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(value, choice)
    return found


def _typed(request: Any) -> list[bytes]:
    return [_raw(each) for each in request.inputs]


def _raw(tensor: Any) -> bytes:
    """The raw bytes of typed contents."""
    name, datatype = tensor.name, tensor.datatype
    field = _CONTENTS.get(datatype)
    given = [described.name for described, _ in tensor.contents.ListFields()]
    if field is None:
        if datatype in {"FP16", "BF16"}:
            raise InputError(f"Input {name!r}: {datatype} must come in raw_input_contents.")
        return b""  # the datatype does not exist: it is refused with those that do
    if given and given != [field]:
        raise InputError(f"Input {name!r}: the contents of {datatype} are {field}, not {given[0]}.")
    values = getattr(tensor.contents, field)
    count = 1
    for size in tensor.shape:
        count *= size
    if len(values) != count:
        raise InputError(
            f"Input {name!r}: shape {list(tensor.shape)} needs {count} elements, {field} has "
            f"{len(values)}."
        )
    if datatype == "BYTES":
        return b"".join(map(element, values))
    try:
        return np.array(list(values), dtype=NUMPY[datatype]).tobytes()
    except OverflowError:
        raise InputError(f"Input {name!r}: a number is out of the range of {datatype}.") from None


def bytes_of(answer: Answer, request: Any) -> bytes:
    """The ModelInferResponse of an answer 200, serialized: as :func:`response_of` says."""
    identity = answer.identity
    raw = request.raw_input_contents
    body, head = answer.body, answer.head
    if not raw or identity is None or _NODES in body[: max(head, 0)]:
        return bytes(response_of(answer, request).SerializeToString())
    # the sequence is in no text inside the JSON: a quote there has a backslash before it
    tensors = body[body.index(_OUTPUTS) + len(_OUTPUTS) : head - 1]
    described, sizes = _outputs(tensors)
    parts = [_opening(identity)]
    if request.id:
        parts.append(_field(3, request.id.encode()))
    parts += (_PREDICTION, answer.prediction_id.encode(), described)
    at = head
    for size in sizes:
        parts += (b"\x32", _varint(size), body[at : at + size])
        at += size
    return b"".join(parts)


_OUTPUTS = b',"outputs":'
_NODES = b',"clew-nodes":'


def _varint(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _field(number: int, value: bytes) -> bytes:
    """A field of bytes as protobuf has it (wire type 2)."""
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value


def _text_parameter(name: str, value: str) -> bytes:
    """An entry of the map ``parameters`` of a response: a text."""
    return _field(4, _field(1, name.encode()) + _field(2, _field(3, value.encode())))


_PREDICTION = _text_parameter("clew-prediction-id", "p" * PREDICTION_ID_LENGTH)[
    :-PREDICTION_ID_LENGTH
]
"""The parameter of a prediction's id, up to the id."""


@lru_cache(maxsize=1024)
def _opening(identity: Identity) -> bytes:
    """What all answers of a revision say."""
    names = _field(1, identity.endpoint.encode()) + _field(2, identity.version.encode())
    return names + b"".join(_text_parameter(*each) for each in maker_of(identity).items())


@lru_cache(maxsize=1024)
def _outputs(tensors: bytes) -> tuple[bytes, tuple[int, ...]]:
    """The outputs of a response by their JSON, and the bytes of each."""
    response, sizes = MESSAGES["ModelInferResponse"](), []
    for each in orjson.loads(tensors):
        sizes.append(each["parameters"].pop("binary_data_size"))
        _add_output(response, each)
    return response.SerializeToString(), tuple(sizes)


def _add_output(response: Any, told: dict[str, Any]) -> Any:
    output = response.outputs.add(name=told["name"], datatype=told["datatype"], shape=told["shape"])
    for name, value in told["parameters"].items():
        output.parameters[name].string_param = value
    return output


def response_of(answer: Answer, request: Any) -> Any:
    """The ModelInferResponse of an answer 200.

    Contents are raw where those of the request were, or where an output has no typed form.
    """
    body = answer.body
    told = orjson.loads(body[: answer.head])
    response = MESSAGES["ModelInferResponse"](
        model_name=told["model_name"], model_version=told["model_version"], id=request.id
    )
    for name, value in told["parameters"].items():
        response.parameters[name].string_param = value
    outputs = told["outputs"]
    raw = bool(request.raw_input_contents) or any(
        each["datatype"] not in _CONTENTS for each in outputs
    )
    at = answer.head
    for each in outputs:
        size = each["parameters"].pop("binary_data_size")
        part = body[at : at + size]
        at += size
        output = _add_output(response, each)
        if raw:
            response.raw_output_contents.append(part)
        else:
            field = getattr(output.contents, _CONTENTS[each["datatype"]])
            field.extend(_values(part, each["datatype"]))
    return response


def _values(raw: bytes, datatype: str) -> Iterable[object]:
    if datatype != "BYTES":
        values: list[object] = np.frombuffer(raw, dtype=NUMPY[datatype]).tolist()
        return values
    found, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        found.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def maker_of(identity: Identity) -> dict[str, str]:
    """Who made an answer, as metadata: the headers of REST."""
    return {
        "clew-global-id": identity.global_id,
        "clew-revision": identity.revision,
        "clew-model-version": identity.model_version,
    }


def told_of(answer: Answer) -> dict[str, str]:
    """What else is told of an answer as metadata, beside who made it."""
    told = {"traceparent": answer.trace} if answer.trace else {}
    if answer.prediction_id:
        told["clew-prediction-id"] = answer.prediction_id
        if not answer.logged:
            told["clew-logged"] = "false"
    return told
