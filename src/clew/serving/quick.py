"""The request that most clients send, read in one step: one FP64 matrix as a flat JSON list.

Knows nothing of transports and models. What is not exactly that goes the long way (``protocol``
and ``contract``), which knows every other form and words every refusal.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from clew.serving.contract import Contract, MatrixContract
from clew.serving.protocol import V2, Wire
from clew.serving.tensors import Array


class _Tensor(Struct, forbid_unknown_fields=True, gc=False):
    name: str
    datatype: Literal["FP64"]
    shape: tuple[int, int]
    data: list[float]


class Request(Struct, forbid_unknown_fields=True, gc=False):
    """A whole body. JSON knows no NaN, so every value is there."""

    inputs: tuple[_Tensor]
    id: str = ""


_decode = msgspec.json.Decoder(Request).decode
_PLAIN = Wire(V2, "", "", (), [], (), frozenset())


def read(body: bytes) -> Request | None:
    """The request, or None where it is of another form (also one to be refused)."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def wire(request: Request) -> Wire:
    """What is asked besides the values: nothing but an id."""
    return Wire(V2, request.id, "", (), [], (), frozenset()) if request.id else _PLAIN


def values_of(request: Request, contract: Contract) -> tuple[Array, int] | None:
    """The matrix and its rows, or None where the model takes something else."""
    (tensor,) = request.inputs
    if isinstance(contract, MatrixContract):
        matrix = contract
    elif contract.matrix is not None and len(contract.rules) > 1:
        if tensor.name in contract.names:
            return None
        matrix = contract.matrix
    else:
        return None
    rows, width = tensor.shape
    data = tensor.data
    if matrix.datatype != "FP64" or width != matrix.width or rows < 1 or not tensor.name:
        return None
    if len(data) != rows * width:
        return None
    return np.array(data, dtype=np.float64).reshape(rows, width), rows
