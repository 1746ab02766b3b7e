"""HTTP/2 on asyncio, as gRPC asks it: streams, flow control, limits, and an end without loss.

Knows nothing of gRPC, models or paths: an ``App`` is told of streams and answers them. Frames,
states and header compression are h2's; what a client may cost, and when a connection ends, is
decided here. What goes out in one turn of the loop goes out in one write.
"""
# ruff: noqa: D102 - the callbacks promise what asyncio.Protocol says they do

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from clew.serving.streams import STREAM_BYTES, Header, Headers, Stream

STREAMS = 1024
"""Requests of one connection that may be under way."""
WINDOW_BYTES = 8 << 20
"""How much may come on a connection before it is told that it was taken."""
BLOCK_BYTES = 64 << 10
FRAME_BYTES = 1 << 20
"""The largest frame that is sent, whatever the client takes."""
IDLE_FRAMES = 10_000
"""Frames that ask for nothing, between two requests: more of them is no client."""
TOIL = 10_000
"""What settings may cost between two looks at a connection: a unit, and one for 8 streams."""
GIVEN_UP = 2 * STREAMS
"""Requests that a client may give up beyond those that it lets be answered; forgotten by half at
each look.
"""
HELD_BYTES = 256 << 20
"""What is kept for one connection, of requests and of answers that it does not take: then no more
comes in.
"""
PREFACE_S = 20.0
LINGER_S = 2.0
SILENT_S, HEARD_S = 0.5, 5.0
"""At the end: how long a connection on which nothing was asked is kept, and how long a client may
take to hear of it.
"""
IDLE_S = 60.0
"""How long a connection may ask nothing where there is no room for others; it may come again."""
STALL_S = 60.0
"""How long half a window of a request may take, and a client may take nothing of an answer (while
this ends: ``HEARD_S``).
"""
LAST_STREAM = (1 << 31) - 1
_WINDOW = 65535
_LAST_CALL = b"clewgoes"
_log = logging.getLogger("clew.serving")
T = TypeVar("T")


class App(Protocol[T]):
    """What is asked. All on the loop; what it raises costs the stream, not the connection."""

    def read(self, headers: list[Header]) -> T:
        """What headers mean."""
        ...

    def begin(self, stream: Stream[T]) -> None:
        """A request has begun: its ``asked`` is known. May set ``taken``, ``ended``, ``gone``."""
        ...


class Broken(Exception):
    """A client asks for more than it may; the connection ends with this code."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.code = ErrorCodes.ENHANCE_YOUR_CALM


def _new_frames() -> H2Connection:
    """The server's side of a connection, which has said what it takes."""
    found = H2Connection(
        H2Configuration(
            client_side=False,
            validate_outbound_headers=False,  # they are our own
            normalize_outbound_headers=False,
            normalize_inbound_headers=False,
        )
    )
    # A client that says GOAWAY wants what it has asked answered all the same (RFC 9113 §6.8); h2
    # takes that for the end of all.
    found._frame_dispatch_table[GoAwayFrame] = lambda _: ([], [])
    limits = {
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_BYTES,
              SettingCodes.MAX_HEADER_LIST_SIZE: BLOCK_BYTES}  # fmt: skip
    told = {**limits, SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS}
    found.local_settings = Settings(client=False, initial_values=told)
    found.initiate_connection()
    # What is beyond is refused here, one by one; h2 would end the connection.
    found.local_settings = Settings(client=False, initial_values=limits)
    found.increment_flow_control_window(WINDOW_BYTES - _WINDOW)
    return found


class Connection(asyncio.Protocol, Generic[T]):
    """One client."""

    def __init__(self, server: Http2Server[T]) -> None:
        self._server = server
        self._loop = server.loop
        self.frames = _new_frames()
        self._begun = self._broken = self._scheduled = False
        self._streams: dict[int, Stream[T]] = {}
        self._most: int | None = None  # the last stream that is answered, once it was told
        self._taken = self._idle = self._toil = self._given_up = 0
        self.held = self.coming = self.untaken = 0
        self.blocked: dict[int, Stream[Any]] = {}
        self._since_s = self.now_s = self._sent_s = self._quiet_s = time.monotonic()
        self._stalled = False

    # transport ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._server.admit(self):
            self._broken = True
            self._transport.abort()  # before the settings: a client waits before it comes again
            return
        self._soon()
        if self._server.draining:
            self.leave()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._broken = True
        self._server.connections.discard(self)
        for stream in list(self._streams.values()):
            gone = stream.gone
            self._drop(stream)
            self._guard(stream, gone)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            found = self.frames.receive_data(data)
            if found:
                self._begun = True
            else:
                self._wait_for_more()
            for event in found:
                act = _ACTS.get(type(event))
                if act is not None:
                    act(self, event)
        except (Broken, ProtocolError) as wrong:
            self._break(wrong)
        else:
            self._soon()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._stalled, self._since_s = True, time.monotonic()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled = False
        if not self._broken:
            self._transport.resume_reading()

    # what comes ---------------------------------------------------------------------------------

    def _wait_for_more(self, _: object = None) -> None:
        """Nothing was asked for by a frame."""
        self._idle += 1
        if self._idle > IDLE_FRAMES:
            raise Broken("too many frames that ask for nothing")

    def _on_request(self, event: events.RequestReceived) -> None:
        id = event.stream_id
        if (self._most is not None and id > self._most) or self._has_enough():
            self._wait_for_more()
            self._reset(id, ErrorCodes.REFUSED_STREAM)
            return
        asked = self._server.app.read(event.headers)
        stream = self._streams[id] = Stream(self, id, asked)
        self._guard(stream, self._server.app.begin, stream)

    def _has_enough(self) -> bool:
        return len(self._streams) >= STREAMS or self.untaken > HELD_BYTES

    def _on_data(self, event: events.DataReceived) -> None:
        size = event.flow_controlled_length
        self._taken += size
        self._give()
        stream = self._streams.get(event.stream_id)
        if stream is None:
            self._wait_for_more()  # it was answered or given up meanwhile
            return
        if padding := size - len(event.data):
            stream.took(padding)
        if not event.data:
            self._wait_for_more()
            return
        self._idle = 0
        stream.hold(len(event.data))
        if self.coming > HELD_BYTES:  # others need what this one would take
            self.reset(stream, ErrorCodes.ENHANCE_YOUR_CALM)
            return
        self._guard(stream, stream.taken, event.data)

    def _give(self) -> None:
        """Let as much more come as came, unless too much is kept."""
        # A quarter: h2 itself gives back what came for streams that are closed, by halves.
        if self._taken >= WINDOW_BYTES // 4 and self.held <= HELD_BYTES and not self._broken:
            taken, self._taken = self._taken, 0
            self.frames.increment_flow_control_window(taken)
            self._soon()

    def _on_end(self, event: events.StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.whole()
            self._guard(stream, stream.ended)

    def _on_reset(self, event: events.StreamReset) -> None:
        self._wait_for_more()
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._given_up += 1
            if self._given_up > GIVEN_UP:
                raise Broken("too many requests are given up")
            gone = stream.gone
            self._drop(stream)
            self._guard(stream, gone)

    def _on_settings(self, event: events.RemoteSettingsChanged) -> None:
        self._wait_for_more()
        self._toil += 1 + len(self.frames.streams) // 8
        if self._toil > TOIL:
            raise Broken("the settings change too often")
        if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
            for stream in list(self._streams.values()):
                if stream.waiting_bytes:
                    stream.pump()

    def _on_pong(self, event: events.PingAckReceived) -> None:
        self._wait_for_more()
        if event.ping_data == _LAST_CALL and self._most == LAST_STREAM:
            self._most = self.frames.highest_inbound_stream_id
            self._say_goaway(self._most)

    def _on_window(self, event: events.WindowUpdated) -> None:
        self._wait_for_more()
        if event.stream_id:
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.pump()
            return
        while self.blocked and not self.is_full:
            stream = self.blocked.pop(next(iter(self.blocked)))
            stream.pump()

    def _guard(self, stream: Stream[T], act: Callable[..., None], *given: object) -> None:
        try:
            act(*given)
        except Exception:  # noqa: BLE001 - a bug costs one answer, not the connection
            _log.exception("a request over HTTP/2 could not be taken")
            self.reset(stream, ErrorCodes.INTERNAL_ERROR)

    # what goes ----------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether the client takes nothing more now, of any stream."""
        window: int = self.frames.outbound_flow_control_window
        return window <= 0

    def room(self, id: int) -> int:
        """How much of an answer the client takes now in one frame."""
        try:
            window: int = self.frames.local_flow_control_window(id)
        except ProtocolError:  # it has given it up, which is heard of next
            return 0
        most: int = self.frames.max_outbound_frame_size
        return min(window, most, FRAME_BYTES)

    def more(self, id: int, size_bytes: int) -> None:
        """So much more of a request may come."""
        with contextlib.suppress(ProtocolError, KeyError):  # as above
            self.frames.increment_flow_control_window(size_bytes, id)
            self._soon()

    def send_headers(self, id: int, headers: Headers, *, end: bool = False) -> None:
        """Headers go out at the next turn of the loop, or trailers."""
        with contextlib.suppress(ProtocolError):
            self.frames.send_headers(id, headers, end_stream=end)
            self._soon()

    def send_data(self, id: int, payload: bytes) -> None:
        """A part of an answer, as large as the client takes now."""
        self._idle = 0
        self._sent_s = self.now_s
        with contextlib.suppress(ProtocolError):
            self.frames.send_data(id, payload)
            self._soon()

    def done(self, stream: Stream[T]) -> None:
        """A stream is answered; what the client may still send of it is not wanted (§8.1)."""
        self._idle = 0
        if self._given_up:
            self._given_up -= 1
        if not stream.half:
            self._reset(stream.id, ErrorCodes.NO_ERROR)
        self._drop(stream)
        self._soon()

    def reset(self, stream: Stream[T], code: ErrorCodes) -> None:
        """End a stream without an answer."""
        if not stream.closed:
            self._reset(stream.id, code)
            self._drop(stream)

    def _reset(self, id: int, code: ErrorCodes) -> None:
        with contextlib.suppress(ProtocolError):
            self.frames.reset_stream(id, code)
            self._soon()

    def _drop(self, stream: Stream[T]) -> None:
        stream.leave()
        del self._streams[stream.id]
        self._quiet_s = self.now_s
        self.blocked.pop(stream.id, None)
        self._give()

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        out = self.frames.data_to_send()
        if self._transport.is_closing():
            return
        if out:
            self._transport.write(out)
        if self._most is not None and self._most < LAST_STREAM and not self._streams:
            self._transport.close()

    def _break(self, wrong: Broken | ProtocolError) -> None:
        self._broken = True
        if isinstance(wrong, Broken):
            self.frames.close_connection(wrong.code, str(wrong).encode())
        self._flush()
        if self._transport.is_closing() or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()  # what it still sends must not reset what it is told
        self._loop.call_later(LINGER_S, self._transport.abort)

    # the end ------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Have the client go elsewhere. What it sends until it knows is answered (§6.8): first it
        is told that all streams are taken, and the last one only when it has heard of that.
        """
        if self._most is None and not self._broken:
            self._most = LAST_STREAM
            self._say_goaway(LAST_STREAM)
            self.frames.ping(_LAST_CALL)
            self._soon()

    def _say_goaway(self, last: int) -> None:
        """Past h2, to which a GOAWAY is the end of all; for us it is the beginning of the end."""
        self._flush()
        if not self._transport.is_closing():
            said = GoAwayFrame(0, last_stream_id=last, error_code=ErrorCodes.NO_ERROR)
            self._transport.write(said.serialize())
        self._soon()

    def settle(self, waited_s: float) -> None:
        """Close what has nothing to be answered and does not say that it has heard of the end."""
        patience_s = HEARD_S if self._begun else SILENT_S
        if not self._streams and waited_s > patience_s:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    def sweep(self, now_s: float) -> None:
        """Close what says nothing, or takes nothing; end streams on which that is so."""
        self.now_s = now_s
        self._toil, self._given_up = 0, self._given_up // 2
        silent_s = HEARD_S if self._server.draining else STALL_S
        for stream in list(self._streams.values()):
            if self.held > HELD_BYTES and not stream.half:  # it waits for us
                stream.moved_s = stream.heard_s = now_s
            elif stream.stuck(now_s - STALL_S, now_s - silent_s, self._sent_s):
                gone = stream.gone
                self.reset(stream, ErrorCodes.CANCEL)
                self._guard(stream, gone)
        if not self._streams:
            self._sweep_idle(now_s - self._quiet_s)
        age_s = now_s - self._since_s
        if (not self._begun and age_s > PREFACE_S) or (self._stalled and age_s > STALL_S):
            self._transport.abort()

    def _sweep_idle(self, quiet_s: float) -> None:
        if self._server.is_full and quiet_s > IDLE_S:
            self.leave()
        if self._most is not None and quiet_s > IDLE_S + HEARD_S:
            self._transport.close()  # it does not say that it has heard


_ACTS: dict[type[events.Event], Callable[[Connection[Any], Any], None]] = {
    events.RequestReceived: Connection._on_request,
    events.DataReceived: Connection._on_data,
    events.StreamEnded: Connection._on_end,
    events.StreamReset: Connection._on_reset,
    events.RemoteSettingsChanged: Connection._on_settings,
    events.PingAckReceived: Connection._on_pong,
    events.WindowUpdated: Connection._on_window,
    events.PingReceived: Connection._wait_for_more,
    events.SettingsAcknowledged: Connection._wait_for_more,
    events.PriorityUpdated: Connection._wait_for_more,
    events.UnknownFrameReceived: Connection._wait_for_more,
}
"""Trailers of a request say nothing to us: what counts is that they end it."""


class Http2Server(Generic[T]):
    """Serves an app on a listening socket. Belongs to one event loop.

    ``most``: connections at a time; more are refused (``refused`` counts them). ``tls``: None is
    cleartext with prior knowledge (§3.3).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app: App[T],
        *,
        most: int = 1000,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.loop, self.app = loop, app
        self.connections: set[Connection[T]] = set()
        self.refused = 0
        self.draining = False
        self._most, self._tls = most, tls

    @property
    def is_full(self) -> bool:
        """Whether there is no room for one more connection."""
        return len(self.connections) >= self._most

    def admit(self, connection: Connection[T]) -> bool:
        """Whether there is room for one more."""
        if self.is_full:
            if not self.refused:
                _log.warning("%d connections of gRPC are open: more are refused", self._most)
            self.refused += 1
            return False
        self.connections.add(connection)
        return True

    async def start(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        self._listening = await self.loop.create_server(
            lambda: Connection(self),
            sock=listener,
            backlog=4096,
            ssl=self._tls,
            ssl_handshake_timeout=PREFACE_S if self._tls else None,
        )
        self._sweeper = asyncio.create_task(self._sweep())

    async def drain(self, *, limit_s: float = 30.0) -> None:
        """Accept no more, answer everything that was asked, and close.

        Every client is told before it is closed, so no request is on its way to a closed door.
        """
        self.draining = True
        self._listening.close()
        for connection in list(self.connections):
            connection.leave()
        began_s = time.monotonic()
        while self.connections and (waited_s := time.monotonic() - began_s) < limit_s:
            for connection in list(self.connections):
                connection.settle(waited_s)
            await asyncio.sleep(0.01)
        self._sweeper.cancel()
        for connection in list(self.connections):
            connection.abort()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now_s = time.monotonic()
            for connection in list(self.connections):
                connection.sweep(now_s)
