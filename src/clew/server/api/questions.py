"""Routes that answer questions, and the two that wait: events and wait.

Thin over the verbs. Waiting holds a connection and, for a second at a time, a thread of its own
pool, so that those who wait never keep others from being answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
import msgspec
from fastapi import Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from msgspec.structs import replace

from clew.base.errors import ClewError, Invalid, NotReady
from clew.base.ids import ID_LENGTH
from clew.base.records import ChangeStatus, Event, Explanation, Status
from clew.server.call import Asked, Call
from clew.server.origin import seen_from
from clew.server.shapes import Routes

router = Routes(tags=["questions"])
_LAST_SEQ = 2**63 - 1
_SLICE_S = 1.0
_LONGEST_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Waited:
    """Whether nothing is left to run."""

    idle: bool


@router.get("/status", response_model=Status)
def status(call: Asked, request: Request) -> Response:
    """The workspace at a glance."""
    found = call.verbs.status()
    seen = tuple(seen_from(request, one) for one in found.endpoints)
    return call.reply(replace(found, endpoints=seen))


@router.get("/changes/{global_id}", response_model=ChangeStatus)
def change(call: Asked, global_id: str) -> Response:
    """All that one change caused."""
    return call.reply(call.verbs.change(global_id))


@router.get("/why", response_model=Explanation)
def why(call: Asked, subject: str, down: bool = False) -> Response:
    """Where a thing came from (or, with `down`, what came from it). Any id, or an address."""
    return call.reply(call.verbs.why(subject, down=down))


@router.get("/events", response_model=list[Event])
async def events(
    call: Asked,
    after: Annotated[int | None, Query(ge=0, le=_LAST_SEQ)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    follow: bool = False,
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """Facts in order, from sequence number `after` (exclusive).

    With `follow=1` they come as server-sent events as they happen, without end; then a missing
    `after` means from now, and `Last-Event-ID` resumes.
    """
    if not follow:
        found = await anyio.to_thread.run_sync(
            lambda: list(call.verbs.events(after=after or 0, limit=limit))
        )
        return call.reply(found)
    start = await _start(call, after, last_event_id)
    return _sse(_followed(call, start))


@router.get("/wait", response_model=Waited)
async def wait(
    call: Asked,
    global_id: str | None = None,
    timeout_s: Annotated[float, Query(ge=0)] = 30.0,
    watch: bool = False,
    after: Annotated[int | None, Query(ge=0, le=_LAST_SEQ)] = None,
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """Return when nothing is left to run (for one change, or at all), or after `timeout_s`.

    Without `watch` the answer comes within 60 s: ask again while `idle` is false. With `watch=1`
    the events (of the change) until then come as server-sent events, the last one named `idle` or
    `timeout`; there, a timeout of 0 means never.
    """
    if not watch:
        idle = await _wait(call, global_id, min(timeout_s, _LONGEST_S))
        return call.reply(Waited(idle=idle))
    full = global_id
    if full and len(full) != ID_LENGTH:  # of a whole id the waiting itself says if there is none
        full = (await anyio.to_thread.run_sync(call.verbs.change, full)).global_id
    start = await _start(call, after, last_event_id)
    return _sse(_watched(call, full, start, timeout_s or float("inf")))


async def _start(call: Call, after: int | None, last_event_id: str) -> int:
    if last_event_id.isascii() and last_event_id.isdigit():
        if int(last_event_id[:20]) > _LAST_SEQ:
            raise Invalid(
                "request.invalid",
                f"There is no event {last_event_id[:40]}.",
                hint="Send the last id that was received, or no Last-Event-ID.",
            )
        return int(last_event_id)
    return await call.tail.last() if after is None else after


async def _wait(call: Call, global_id: str | None, timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while True:
        left = end - time.monotonic()
        slice_s = max(0.01, min(_SLICE_S, left))
        if await anyio.to_thread.run_sync(
            _wait_briefly, call, global_id, slice_s, limiter=call.waiters, abandon_on_cancel=True
        ):
            return True
        if left <= slice_s:
            return False


def _wait_briefly(call: Call, global_id: str | None, slice_s: float) -> bool:
    try:
        call.verbs.wait(global_id, timeout_s=slice_s)
    except NotReady as error:
        if error.code == "wait.timeout":
            return False
        raise
    return True


async def _followed(call: Call, after: int) -> AsyncIterator[bytes]:
    yield b": following\n\n"
    async for event in call.tail.follow(after):
        yield _line(event)


async def _watched(
    call: Call, global_id: str | None, after: int, timeout_s: float
) -> AsyncIterator[bytes]:
    """Events while a wait goes on in a task beside, then what is left, then how it ended."""
    yield b": watching\n\n"
    at = after
    waiting = asyncio.create_task(_wait(call, global_id, timeout_s))
    try:
        async for event in _until(waiting, call.tail.follow(after)):
            at = at if event is None else event.seq
            if event is None or _concerns(event, global_id):
                yield _line(event)
        if not waiting.done():
            return  # the server closes: the caller asks the next one
        ending = _ending(waiting)
        while left := await call.tail.after(at):
            at = left[-1].seq
            yield b"".join(_line(event) for event in left if _concerns(event, global_id))
        yield ending
    finally:
        waiting.cancel()


def _concerns(event: Event, global_id: str | None) -> bool:
    return global_id is None or event.global_id == global_id


async def _until(
    waiting: asyncio.Task[bool], events: AsyncGenerator[Event | None, None]
) -> AsyncIterator[Event | None]:
    async with aclosing(events):
        while not waiting.done():
            coming = asyncio.create_task(_next(events))
            await asyncio.wait({waiting, coming}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                await asyncio.wait({coming})
                return
            try:
                yield coming.result()
            except StopAsyncIteration:
                return


async def _next(events: AsyncGenerator[Event | None, None]) -> Event | None:
    return await anext(events)


def _ending(waiting: asyncio.Task[bool]) -> bytes:
    try:
        return b"event: idle\ndata: {}\n\n" if waiting.result() else b"event: timeout\ndata: {}\n\n"
    except ClewError as error:
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(error.to_wire())


def _line(event: Event | None) -> bytes:
    if event is None:
        return b": still here\n\n"
    return b"id: %d\ndata: %b\n\n" % (event.seq, msgspec.json.encode(event))


def _sse(stream: AsyncIterator[bytes]) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
