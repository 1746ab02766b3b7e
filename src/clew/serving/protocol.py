"""The Open Inference Protocol v2 (JSON and binary) and v1 ``:predict``: bytes in, bytes out.

Knows nothing of sockets, models or revisions. Pure functions.
Protocol: https://github.com/kserve/open-inference-protocol and Triton's binary tensor data
extension, where ``Inference-Header-Content-Length`` says how long the JSON before the raw bytes is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import orjson
from msgspec import Struct

from clew.serving.contract import Contract, Tensor, Values, read_tensor
from clew.serving.tensors import Array, InputError, of_numpy, to_raw

V1 = "v1"
V2 = "v2"


class Wire(Struct, frozen=True):
    """A request as it was sent, parsed but not yet checked against a model.

    ``key`` is the request parameter ``clew-key``: requests of one key stay with one revision.
    ``binary``: names of the outputs that are wanted as raw bytes; None means all of them.
    """

    kind: str
    id: str
    key: str
    tensors: Sequence[Tensor]
    instances: list[object]
    outputs: tuple[str, ...]
    binary: frozenset[str] | None


def parse(kind: str, body: bytes, header_length: int | None = None) -> Wire:
    """A request body as what it says; ``header_length`` is the length of its JSON, if told.

    Raises:
        InputError: it is not JSON, or not a request.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise InputError("Inference-Header-Content-Length is longer than the body.")
    message = _json(body if header_length is None else body[:header_length])
    if not isinstance(message, dict):
        raise InputError("The body must be a JSON object.")
    if kind == V1:
        return _parse_v1(message)
    raw = None if header_length is None else memoryview(body)[header_length:]
    return _parse_v2(message, raw)


def check(wire: Wire, contract: Contract) -> tuple[Values, int]:
    """The inputs of a request as a model takes them, and the number of rows.

    Raises:
        InputError: they are not what the model takes.
    """
    if wire.kind == V1:
        return contract.instances(wire.instances)
    return contract.check(wire.tensors)


def _json(head: bytes) -> object:
    try:
        return orjson.loads(head)
    except orjson.JSONDecodeError as error:
        return _lenient_json(head, str(error))


def _lenient_json(head: bytes, why: str) -> object:
    """JSON with the NaN (a missing value) and Infinity that Python's own writer makes."""
    try:
        value = json.loads(head, parse_constant=_constant)
        orjson.dumps(value)  # what cannot be written (half a character) must not be logged either
    except (ValueError, TypeError, RecursionError):
        raise InputError(f"The body is not JSON: {why}.") from None
    return value


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _parse_v2(message: dict[str, object], raw: memoryview | None) -> Wire:
    inputs = message.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InputError("The request needs 'inputs': a list of tensors.")
    tensors = _with_raw(inputs, raw)
    parameters = _object(message, "parameters")
    outputs, binary = _wanted(message.get("outputs"), parameters)
    return Wire(V2, _text(message, "id"), _key(parameters), tensors, [], outputs, binary)


def _with_raw(inputs: list[object], raw: memoryview | None) -> list[Tensor]:
    if raw is None:
        for value in inputs:
            if isinstance(value, dict) and "data" not in value:
                raise InputError(
                    f"Input {value.get('name')!r} has no data (for raw bytes send the header "
                    "Inference-Header-Content-Length)."
                )
        return [read_tensor(value) for value in inputs]
    tensors, at = [], 0
    for value in inputs:
        size = _raw_size(value)
        if size is not None and isinstance(value, dict):
            value["raw"] = raw[at : at + size]
            at += size
        tensors.append(read_tensor(value))
    if at != len(raw):
        raise InputError(
            f"The inputs claim {at} raw bytes by binary_data_size; {len(raw)} follow the JSON."
        )
    return tensors


def _raw_size(value: object) -> int | None:
    parameters = value.get("parameters") if isinstance(value, dict) else None
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InputError("binary_data_size must be a whole number of bytes.")
    if isinstance(value, dict) and value.get("data") is not None:
        raise InputError(f"Input {value.get('name')!r} has both data and binary_data_size.")
    return size


def _wanted(
    outputs: object, parameters: Mapping[str, object]
) -> tuple[tuple[str, ...], frozenset[str] | None]:
    default = bool(parameters.get("binary_data_output", False))
    if not outputs:
        return (), None if default else frozenset()
    if not isinstance(outputs, list):
        raise InputError("'outputs' must be a list of objects with a name.")
    names, binary = [], set()
    for output in outputs:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str):
            raise InputError("'outputs' must be a list of objects with a name.")
        names.append(name)
        if _object(cast(dict[str, object], output), "parameters").get("binary_data", default):
            binary.add(name)
    return tuple(names), frozenset(binary)


def _parse_v1(message: dict[str, object]) -> Wire:
    instances = message.get("instances")
    if not isinstance(instances, list) or not instances:
        raise InputError("The request needs 'instances': a list with one entry for each row.")
    parameters = _object(message, "parameters")
    return Wire(V1, _text(message, "id"), _key(parameters), (), instances, (), frozenset())


def _object(message: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = message.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"'{name}' must be an object.")
    return value


def _text(message: Mapping[str, object], name: str) -> str:
    value = message.get(name, "")
    if not isinstance(value, str):
        raise InputError(f"'{name}' must be text.")
    return value


def _key(parameters: Mapping[str, object]) -> str:
    key = parameters.get("clew-key", "")
    if not isinstance(key, str | int):
        raise InputError("The parameter 'clew-key' must be text or a whole number.")
    return str(key)


# answers ----------------------------------------------------------------------------------------


class Outputs:
    """The outputs of one batch, to be cut by request.

    ``classes``: names of a classifier's classes, in the order of its probabilities.
    """

    __slots__ = ("arrays", "flat", "heads", "names", "notes", "widths")

    def __init__(self, arrays: Mapping[str, Array], classes: tuple[str, ...] = ()) -> None:
        self.arrays = arrays
        self.names = tuple(arrays)
        self.notes = [_notes(name, array.shape[1:], classes) for name, array in arrays.items()]
        self.heads = [
            _output_head(name, of_numpy(array), array.shape[1:], classes)
            for name, array in arrays.items()
        ]
        self.widths = [int(np.prod(array.shape[1:])) for array in arrays.values()]
        self.flat = [_plain(array) for array in arrays.values()]

    def chosen(self, wanted: tuple[str, ...]) -> Sequence[int]:
        """Places of the outputs that a request wants (all of them for an empty tuple).

        Raises:
            InputError: there is no such output.
        """
        if not wanted:
            return range(len(self.names))
        for name in wanted:
            if name not in self.names:
                known = ", ".join(repr(known) for known in self.names)
                raise InputError(f"There is no output {name!r}; the model gives {known}.")
        return [self.names.index(name) for name in wanted]

    def json(self, start: int, stop: int, places: Sequence[int]) -> bytes:
        """The JSON list of output tensors for rows start to stop."""
        rows = b"%d" % (stop - start)
        return b"[" + b",".join([self._tensor(at, start, stop, rows) for at in places]) + b"]"

    def _tensor(self, at: int, start: int, stop: int, rows: bytes) -> bytes:
        first, rest = self.heads[at]
        width = self.widths[at]
        data = self.flat[at][start * width : stop * width]
        return first + rows + rest + orjson.dumps(data) + b"}"

    def binary(
        self, start: int, stop: int, places: Sequence[int], binary: Collection[str] | None
    ) -> tuple[bytes, bytes]:
        """The JSON list of output tensors, and the raw bytes of those wanted so (None: all)."""
        parts, raws = [], []
        for at in places:
            name, notes = self.names[at], self.notes[at]
            if binary is not None and name not in binary:
                parts.append(self._tensor(at, start, stop, b"%d" % (stop - start)))
                continue
            array = self.arrays[name][start:stop]
            raws.append(to_raw(array))
            parts.append(
                orjson.dumps(
                    {
                        "name": name,
                        "datatype": of_numpy(array),
                        "shape": list(array.shape),
                        "parameters": {**notes, "binary_data_size": len(raws[-1])},
                    }
                )
            )
        return b"[" + b",".join(parts) + b"]", b"".join(raws)

    def rows(self, start: int, stop: int) -> bytes:
        """The JSON list of v1 predictions: a value a row, or an object for several outputs."""
        cut = {name: _nested(self.arrays[name][start:stop]) for name in self.names}
        if len(cut) == 1:
            return orjson.dumps(next(iter(cut.values())))
        return orjson.dumps(
            [dict(zip(cut, row, strict=True)) for row in zip(*cut.values(), strict=True)]
        )


@lru_cache(maxsize=1024)
def _output_head(
    name: str, datatype: str, tail: tuple[int, ...], classes: tuple[str, ...]
) -> tuple[bytes, bytes]:
    first = b'{"name":' + orjson.dumps(name) + b',"datatype":"' + datatype.encode()
    rest = "".join(f",{size}" for size in tail).encode() + b"]"
    if notes := _notes(name, tail, classes):
        rest += b',"parameters":' + orjson.dumps(notes)
    return first + b'","shape":[', rest + b',"data":'


def classes_of(name: str, tail: tuple[int, ...], classes: tuple[str, ...]) -> list[str]:
    """The classes that the values of an output are of, in their order.

    All of them for ``probabilities``, the second for ``probability``; none for other outputs.
    """
    if name == "probabilities" and tail == (len(classes),):
        return list(classes)
    return list(classes[1:]) if name == "probability" and not tail and len(classes) == 2 else []


@lru_cache(maxsize=1024)
def _notes(name: str, tail: tuple[int, ...], classes: tuple[str, ...]) -> dict[str, object]:
    """Parameters of an output; the protocol allows them text but no lists, so it is JSON."""
    named = classes_of(name, tail, classes)
    return {"clew-classes": json.dumps(named, ensure_ascii=False)} if named else {}


def _plain(array: Array) -> list[object]:
    return cast(list[object], _readable(array).ravel().tolist())


def _nested(array: Array) -> list[object]:
    return cast(list[object], _readable(array).tolist())


def _readable(array: Array) -> Array:
    if array.dtype.kind in "biufU":
        return array
    return np.array([_word(value) for value in array.ravel().tolist()], dtype=object).reshape(
        array.shape
    )


def _word(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else str(value)


def read_outputs(body: bytes, header_length: int | None = None) -> dict[str, list[object]]:
    """Name → one value a row, of a v2 answer (JSON or binary) or a v1 answer's predictions.

    A value of a wider tensor is a list.
    """
    message = orjson.loads(body if header_length is None else body[:header_length])
    if "predictions" in message:
        return _columns_of(message["predictions"])
    at, columns = header_length or 0, {}
    for output in message["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(output["data"], dtype=object)
        else:
            raw = memoryview(body)[at : at + size]
            count = int(np.prod(output["shape"]))
            array = Tensor("", output["datatype"], (count,), None, raw).flat()  # type: ignore[assignment]
            at += size
        columns[output["name"]] = array.reshape(output["shape"]).tolist()
    return columns


def _columns_of(predictions: list[object]) -> dict[str, list[object]]:
    if predictions and all(isinstance(row, dict) for row in predictions):
        rows = cast(list[dict[str, object]], predictions)
        return {name: [row[name] for row in rows] for name in rows[0]}
    return {"predictions": predictions}
