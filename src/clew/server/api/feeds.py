"""Routes of sources that commit by themselves, and the door of webhooks.

Thin over the verbs. A webhook shows who it is by its own secret; the guard lets it pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio.to_thread
from fastapi import Request
from fastapi.responses import Response

from clew.base.errors import Invalid
from clew.base.records import Commit
from clew.base.records.feeds import Received, SourceInfo
from clew.server.call import Asked
from clew.server.guard import knows_token
from clew.server.shapes import Routes

router = Routes(tags=["sources"])
MOST_BYTES = 100_000_000
"""Of any webhook, whatever its own limit."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """Which source."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Which source is to be paused, or resumed."""

    name: str
    paused: bool = True


@router.get("/sources", response_model=list[SourceInfo])
def sources(call: Asked) -> Response:
    """All sources that commit by themselves, by name."""
    return call.reply(call.verbs.sources())


@router.get("/sources/{name:path}", response_model=SourceInfo)
def source(call: Asked, name: str) -> Response:
    """One of them."""
    return call.reply(call.verbs.source(name))


@router.post("/sources/pause", response_model=SourceInfo)
def pause_source(call: Asked, wish: Pause) -> Response:
    """Read it no more; `paused: false` resumes it."""
    return call.reply(call.verbs.pause_source(wish.name, paused=wish.paused))


@router.post("/sources/poll", response_model=list[Commit])
def poll_source(call: Asked, wish: Named) -> Response:
    """Read it now, until nothing more is there."""
    return call.reply(call.verbs.poll_source(wish.name))


@router.post("/hooks/{name:path}", response_model=Received, status_code=202)
async def hook(request: Request, call: Asked, name: str) -> Response:
    """Post to a webhook: the body is kept as a file. Answered when it is durable."""
    body = await _body(request)
    trusted = knows_token(request, request.app.state.token)
    headers = dict(request.headers.items())

    def act() -> Received:
        return call.verbs.receive(name, body, headers, trusted=trusted)

    answer = call.reply(await anyio.to_thread.run_sync(act))
    answer.status_code = 202
    return answer


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise Invalid(
                "hook.too_large",
                f"The body has more than {MOST_BYTES:,} bytes.",
                hint="Commit what is larger: clew put",
            )
        parts.append(part)
    return b"".join(parts)
