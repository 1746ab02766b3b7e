"""An answered request as a record of the spool: whole, or by column where some are not kept.

Knows no files and no routes but the settings of one.
"""

from __future__ import annotations

import time
from typing import Any

from msgspec.structs import replace

from clew.serving import protocol
from clew.serving.bodies import body_of
from clew.serving.keeping import UNSAID, is_sampled, kept, unit_of
from clew.serving.protocol import Outputs
from clew.serving.runtime import Identity, Runtime
from clew.serving.spool import KEPT, MATRIX, Record, frame
from clew.serving.tensors import InputError

SHADOW = "shadow"
"""The role in the log of who was asked for nobody."""


def frame_of(call: Any, answer: Any, identity: Identity, latency_s: float, error: str) -> bytes:
    """The record of a request and its answer, as it goes to the spool."""
    arm, kind, request, head = call.arm, call.kind, call.body, call.head
    body, answer_head = answer.body if answer.status == 200 else b"", answer.head
    if call.parts is not None or call.redact or (not call.matrix and _is_classified(call, answer)):
        kind, request, body, head, answer_head = KEPT, *_without(call, arm.value, answer), -1, -1
        error = UNSAID if error and call.redact else error
    elif answer.status == 200 and call.wire.outputs:
        body, answer_head = _whole(call, answer)
    elif call.matrix:  # a third of the bytes, and nobody need read the JSON a second time
        kind, request, head = MATRIX, call.matrix, call.rows
    return frame(
        Record(
            answer.prediction_id,
            identity.endpoint,
            identity.revision,
            identity.model_version,
            identity.global_id,
            time.time_ns() // 1000,
            int(latency_s * 1e6),
            answer.status,
            kind,
            head,
            request,
            answer_head,
            body,
            error,
            arm.role,
            arm.propensity,
            unit_of(call.key) if call.key else "",
            "",
            call.part_of,
            call.parts or (),
        )
    )


def _whole(call: Any, answer: Any) -> tuple[bytes, int]:
    """An answer with all outputs: what drift and feedback are held against is there, whichever of
    them the client has asked for.
    """
    outputs, at, stop = call.found
    wire = replace(call.wire, outputs=(), binary=None)
    return body_of(wire, call.arm.value, answer.prediction_id, outputs, at, stop)


def _is_classified(call: Any, answer: Any) -> bool:
    """Whether the answer has classes as text, where the log is to have the values."""
    return answer.status == 200 and bool(call.wire.top)


def _without(call: Any, runtime: Runtime, answer: Any) -> tuple[bytes, bytes]:
    """What is kept of a request and of its answer; nothing where it was refused."""
    if answer.status != 200:
        return b"", b""
    redact = call.redact
    inputs = call.told or kept(runtime.contract.columns(call.values), call.rows, redact)
    if call.wire.outputs:
        outputs, at, stop = call.found
        found = outputs.cut(at, stop)
    else:
        found = protocol.read_outputs(answer.body, None if answer.head < 0 else answer.head)
    return inputs, kept(found, call.rows, redact)


def record_of_copy(
    copy: Any, outputs: Outputs | None, at: int, stop: int, id: str, took_s: float, error: str
) -> Record | None:
    """What the log keeps of a shadow's answer: as of any other, whenever the live one is kept."""
    call, runtime = copy.call, copy.runtime
    route, identity, redact = call.route, runtime.identity, call.redact
    if not route.log or not is_sampled(copy.of, route.log):
        return None
    kind, request, head, body, answer_head = call.kind, call.body, call.head, b"", -1
    by_column = bool(redact or call.wire.top or runtime.graph is not None)
    if outputs is not None:
        try:
            outputs.chosen(call.wire.outputs)
            if by_column:
                body = kept(outputs.cut(at, stop), copy.rows, redact)
            else:
                wire = replace(call.wire, outputs=()) if call.wire.outputs else call.wire
                body, answer_head = body_of(wire, runtime, id, outputs, at, stop)
        except InputError as lacking:  # it was asked for an output that this revision does not have
            outputs, error = None, lacking.message
    if redact or (by_column and outputs is not None):
        request = b""
        if outputs is not None:
            request = kept(runtime.contract.columns(copy.values), copy.rows, redact)
        kind, head = KEPT, -1
        error = UNSAID if error and redact else error
    return Record(
        id, identity.endpoint, identity.revision, identity.model_version, identity.global_id,
        time.time_ns() // 1000, int(took_s * 1e6), 500 if outputs is None else 200, kind, head,
        request, answer_head, body, error, SHADOW, copy.share, unit_of(call.key), copy.of,
        "", copy.parts,
    )  # fmt: skip
