"""The verbs that ask whether results can be trusted, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from urllib.parse import quote

from clew.base.records import Job
from clew.base.records.knowing import Reproduction, Verification
from clew.client.wire import Wire


class RemoteKnowing:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def verify(
        self, pipeline: str, step: str | None = None, *, sample: int = 20, seed: int = 0
    ) -> Verification:
        """Run some datums that would be skipped, and say which do not give what they gave."""
        body = {"step": step, "sample": sample, "seed": seed}
        path = f"/pipelines/{quote(pipeline, safe='')}/verify"
        return self._wire.post(path, Verification, body)

    def reproduce(self, ref: str) -> Reproduction:
        """Repeat a job (or the one that made a commit) from the code, data and settings of then."""
        return self._wire.post("/reproduce", Reproduction, {"ref": ref})

    def accept(
        self,
        pipeline: str,
        step: str | None = None,
        *,
        reason: str,
        environment: bool = False,
        undo: bool = False,
    ) -> list[Job]:
        """Say that the code of now gives what that of the last good job gave: its results stay."""
        body = {"step": step, "reason": reason, "environment": environment, "undo": undo}
        path = f"/pipelines/{quote(pipeline, safe='')}/accept"
        return self._wire.post(path, list[Job], body)
