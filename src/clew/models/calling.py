"""One call of this room's work in a worker: waited for, cancelled, tried again where it was killed.

Knows compute; nothing of what the call does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clew.base.errors import NotReady
from clew.compute import Call, Compute, Outcome

_POLL_S = 0.5


class Working:
    """What the parts of :class:`clew.models.Models` that have work done build on."""

    def _work(
        self,
        entry: str,
        payload: dict[str, Any],
        label: str,
        cancelled: Callable[[], bool],
        snapshot_dir: str | Path = "",
        timeout_s: float | None = None,
        program: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        raise NotImplementedError


def value_of(compute: Compute, call: Call, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """What a call gives; once more where its worker was killed once, or machines were lost.

    Raises what the call raised; Conflict ``call.cancelled`` where ``cancelled`` says so.
    """
    outcome = _outcome(compute, call, cancelled)
    again = {"died": 1, "lost": 5}
    while outcome.error is not None and again.get(outcome.error.kind, 0):
        again[outcome.error.kind] -= 1
        outcome = _outcome(compute, call, cancelled)
    found = outcome.unwrap()
    assert isinstance(found, dict)
    return found


def _outcome(compute: Compute, call: Call, cancelled: Callable[[], bool]) -> Outcome:
    handle = compute.submit(call)
    while True:
        try:
            return handle.result(_POLL_S)
        except NotReady as wait:
            if wait.code != "call.running":
                raise
            if cancelled():
                handle.cancel()
