"""Routes for work that is under way: pause, resume, cancel, retry, restart, logs.

Thin over the verbs; knows nothing of how jobs obey.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import Query
from fastapi.responses import Response

from clew.base.records import Job, LogPage
from clew.server.call import Asked, Limit
from clew.server.shapes import Routes

router = Routes(tags=["work"])

Seconds = Annotated[float, Query(ge=0, le=30, description="How long to wait for something new.")]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A job, a change, a pipeline, or `pipeline/step`."""

    subject: str


@dataclass(frozen=True, kw_only=True)
class Again:
    """A job or a change, and the priority of what runs again (that of before without one)."""

    subject: str
    priority: int | None = None


@router.post("/control/cancel", response_model=list[Job])
def cancel_all(call: Asked, wish: Subject) -> Response:
    """Stop everything of a subject that has not ended."""
    return call.reply(call.verbs.cancel_all(wish.subject))


@router.post("/control/pause", response_model=list[Job])
def pause(call: Asked, wish: Subject) -> Response:
    """Let nothing of a subject begin; what runs comes to the end of its datums."""
    return call.reply(call.verbs.pause(wish.subject))


@router.post("/control/resume", response_model=list[Job])
def resume(call: Asked, wish: Subject) -> Response:
    """Let what was paused go on."""
    return call.reply(call.verbs.resume(wish.subject))


@router.post("/control/retry", response_model=list[Job])
def retry(call: Asked, wish: Again) -> Response:
    """Run what failed of a job or a change once more, and what follows."""
    return call.reply(call.verbs.retry(wish.subject, priority=wish.priority))


@router.post("/datums/{datum_id}/restart", response_model=Job)
def restart(call: Asked, datum_id: str) -> Response:
    """Run one datum once more."""
    return call.reply(call.verbs.restart(datum_id))


@router.get("/jobs/{job_id}/logs", response_model=LogPage)
async def logs(
    call: Asked,
    job_id: str,
    datum: str = "",
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Limit = 1000,
    wait_s: Seconds = 0,
) -> Response:
    """What was printed in a job, in order; waits for something new where `wait_s` says so."""
    act = partial(call.verbs.logs, job_id, datum=datum, after=after, limit=limit, wait_s=wait_s)
    page = await anyio.to_thread.run_sync(
        act, limiter=call.waiters if wait_s else None, abandon_on_cancel=True
    )
    return call.reply(page)
