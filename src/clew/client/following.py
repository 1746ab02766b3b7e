"""Waiting on a server, with its events as they happen.

Knows server-sent events and how to take up a stream that broke; nothing of what the events say.
"""

from __future__ import annotations

import threading
import time

import httpx2
import msgspec
from msgspec import Struct

from clew.base.errors import NotReady, Unavailable, from_wire
from clew.base.records import ChangeStatus, Event
from clew.base.verbs import Watcher
from clew.client.wire import Wire

_PATIENCE_S = 15.0
_PAUSE_S = 0.2
_SILENCE_S = 30.0
"""The server says that it is there every 10 s."""
_UNREACHABLE = "server.unreachable"


class _Wait(Struct, kw_only=True):
    """One wait: how far it has seen, when it must end, and since when nobody answers."""

    global_id: str | None
    watch: Watcher | None
    end: float
    seen: int | None
    lost_since: float | None = None


class Follower:
    """Waits; shows no event twice to those who wait one after another.

    A server that goes away for less than 15 s (a restart) is waited for.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._shown = 0
        self._lock = threading.Lock()

    def wait(self, global_id: str | None, watch: Watcher | None, timeout_s: float) -> None:
        """Return when nothing is left to run. Raises NotReady ``wait.timeout``."""
        end = time.monotonic() + timeout_s if timeout_s else float("inf")
        wait = _Wait(global_id=global_id, watch=watch, end=end, seen=None)
        if watch is not None:
            self._show_past(wait, watch)
        while not self._watched(wait):
            self._pause(wait)

    def _show_past(self, wait: _Wait, watch: Watcher) -> None:
        """What a change caused before anybody looked: the server did not wait for that."""
        wait.seen = self._shown or None
        if wait.global_id is None:
            return
        for event in self._wire.get(f"/changes/{wait.global_id}", ChangeStatus).events:
            if event.seq > self._shown:
                self._show(wait, watch, event)

    def _watched(self, wait: _Wait) -> bool:
        """Whether it is over; False where the stream broke and is to be taken up again."""
        left = wait.end - time.monotonic()
        timeout_s = None if left == float("inf") else max(0.01, left)
        try:
            with self._wire.stream(
                "/wait",
                headers={"Accept": "text/event-stream"},
                silence_s=_SILENCE_S,
                global_id=wait.global_id,
                watch=True,
                after=wait.seen,
                timeout_s=timeout_s or 0,
            ) as answer:
                wait.lost_since = None
                return self._read(wait, answer)
        except Unavailable as error:
            if error.code != _UNREACHABLE or self._given_up(wait):
                raise
            return False

    def _read(self, wait: _Wait, answer: httpx2.Response) -> bool:
        for said in httpx2.EventSource(answer):
            if said.event == "idle":
                return True
            if said.event == "timeout":
                raise _timeout(wait.global_id)
            if said.event == "error":
                raise from_wire(msgspec.json.decode(said.data, type=dict[str, str]))
            event = msgspec.json.decode(said.data, type=Event)
            wait.seen = event.seq
            if wait.watch is not None:
                self._show(wait, wait.watch, event)
        return False

    def _show(self, wait: _Wait, watch: Watcher, event: Event) -> None:
        wait.seen = event.seq
        with self._lock:
            self._shown = max(self._shown, event.seq)
        watch(event)

    def _given_up(self, wait: _Wait) -> bool:
        now = time.monotonic()
        if wait.lost_since is None:
            wait.lost_since = now
        return now - wait.lost_since > _PATIENCE_S

    def _pause(self, wait: _Wait) -> None:
        if time.monotonic() > wait.end:
            raise _timeout(wait.global_id)
        time.sleep(_PAUSE_S)


def _timeout(global_id: str | None) -> NotReady:
    what = f"The change {global_id}" if global_id else "The workspace"
    return NotReady(
        "wait.timeout",
        f"{what} still has work to do.",
        hint="Wait longer, or see `clew status`.",
    )
