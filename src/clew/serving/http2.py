"""HTTP/2 on asyncio, as gRPC speaks it: streams, flow control, limits, and an end without loss.

Knows nothing of gRPC, models or paths: an ``App`` is told of streams and answers them. RFC 9113,
cleartext with prior knowledge (§3.3). What goes out in one turn of the loop goes out in one write.
"""
# ruff: noqa: D102 - the callbacks promise what asyncio.Protocol says they do

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

from clew.serving.hpack import Decoder, Header, HpackError
from clew.serving.streams import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INTERNAL_ERROR,
    MOST,
    NO_ERROR,
    PADDED,
    PING,
    PRIORITIZED,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_BYTES,
    WINDOW_UPDATE,
    Broken,
    Stream,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAMS = 1024
"""Requests of one connection that may be under way."""
WINDOW_BYTES = 8 << 20
"""How much may come on a connection before it is told that it was taken."""
BLOCK_BYTES = 64 << 10
IDLE_FRAMES = 10_000
"""Frames that ask for nothing, between two requests: more of them is no client."""
TOIL = 10_000
"""What settings may cost between two looks at a connection: a unit for 8 entries or 8 streams."""
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
STALL_S = 60.0
"""How long half a window of a request may take, and a client may take nothing of an answer (while
this ends: ``HEARD_S``).
"""
_WINDOW = 65535
_LAST_CALL = b"clewgoes"
_log = logging.getLogger("clew.serving")
T = TypeVar("T")


class App(Protocol[T]):
    """What is asked. All on the loop; what it raises costs the stream, not the connection."""

    def read(self, headers: list[Header]) -> T:
        """What headers mean; depends on nothing else, and is not kept from one call to the next."""
        ...

    def begin(self, stream: Stream[T]) -> None:
        """A request has begun: its ``asked`` is known. May set ``taken``, ``ended``, ``gone``."""
        ...


class Connection(asyncio.Protocol, Generic[T]):
    """One client."""

    def __init__(self, server: Http2Server[T]) -> None:
        self._server = server
        self._loop = server.loop
        self._decoder = Decoder(server.app.read)
        self._rest = b""
        self._begun = self._broken = self._scheduled = False
        self._streams: dict[int, Stream[T]] = {}
        self._last = 0
        self._most: int | None = None  # the last stream that is answered, once it was told
        self._block: tuple[int, int, list[bytes], int] | None = None
        self._initial = _WINDOW
        self._taken = self._idle = self._toil = self._given_up = 0
        self.held = self.coming = self.untaken = 0
        self.blocked: dict[int, Stream[Any]] = {}
        self.window, self.frame_bytes = _WINDOW, FRAME_BYTES
        self.out: list[bytes] = []
        self._since_s = self.now_s = self._sent_s = time.monotonic()
        self._stalled = False

    # transport ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.connections.add(self)
        told = ((3, STREAMS), (4, STREAM_BYTES), (6, BLOCK_BYTES))
        self.put(SETTINGS, 0, 0, b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big")
                                          for k, v in told))  # fmt: skip
        self.put(WINDOW_UPDATE, 0, 0, (WINDOW_BYTES - _WINDOW).to_bytes(4, "big"))
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
        if self._rest:
            data = self._rest + data
        at = 0
        try:
            if not self._begun:
                if len(data) < len(PREFACE) and PREFACE.startswith(data):
                    self._rest = data
                    return
                if not data.startswith(PREFACE):
                    raise Broken(PROTOCOL_ERROR, "this is not HTTP/2")
                self._begun, at = True, len(PREFACE)
            at = self._frames(data, at)
        except (Broken, HpackError) as wrong:
            self._break(wrong)
        else:
            self._rest = data[at:]

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._stalled, self._since_s = True, time.monotonic()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled = False
        if not self._broken:
            self._transport.resume_reading()

    # frames in ----------------------------------------------------------------------------------

    def _frames(self, data: bytes, at: int) -> int:
        """Take all whole frames; where the rest begins."""
        end = len(data)
        while end - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if size > FRAME_BYTES:
                raise Broken(FRAME_SIZE_ERROR, "a frame is too large")
            stop = at + 9 + size
            if stop > end:
                break
            kind, flags = data[at + 3], data[at + 4]
            id = int.from_bytes(data[at + 5 : at + 9], "big") & MOST
            self._frame(kind, flags, id, data[at + 9 : stop])
            at = stop
        return at

    def _frame(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        if self._block is not None and kind != CONTINUATION:
            raise Broken(PROTOCOL_ERROR, "a header block is interrupted")
        if kind == DATA:
            self._on_data(flags, id, payload)
        elif kind == HEADERS:
            self._on_headers(flags, id, payload)
        else:
            self._idle += 1
            if self._idle > IDLE_FRAMES:
                raise Broken(ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
            act = _ACTS.get(kind)
            if act is not None:  # what nobody knows is ignored (§4.1)
                act(self, flags, id, payload)

    def _on_data(self, flags: int, id: int, payload: bytes) -> None:
        size = len(payload)
        self._taken += size
        self._give()
        stream = self._streams.get(id)
        if stream is None or stream.half:
            if id > self._last or not id & 1:
                raise Broken(PROTOCOL_ERROR, "data of no stream")
            self._idle += 1
            return  # it was answered or given up meanwhile
        stream.room -= size
        if stream.room < 0:
            self.reset(stream, FLOW_CONTROL_ERROR)
            return
        if flags & PADDED:
            payload = _unpadded(payload)
            stream.took(size - len(payload))
        if payload:
            self._idle = 0
            stream.hold(len(payload))
            if self.coming > HELD_BYTES:  # others need what this one would take
                self.reset(stream, ENHANCE_YOUR_CALM)
                return
            self._guard(stream, stream.taken, payload)
        else:
            self._idle += 1
        if flags & END_STREAM and not stream.closed:
            self._whole(stream)

    def _give(self) -> None:
        """Let as much more come as came, unless too much is kept."""
        if self._taken < WINDOW_BYTES // 2 or self._broken:
            return
        if self.held <= HELD_BYTES:
            self.put(WINDOW_UPDATE, 0, 0, self._taken.to_bytes(4, "big"))
            self._taken = 0

    def _whole(self, stream: Stream[T]) -> None:
        stream.whole()
        self._guard(stream, stream.ended)

    def _on_headers(self, flags: int, id: int, payload: bytes) -> None:
        if not id & 1:
            raise Broken(PROTOCOL_ERROR, "a client's stream has an odd number")
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & PRIORITIZED:
            if len(payload) < 5:
                raise Broken(FRAME_SIZE_ERROR, "a priority is too short")
            payload = payload[5:]
        if flags & END_HEADERS:
            self._open(flags, id, payload)
        else:
            self._block = id, flags, [payload], len(payload)

    def _on_continuation(self, flags: int, id: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != id:
            raise Broken(PROTOCOL_ERROR, "headers go on that never began")
        _, began, parts, size = self._block
        parts.append(payload)
        size += len(payload)
        if size > BLOCK_BYTES:
            raise Broken(ENHANCE_YOUR_CALM, "the headers are too large")
        self._block = id, began, parts, size
        if flags & END_HEADERS:
            self._block = None
            self._open(began, id, b"".join(parts))

    def _open(self, flags: int, id: int, block: bytes) -> None:
        asked = self._decoder.decode(block)  # also of what is refused: blocks build on each other
        if id <= self._last:
            self._trailed(flags, id)
            return
        self._last = id
        if (self._most is not None and id > self._most) or self._is_full():
            self._idle += 1
            self.put(RST_STREAM, 0, id, REFUSED_STREAM.to_bytes(4, "big"))
            return
        stream = Stream(self, id, asked, self._initial)
        self._streams[id] = stream
        self._guard(stream, self._server.app.begin, stream)
        if flags & END_STREAM and not stream.closed:
            self._whole(stream)

    def _is_full(self) -> bool:
        return len(self._streams) >= STREAMS or self.untaken > HELD_BYTES

    def _trailed(self, flags: int, id: int) -> None:
        """Trailers of a request: they end it, and say nothing to us."""
        stream = self._streams.get(id)
        if stream is None or stream.half:
            return
        if not flags & END_STREAM:
            raise Broken(PROTOCOL_ERROR, "headers twice on a stream")
        self._whole(stream)

    def _on_reset(self, _: int, id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(FRAME_SIZE_ERROR, "a reset has 4 bytes")
        if id > self._last or not id:
            raise Broken(PROTOCOL_ERROR, "a reset of no stream")
        stream = self._streams.get(id)
        if stream is not None:
            self._given_up += 1
            if self._given_up > GIVEN_UP:
                raise Broken(ENHANCE_YOUR_CALM, "too many requests are given up")
            gone = stream.gone
            self._drop(stream)
            self._guard(stream, gone)

    def _on_settings(self, flags: int, _: int, payload: bytes) -> None:
        if flags & ACK:
            return
        if len(payload) % 6:
            raise Broken(FRAME_SIZE_ERROR, "settings have 6 bytes each")
        told: dict[int, int] = {}  # the last of each is in force (§6.5.3)
        for at in range(0, len(payload), 6):
            name = int.from_bytes(payload[at : at + 2], "big")
            told[name] = int.from_bytes(payload[at + 2 : at + 6], "big")
        self._toil += 1 + len(payload) // 48 + len(self._streams) // 8
        if self._toil > TOIL:
            raise Broken(ENHANCE_YOUR_CALM, "the settings change too often")
        if 5 in told:
            self.frame_bytes = min(max(told[5], FRAME_BYTES), 1 << 20)
        if 4 in told:
            if told[4] > MOST:
                raise Broken(FLOW_CONTROL_ERROR, "a window is too large")
            more, self._initial = told[4] - self._initial, told[4]
            for stream in list(self._streams.values()) if more else ():
                stream.widen(more)
                if stream.waiting_bytes:
                    stream.pump()
        self.put(SETTINGS, ACK, 0, b"")

    def _on_ping(self, flags: int, _: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Broken(FRAME_SIZE_ERROR, "a ping has 8 bytes")
        if not flags & ACK:
            self.put(PING, ACK, 0, payload)
        elif payload == _LAST_CALL and self._most == MOST:
            self._last_told()

    def _on_window(self, _: int, id: int, payload: bytes) -> None:
        more = int.from_bytes(payload, "big") & MOST
        if len(payload) != 4 or not more:
            raise Broken(PROTOCOL_ERROR, "a window grows by a number of 4 bytes")
        if id:
            stream = self._streams.get(id)
            if stream is not None:
                stream.widen(more)
                stream.pump()
            return
        self.window += more
        if self.window > MOST:
            raise Broken(FLOW_CONTROL_ERROR, "a window is too large")
        while self.blocked and self.window > 0:
            stream = self.blocked.pop(next(iter(self.blocked)))
            stream.pump()

    def _on_push(self, *_: object) -> None:
        raise Broken(PROTOCOL_ERROR, "a client pushes nothing")

    def _on_goaway(self, *_: object) -> None:
        """The client opens no more streams; it closes when it has its answers."""

    def _guard(self, stream: Stream[T], act: Callable[..., None], *given: object) -> None:
        try:
            act(*given)
        except Broken:
            raise
        except Exception:  # noqa: BLE001 - a bug costs one answer, not the connection
            _log.exception("a request over HTTP/2 could not be taken")
            self.reset(stream, INTERNAL_ERROR)

    # frames out ---------------------------------------------------------------------------------

    def put(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        """A frame goes out at the next turn of the loop."""
        self.out += (
            len(payload).to_bytes(3, "big"), bytes((kind, flags)), id.to_bytes(4, "big"), payload
        )  # fmt: skip
        self._soon()

    def send_data(self, id: int, payload: bytes) -> None:
        """A part of an answer, as large as the client takes now."""
        self._idle = 0
        self._sent_s = self.now_s
        self.window -= len(payload)
        self.put(DATA, 0, id, payload)

    def done(self, stream: Stream[T]) -> None:
        """A stream is answered; what the client may still send of it is not wanted (§8.1)."""
        self._idle = 0
        if self._given_up:
            self._given_up -= 1
        if not stream.half:
            self.put(RST_STREAM, 0, stream.id, NO_ERROR.to_bytes(4, "big"))
        self._drop(stream)
        self._soon()

    def reset(self, stream: Stream[T], code: int) -> None:
        """End a stream without an answer."""
        if not stream.closed:
            self.put(RST_STREAM, 0, stream.id, code.to_bytes(4, "big"))
            self._drop(stream)

    def _drop(self, stream: Stream[T]) -> None:
        stream.leave()
        del self._streams[stream.id]
        self.blocked.pop(stream.id, None)
        self._give()

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        out, self.out = self.out, []
        if self._transport.is_closing():
            return
        if out:
            self._transport.write(b"".join(out))
        if self._most is not None and self._most < MOST and not self._streams:
            self._transport.close()

    def _break(self, wrong: Broken | HpackError) -> None:
        code = wrong.code if isinstance(wrong, Broken) else COMPRESSION_ERROR
        self._broken = True
        if self._begun:
            said = self._last.to_bytes(4, "big") + code.to_bytes(4, "big") + str(wrong).encode()
            self.put(GOAWAY, 0, 0, said)
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
        if self._most is None:
            self._most = MOST
            self.put(GOAWAY, 0, 0, MOST.to_bytes(4, "big") + NO_ERROR.to_bytes(4, "big"))
            self.put(PING, 0, 0, _LAST_CALL)

    def _last_told(self) -> None:
        self._most = self._last
        self.put(GOAWAY, 0, 0, self._last.to_bytes(4, "big") + NO_ERROR.to_bytes(4, "big"))

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
                self.reset(stream, CANCEL)
                self._guard(stream, gone)
        age_s = now_s - self._since_s
        if (not self._begun and age_s > PREFACE_S) or (self._stalled and age_s > STALL_S):
            self._transport.abort()


_ACTS: dict[int, Callable[[Connection[Any], int, int, bytes], None]] = {
    RST_STREAM: Connection._on_reset,
    SETTINGS: Connection._on_settings,
    PUSH_PROMISE: Connection._on_push,
    PING: Connection._on_ping,
    GOAWAY: Connection._on_goaway,
    WINDOW_UPDATE: Connection._on_window,
    CONTINUATION: Connection._on_continuation,
}


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL_ERROR, "a frame is nothing but padding")
    return payload[1 : len(payload) - payload[0]]


class Http2Server(Generic[T]):
    """Serves an app on a listening socket. Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: App[T]) -> None:
        self.loop, self.app = loop, app
        self.connections: set[Connection[T]] = set()
        self.draining = False

    async def start(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        self._listening = await self.loop.create_server(
            lambda: Connection(self), sock=listener, backlog=4096
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
