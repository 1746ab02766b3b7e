"""Routes of triggers: how far each is, what it did, what it would have done.

Thin over the verbs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import Request
from fastapi.responses import Response

from clew.base.records.feeds import FiringInfo, Replayed, TriggerInfo
from clew.server.api.data import TAR_BODY
from clew.server.api.feeds import Pause
from clew.server.api.work import with_project
from clew.server.call import Asked, Limit
from clew.server.shapes import Routes
from clew.server.upload import Upload

router = Routes(tags=["triggers"])


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which trigger is to fire, and why."""

    name: str
    reason: str = ""


@router.get("/triggers", response_model=list[TriggerInfo])
def triggers(call: Asked) -> Response:
    """All triggers, with how far each is."""
    return call.reply(call.verbs.triggers())


@router.get("/triggers/{name:path}", response_model=TriggerInfo)
def trigger(call: Asked, name: str) -> Response:
    """One trigger."""
    return call.reply(call.verbs.trigger(name))


@router.get("/firings", response_model=list[FiringInfo])
def firings(call: Asked, trigger: str | None = None, limit: Limit = 100) -> Response:
    """Firings, newest first, of one trigger or all."""
    return call.reply(call.verbs.firings(trigger, limit=limit))


@router.post("/triggers/pause", response_model=TriggerInfo)
def pause_trigger(call: Asked, wish: Pause) -> Response:
    """Let it look at nothing; `paused: false` resumes it."""
    return call.reply(call.verbs.pause_trigger(wish.name, paused=wish.paused))


@router.post("/triggers/fire", response_model=FiringInfo)
def fire_trigger(call: Asked, wish: Wish) -> Response:
    """Set it off by hand."""
    return call.reply(call.verbs.fire_trigger(wish.name, reason=wish.reason))


@router.get("/backtest", response_model=list[Replayed])
def backtest(
    call: Asked, trigger: str, since: datetime | None = None, until: datetime | None = None
) -> Response:
    """When a trigger would have fired over history, against when it did."""
    return call.reply(call.verbs.backtest(trigger, since=since, until=until))


@router.post("/backtest", response_model=list[Replayed], openapi_extra=TAR_BODY)
async def backtest_file(
    request: Request,
    call: Asked,
    entry: str,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Response:
    """The same for every trigger that a file writes; the body is the project, as tar."""

    def act(sent: Upload) -> list[Replayed]:
        return call.verbs.backtest_files(sent.files, entry, since=since, until=until)

    return call.reply(await with_project(request, call, entry, act))
