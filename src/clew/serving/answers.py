"""The usual answers of many records, read at once: numbers of one shape, as JSON.

Knows nothing of files and models. What is not exactly that is read one by one (``protocol``), to
the same values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import orjson

from clew.serving.spool import Record
from clew.serving.tensors import Array

AT_ONCE = 1024
"""Answers that are read in one step, which keeps the interpreter for itself meanwhile."""
_OUTPUTS = b',"outputs":['
_DATA = re.compile(rb'(?<="data":)\[[^][{}"]*\]')
_NUMBERS = rb"\[([-+0-9.eE,]+)\]"
_KINDS = ({np.dtype(np.int64)}, {np.dtype(np.float64)})


def columns_of(records: Sequence[Record]) -> dict[str, Array] | None:
    """Output → its values over all rows of some answers, int64 or float64: one a row, or one row of
    a matrix. None where one of them has another form than the first, or something else in it.
    """
    first, rows = records[0], records[0].request_head
    if any(each.answer_head >= 0 or each.request_head != rows for each in records):
        return None
    start = first.answer.find(_OUTPUTS)
    if start < 0:
        return None
    found = _read([each.answer for each in records], first.answer[start:])
    outputs = orjson.loads(first.answer)["outputs"]
    if found is None or len(found) != len(outputs):
        return None
    columns: dict[str, Array] = {}
    for output, values in zip(outputs, found, strict=True):
        height, *width = output["shape"]
        size = len(records) * rows * math.prod(width)
        if height != rows or len(width) > 1 or len(values) != size or output["name"] in columns:
            return None
        columns[output["name"]] = values.reshape(len(records) * rows, -1) if width else values
    return columns


def _read(answers: Sequence[bytes], like: bytes) -> list[Array] | None:
    """The numbers of each output, where all answers end as one of them does but for the numbers."""
    places = [re.escape(part) for part in _DATA.split(like)]
    end = re.compile(_NUMBERS.join(places) + rb"(?:\n|\Z)")
    found: list[list[Array]] = [[] for _ in places[1:]]
    for at in range(0, len(answers), AT_ONCE):
        part = answers[at : at + AT_ONCE]
        told = end.findall(b"\n".join(part))
        if len(told) != len(part) or not found:
            return None
        columns = [told] if len(found) == 1 else zip(*told, strict=True)
        for arrays, texts in zip(found, columns, strict=True):
            numbers = orjson.loads(b"[%b]" % b",".join(texts))
            if len(set(map(type, numbers))) > 1:  # 1 is not 1.0
                return None
            arrays.append(np.array(numbers))
    same = all({array.dtype for array in arrays} in _KINDS for arrays in found)
    return [np.concatenate(arrays) for arrays in found] if same else None
