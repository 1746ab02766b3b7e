"""The Open Inference Protocol v2 (JSON and binary) and v1 ``:predict``: bytes in, bytes out.

Knows nothing of sockets, models or revisions. Pure functions.
Protocol: https://github.com/kserve/open-inference-protocol and Triton's binary tensor data
extension, where ``Inference-Header-Content-Length`` says how long the JSON before the raw bytes is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import orjson
from msgspec import Struct

from clew.serving.contract import Contract, Tensor, Values, read_tensor
from clew.serving.tensors import Array, InputError, of_numpy, outputs_from_raw, to_raw

V1 = "v1"
V2 = "v2"
RAW = "raw"
"""A v2 request that is nothing but the bytes of the only input: its JSON has the length 0."""
COLUMNS = "columns"
"""A v1 request in TensorFlow Serving's column format: ``inputs`` instead of ``instances``."""
_NO_TOP: Mapping[str, int] = MappingProxyType({})


class Wire(Struct, frozen=True):
    """A request as it was sent, parsed but not yet checked against a model.

    ``kind``: V1, COLUMNS, V2 or RAW. ``table``: the ``instances`` or ``inputs`` of v1. ``key`` is
    the request parameter ``clew-key``: requests of one key stay with one revision. ``binary``:
    names of the outputs that are wanted as raw bytes; None means all of them. ``timeout_s``: from
    the parameter ``timeout``, which is in microseconds as Triton's. ``top``: outputs of which so
    many top classes are wanted in place of their values (``classifying``).
    """

    kind: str
    id: str
    key: str
    tensors: Sequence[Tensor]
    table: object
    outputs: tuple[str, ...]
    binary: frozenset[str] | None
    timeout_s: float = math.inf
    top: Mapping[str, int] = _NO_TOP


def parse(kind: str, body: bytes, header_length: int | None = None) -> Wire:
    """A request body as what it says; ``header_length`` is the length of its JSON, if told.

    Raises:
        InputError: it is not JSON, or not a request.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise InputError("Inference-Header-Content-Length is longer than the body.")
    if header_length == 0 and kind == V2:
        whole = Tensor("", "", (), None, memoryview(body))
        return Wire(RAW, "", "", (whole,), None, (), None)
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
    if wire.kind == V2:
        return contract.check(wire.tensors)
    if wire.kind == RAW:
        raw = wire.tensors[0].raw
        assert raw is not None, "that is what it is made of"
        return contract.check([contract.whole(raw)])
    if wire.kind == V1:
        return contract.instances(cast(list[object], wire.table))
    return contract.table(wire.table)


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
    for value in inputs:
        _refuse_shared(value)
    tensors = _with_raw(inputs, raw)
    parameters = _object(message, "parameters")
    outputs, binary, top = _wanted(message.get("outputs"), parameters)
    said = _text(message, "id"), _key(parameters)
    return Wire(V2, *said, tensors, [], outputs, binary, _timeout_s(parameters), top)


def _refuse_shared(value: object) -> None:
    parameters = value.get("parameters") if isinstance(value, dict) else None
    if isinstance(value, dict) and isinstance(parameters, dict) and _SHARED in parameters:
        raise InputError(
            f"Input {value.get('name')!r}: shared memory is an extension that is not here; send "
            "the values."
        )


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
) -> tuple[tuple[str, ...], frozenset[str] | None, Mapping[str, int]]:
    """Names of the outputs, those of them wanted as raw bytes, and the top classes of some."""
    default = _flag(parameters, "binary_data_output", default=False)
    if not outputs:
        return (), None if default else frozenset(), _NO_TOP
    if not isinstance(outputs, list):
        raise InputError("'outputs' must be a list of objects with a name.")
    names, binary, top = [], set(), {}
    for output in outputs:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str):
            raise InputError("'outputs' must be a list of objects with a name.")
        names.append(name)
        asked = _object(cast(dict[str, object], output), "parameters")
        if asked.get(_SHARED):
            raise InputError(f"Output {name!r}: {_SHARED!r} is an extension that is not here.")
        if _flag(asked, "binary_data", default=default):
            binary.add(name)
        if (count := asked.get("classification")) is not None:
            if type(count) is not int or count < 1:
                raise InputError(
                    f"Output {name!r}: classification must be how many classes are wanted, a whole "
                    "number of 1 or more."
                )
            top[name] = count
    return tuple(names), frozenset(binary), top or _NO_TOP


_SHARED = "shared_memory_region"


def _flag(parameters: Mapping[str, object], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"The parameter {name!r} must be true or false.")
    return value


def _parse_v1(message: dict[str, object]) -> Wire:
    parameters = _object(message, "parameters")
    if _text(message, "signature_name") not in {"", "serving_default"}:
        raise InputError("A model here has one signature: leave 'signature_name' out.")
    said = _text(message, "id"), _key(parameters), ()
    instances, inputs = message.get("instances"), message.get("inputs")
    if instances is not None and inputs is not None:
        raise InputError("The request needs 'instances' or 'inputs', not both.")
    if inputs is not None:
        return Wire(COLUMNS, *said, inputs, (), frozenset())
    if not isinstance(instances, list) or not instances:
        raise InputError(
            "The request needs 'instances': a list with one entry for each row, or 'inputs': the "
            "columns."
        )
    return Wire(V1, *said, instances, (), frozenset())


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


def _timeout_s(parameters: Mapping[str, object]) -> float:
    value = parameters.get("timeout")
    if value is None:
        return math.inf
    if type(value) is not int or value < 0:
        raise InputError("The parameter 'timeout' must be a whole number of microseconds.")
    return value / 1e6 if value else math.inf


# answers ----------------------------------------------------------------------------------------


class _Form(Struct, frozen=True):
    """What outputs of the same names, types and shapes of a row have in common.

    ``heads``: of each output the JSON before and behind its number of rows; ``widths``: values a
    row; ``numbers``: whether each is one number a row; ``row``: where all are, the JSON of one row,
    with places for the values.
    """

    names: tuple[str, ...]
    notes: tuple[dict[str, str], ...]
    heads: tuple[tuple[bytes, bytes], ...]
    widths: tuple[int, ...]
    numbers: tuple[bool, ...]
    every: range
    row: bytes


@lru_cache(maxsize=1024)
def _form_of(
    kinds: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...], classes: tuple[str, ...]
) -> _Form:
    heads = tuple(_output_head(name, of_numpy(dtype), tail, classes) for name, dtype, tail in kinds)
    numbers = tuple(not tail and dtype.kind in "biuf" for _, dtype, tail in kinds)
    row = b",".join((first + b"1" + rest).replace(b"%", b"%%") + b"[%b]}" for first, rest in heads)
    return _Form(
        names=tuple(name for name, _, _ in kinds),
        notes=tuple(_notes(name, tail, classes) for name, _, tail in kinds),
        heads=heads,
        widths=tuple(math.prod(tail) for _, _, tail in kinds),
        numbers=numbers,
        every=range(len(kinds)),
        row=b"[" + row + b"]" if heads and all(numbers) else b"",
    )


class Outputs:
    """The outputs of one batch, to be cut by request.

    ``classes``: names of a classifier's classes, in the order of its probabilities.
    """

    __slots__ = ("_form", "_rows", "arrays", "flat", "names", "texts")

    def __init__(self, arrays: Mapping[str, Array], classes: tuple[str, ...] = ()) -> None:
        kinds = tuple([(name, array.dtype, array.shape[1:]) for name, array in arrays.items()])
        form = self._form = _form_of(kinds, classes)
        self.arrays, self.names = arrays, form.names
        self.flat = [_plain(array) for array in arrays.values()]
        self.texts = [
            orjson.dumps(flat)[1:-1].split(b",") if number else None
            for flat, number in zip(self.flat, form.numbers, strict=True)
        ]
        """Of one number a row: its JSON, written for all rows at once."""
        self._rows: list[bytes] = []

    def chosen(self, wanted: tuple[str, ...]) -> Sequence[int]:
        """Places of the outputs that a request wants (all of them for an empty tuple).

        Raises:
            InputError: there is no such output.
        """
        if not wanted:
            return self._form.every
        for name in wanted:
            if name not in self.names:
                known = ", ".join(repr(known) for known in self.names)
                raise InputError(f"There is no output {name!r}; the model gives {known}.")
        return [self.names.index(name) for name in wanted]

    def json(self, start: int, stop: int, places: Sequence[int]) -> bytes:
        """The JSON list of output tensors for rows start to stop."""
        form = self._form
        if form.row and stop - start == 1 and places is form.every:
            if not self._rows:
                texts = cast(list[list[bytes]], self.texts)
                self._rows = [form.row % row for row in zip(*texts, strict=True)]
            return self._rows[start]
        rows = b"%d" % (stop - start)
        return b"[" + b",".join([self._tensor(at, start, stop, rows) for at in places]) + b"]"

    def _tensor(self, at: int, start: int, stop: int, rows: bytes) -> bytes:
        first, rest = self._form.heads[at]
        texts = self.texts[at]
        if texts is not None:
            return first + rows + rest + b"[" + b",".join(texts[start:stop]) + b"]}"
        width = self._form.widths[at]
        data = self.flat[at][start * width : stop * width]
        return first + rows + rest + orjson.dumps(data) + b"}"

    def binary(
        self, start: int, stop: int, places: Sequence[int], binary: Collection[str] | None
    ) -> tuple[bytes, bytes]:
        """The JSON list of output tensors, and the raw bytes of those wanted so (None: all)."""
        parts, raws = [], []
        for at in places:
            name, notes = self.names[at], self._form.notes[at]
            if binary is not None and name not in binary:
                parts.append(self._tensor(at, start, stop, b"%d" % (stop - start)))
                continue
            array = self.arrays[name][start:stop]
            raw = to_raw(array)
            raws.append(raw)
            classes = notes.get(_CLASSES, "")
            parts.append(_raw_head(name, of_numpy(array.dtype), array.shape, len(raw), classes))
        return b"[" + b",".join(parts) + b"]", b"".join(raws)

    def rows(self, start: int, stop: int) -> bytes:
        """The JSON list of v1 predictions: a value a row, or an object for several outputs."""
        cut = self.cut(start, stop)
        if len(cut) == 1:
            return orjson.dumps(next(iter(cut.values())))
        return orjson.dumps(
            [dict(zip(cut, row, strict=True)) for row in zip(*cut.values(), strict=True)]
        )

    def columns(self, start: int, stop: int) -> bytes:
        """The JSON outputs of v1's column format: a list, or lists by name for several outputs."""
        cut = self.cut(start, stop)
        return orjson.dumps(next(iter(cut.values())) if len(cut) == 1 else cut)

    def cut(self, start: int, stop: int, wanted: tuple[str, ...] = ()) -> dict[str, list[object]]:
        """Name → one value a row, of the outputs that a request wants (all for an empty tuple).

        Raises:
            InputError: there is no such output.
        """
        names = [self.names[at] for at in self.chosen(wanted)]
        return {name: _nested(self.arrays[name][start:stop]) for name in names}


@lru_cache(maxsize=1024)
def _output_head(
    name: str, datatype: str, tail: tuple[int, ...], classes: tuple[str, ...]
) -> tuple[bytes, bytes]:
    first = b'{"name":' + orjson.dumps(name) + b',"datatype":"' + datatype.encode()
    rest = "".join(f",{size}" for size in tail).encode() + b"]"
    if notes := _notes(name, tail, classes):
        rest += b',"parameters":' + orjson.dumps(notes)
    return first + b'","shape":[', rest + b',"data":'


@lru_cache(maxsize=1024)
def _raw_head(
    name: str, datatype: str, shape: tuple[int, ...], size_bytes: int, classes: str
) -> bytes:
    """The JSON of an output whose bytes follow."""
    notes: dict[str, object] = {_CLASSES: classes} if classes else {}
    notes["binary_data_size"] = size_bytes
    return orjson.dumps({"name": name, "datatype": datatype, "shape": shape, "parameters": notes})


def classes_of(name: str, tail: tuple[int, ...], classes: tuple[str, ...]) -> list[str]:
    """The classes that the values of an output are of, in their order.

    All of them for ``probabilities``, the second for ``probability``; none for other outputs.
    """
    if name == "probabilities" and tail == (len(classes),):
        return list(classes)
    return list(classes[1:]) if name == "probability" and not tail and len(classes) == 2 else []


@lru_cache(maxsize=1024)
def _notes(name: str, tail: tuple[int, ...], classes: tuple[str, ...]) -> dict[str, str]:
    """Parameters of an output; the protocol allows them text but no lists, so it is JSON."""
    named = classes_of(name, tail, classes)
    return {_CLASSES: json.dumps(named, ensure_ascii=False)} if named else {}


_CLASSES = "clew-classes"


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
    outputs = message["outputs"]
    if isinstance(outputs, dict):  # v1's column format
        return outputs
    if outputs and not isinstance(outputs[0], dict):
        return {"predictions": outputs}
    at, columns = header_length or 0, {}
    for output in outputs:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            columns[output["name"]] = _column_of(output["data"], output["shape"])
            continue
        raw = memoryview(body)[at : at + size]
        count = int(np.prod(output["shape"]))
        array = outputs_from_raw(raw, output["datatype"], count)
        at += size
        columns[output["name"]] = array.reshape(output["shape"]).tolist()
    return columns


def _column_of(data: list[object], shape: list[int]) -> list[object]:
    """One value (of a wider tensor: a list) a row. Flat data of few dimensions, as they mostly are,
    need no array.
    """
    flat = not (data and isinstance(data[0], list))
    if flat and len(shape) == 1:
        return data
    if flat and len(shape) == 2 and shape[0] == 1:
        return [data]
    column: list[object] = np.array(data, dtype=object).reshape(shape).tolist()
    return column


def _columns_of(predictions: list[object]) -> dict[str, list[object]]:
    if predictions and all(isinstance(row, dict) for row in predictions):
        rows = cast(list[dict[str, object]], predictions)
        return {name: [row[name] for row in rows] for name in rows[0]}
    return {"predictions": predictions}
