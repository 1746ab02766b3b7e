"""The classification extension: the top classes of an output, as text, in place of its numbers.

Knows arrays and what was asked; nothing of transports or models. Triton's extension (see
https://github.com/triton-inference-server/server, docs/protocol/extension_classification.md): an
output that is asked for with ``classification: k`` is BYTES of shape [rows, k], each element
``value:index`` or ``value:index:label``, the largest value first. Where a row has fewer elements
than k, all of them come, as in Triton.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from clew.serving.protocol import Outputs, classes_of
from clew.serving.tensors import Array, InputError


def classified(
    outputs: Outputs,
    places: Sequence[int],
    top: Mapping[str, int],
    binary: Collection[str] | None,
    classes: tuple[str, ...],
    rows: tuple[int, int],
) -> tuple[bytes, bytes]:
    """The JSON list of output tensors for rows from start to stop, and the raw bytes of those that
    are wanted so (``binary``; None: all). ``top``: output → how many classes of it.

    Raises:
        InputError: an output has no numbers.
    """
    start, stop = rows
    tensors, raws = [], []
    for at in places:
        name = outputs.names[at]
        if name in top:
            told = top_classes(name, outputs.arrays[name][start:stop], top[name], classes)
            tensor, raw = Outputs({name: told}).binary(0, stop - start, (0,), binary)
        else:
            tensor, raw = outputs.binary(start, stop, (at,), binary)
        tensors.append(tensor[1:-1])
        raws.append(raw)
    return b"[" + b",".join(tensors) + b"]", b"".join(raws)


def top_classes(name: str, array: Array, k: int, classes: tuple[str, ...]) -> Array:
    """The ``k`` largest elements of each row as text, [rows, k or as many as there are].

    ``probability`` of two classes is that of the second: the first has the rest, so that the top
    class is what the model says. Equal values come by index, NaN last.

    Raises:
        InputError: the output has no numbers.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"Output {name!r}: only numbers have classes, and it is text.")
    values = array.reshape(len(array), -1)
    labels = classes_of(name, array.shape[1:], classes)
    if name == "probability" and labels:
        values = np.column_stack([1 - values[:, 0], values[:, 0]])
        labels = list(classes)
    order = _descending(values)[:, :k]
    best = np.take_along_axis(values, order, axis=1)
    tails = [f":{label}" for label in labels] or [""] * values.shape[1]
    told = [
        [f"{value}:{at}{tails[at]}" for value, at in zip(row, places, strict=True)]
        for row, places in zip(_said(best), order.tolist(), strict=True)
    ]
    return np.array(told, dtype=object).reshape(order.shape)


def _descending(values: Array) -> Any:
    """Places of the elements of each row, largest first, equal ones by place, NaN last."""
    if values.dtype.kind == "f":
        return np.argsort(np.negative(values), axis=1, kind="stable")
    turned = np.argsort(values[:, ::-1], axis=1, kind="stable")[:, ::-1]
    return values.shape[1] - 1 - turned


def _said(values: Array) -> list[list[str]]:
    """Numbers as the shortest text that reads as the same number of their type."""
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    return [[str(value) for value in row] for row in values]
