"""An answered request as a record of the spool: whole, or by column where some are not kept.

Knows no files and no routes but the settings of one.
"""

from __future__ import annotations

import time
from typing import Any

from clew.serving import protocol
from clew.serving.keeping import UNSAID, kept, unit_of
from clew.serving.runtime import Identity, Runtime
from clew.serving.spool import KEPT, MATRIX, Record, frame


def frame_of(call: Any, answer: Any, identity: Identity, latency_s: float, error: str) -> bytes:
    """The record of a request and its answer, as it goes to the spool."""
    arm, kind, request, head = call.arm, call.kind, call.body, call.head
    body, answer_head = answer.body if answer.status == 200 else b"", answer.head
    if call.redact or call.parts is not None:
        kind, request, body, head, answer_head = KEPT, *without(call, arm.value, answer), -1, -1
        error = UNSAID if error and call.redact else error
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


def without(call: Any, runtime: Runtime, answer: Any) -> tuple[bytes, bytes]:
    """What is kept of a request and of its answer; nothing where it was refused."""
    if answer.status != 200:
        return b"", b""
    redact = call.redact
    inputs = call.told or kept(runtime.contract.columns(call.values), call.rows, redact)
    outputs = protocol.read_outputs(answer.body, None if answer.head < 0 else answer.head)
    return inputs, kept(outputs, call.rows, redact)
