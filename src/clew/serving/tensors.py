"""Datatypes of the Open Inference Protocol, and tensors as raw bytes.

Knows nothing of requests, models or signatures.
Protocol: https://github.com/kserve/open-inference-protocol and, for raw bytes, Triton's binary
tensor data extension: little-endian, row-major; BYTES is a 4-byte length before each element.
"""

from __future__ import annotations

import struct
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from clew.base.errors import Invalid

Array = npt.NDArray[np.generic]

NUMPY: dict[str, str] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "FP16": "<f2", "BF16": "<u2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
"""Datatype → numpy dtype of its raw bytes (BF16: the upper half of a float32's bits)."""

DATATYPES = frozenset({*NUMPY, "BYTES"})
FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
INTEGERS = frozenset(name for name in NUMPY if "INT" in name)

_ARROW = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "halffloat": "FP16", "float16": "FP16", "float": "FP32", "float32": "FP32",
    "double": "FP64", "float64": "FP64",
}  # fmt: skip

_BY_NUMPY = {
    "b1": "BOOL", "u1": "UINT8", "u2": "UINT16", "u4": "UINT32", "u8": "UINT64",
    "i1": "INT8", "i2": "INT16", "i4": "INT32", "i8": "INT64",
    "f2": "FP16", "f4": "FP32", "f8": "FP64",
}  # fmt: skip


class InputError(Invalid):
    """A request that cannot be answered as it stands; the message says what is expected."""

    def __init__(self, message: str, *, code: str = "predict.input") -> None:
        super().__init__(code, message)


def of_arrow(name: str) -> str:
    """The datatype for an Arrow type name; BYTES (text) for all that is no number."""
    return "FP64" if name.startswith("decimal") else _ARROW.get(name, "BYTES")


def of_numpy(dtype: np.dtype[Any]) -> str:
    """The datatype for a numpy type; BYTES for strings, objects and times."""
    return _BY_NUMPY.get(dtype.kind + str(dtype.itemsize), "BYTES")


def from_raw(raw: memoryview, datatype: str, count: int, name: str) -> Array:
    """``count`` elements from raw bytes: a numeric array, or an object array of ``str``.

    Raises:
        InputError: the bytes are not that many elements.
    """
    if datatype == "BYTES":
        return _strings(raw, count, name)
    dtype = np.dtype(NUMPY[datatype])
    if len(raw) != count * dtype.itemsize:
        raise InputError(
            f"Input {name!r}: {count} elements of {datatype} are {count * dtype.itemsize} bytes, "
            f"but binary_data_size is {len(raw)}."
        )
    values: Array = np.frombuffer(raw, dtype=dtype)
    if datatype == "BF16":
        bits = values.astype(np.uint32) << np.uint32(16)
        return cast(Array, bits.view(np.float32))
    if datatype == "BOOL":
        return cast(Array, np.frombuffer(raw, dtype=np.uint8) != 0)
    return values


def outputs_from_raw(raw: memoryview, datatype: str, count: int) -> Array:
    """The same for what a model gave; bytes that are no UTF-8 are shown as such, not refused."""
    if datatype != "BYTES":
        return from_raw(raw, datatype, count, "")
    values, _ = _elements(raw, count)
    return np.array([value.decode(errors="replace") for value in values], dtype=object)


def _strings(raw: memoryview, count: int, name: str) -> Array:
    elements, at = _elements(raw, count)
    values = [_text(element, name) for element in elements]
    end = len(raw)
    if at != end or len(values) != count:
        raise InputError(
            f"Input {name!r}: expected {count} BYTES elements, each after its length as a 4-byte "
            f"little-endian number, in {end} bytes."
        )
    return np.array(values, dtype=object)


def _elements(raw: memoryview, count: int) -> tuple[list[bytes], int]:
    """Elements of a BYTES tensor (at most one more than ``count``), and where they end."""
    values: list[bytes] = []
    at, end = 0, len(raw)
    while at + 4 <= end and len(values) <= count:
        (size,) = struct.unpack_from("<I", raw, at)
        if at + 4 + size > end:
            break
        values.append(bytes(raw[at + 4 : at + 4 + size]))
        at += 4 + size
    return values, at


def element(value: bytes) -> bytes:
    """One element of a BYTES tensor as raw bytes."""
    return struct.pack("<I", len(value)) + value


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InputError(f"Input {name!r}: an element is not UTF-8 text.") from None


def to_raw(array: Array) -> bytes:
    """The raw bytes of an array, by its own datatype."""
    if of_numpy(array.dtype) != "BYTES":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    parts = [as_bytes(value) for value in array.ravel().tolist()]
    return b"".join(map(element, parts))


def as_bytes(value: object) -> bytes:
    """One element of a BYTES tensor."""
    return value if isinstance(value, bytes) else str(value).encode()
