"""Routes that ask whether results can be trusted.

Thin over the verbs; knows nothing of how they are made again.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.responses import Response

from clew.base.records import Job
from clew.base.records.knowing import Reproduction, Verification
from clew.server.call import Asked
from clew.server.shapes import Routes

router = Routes(tags=["work"])


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Which datums to run again: so many of a step (of all without one), drawn by a seed."""

    step: str | None = None
    sample: int = 20
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """The job to repeat, or the commit that it made."""

    ref: str


@router.post("/pipelines/{pipeline}/verify", response_model=Verification)
def verify(call: Asked, pipeline: str, what: Drawing) -> Response:
    """Run some datums that would be skipped, and say which do not give what they gave."""
    found = call.verbs.verify(pipeline, what.step, sample=what.sample, seed=what.seed)
    return call.reply(found)


@router.post("/reproduce", response_model=Reproduction)
def reproduce(call: Asked, what: Repetition) -> Response:
    """Repeat a job from the code, data and settings of then, in a scratch place."""
    return call.reply(call.verbs.reproduce(what.ref))


@dataclass(frozen=True, kw_only=True)
class Accepting:
    """Whose change of code is accepted (all steps without one), and why."""

    step: str | None = None
    reason: str = ""
    environment: bool = False
    undo: bool = False


@router.post("/pipelines/{pipeline}/accept", response_model=list[Job])
def accept(call: Asked, pipeline: str, what: Accepting) -> Response:
    """Say that the code of now gives what that of the last good job gave: its results stay."""
    jobs = call.verbs.accept(
        pipeline, what.step, reason=what.reason, environment=what.environment, undo=what.undo
    )
    return call.reply(jobs)
