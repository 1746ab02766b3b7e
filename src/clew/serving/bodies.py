"""The body of an answer, in the form that was asked for.

Knows no transport and no log.
"""

from __future__ import annotations

import orjson

from clew.serving.classifying import classified
from clew.serving.protocol import COLUMNS, V1, Outputs, Wire
from clew.serving.runtime import Runtime


def body_of(
    wire: Wire, runtime: Runtime, prediction_id: str, outputs: Outputs, at: int, stop: int,
    more: bytes = b"",
) -> tuple[bytes, int]:  # fmt: skip
    """The body of an answer, and the length of its JSON where raw bytes follow (else -1)."""
    name = prediction_id.encode()
    about = runtime.about + name + b'"' + more + b"}"
    if wire.kind == V1:
        return b'{"predictions":' + outputs.rows(at, stop) + about + b"}", -1
    if wire.kind == COLUMNS:
        return b'{"outputs":' + outputs.columns(at, stop) + about + b"}", -1
    places = outputs.chosen(wire.outputs)
    id = orjson.dumps(wire.id) if wire.id else b'"' + name + b'"'
    start = runtime.opening + id + about + b',"outputs":'
    if wire.top:
        classes = runtime.model.signature.classes
        tensors, raw = classified(outputs, places, wire.top, wire.binary, classes, (at, stop))
        head = start + tensors + b"}"
        return head + raw, len(head) if wire.binary is None or wire.binary else -1
    if wire.binary is None or wire.binary:
        tensors, raw = outputs.binary(at, stop, places, wire.binary)
        head = start + tensors + b"}"
        return head + raw, len(head)
    return start + outputs.json(at, stop, places) + b"}", -1
