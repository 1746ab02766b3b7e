"""HTTP/1.1 on asyncio: keep-alive, pipelining, chunked bodies, limits, slow clients, drain.

Knows nothing of models or paths: an ``App`` answers whole requests.
RFC 9112. The parser is llhttp (httptools).
"""
# ruff: noqa: D102 - the callbacks promise what asyncio.Protocol and httptools say they do

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from email.utils import formatdate
from typing import cast

import httptools
from msgspec import Struct

from clew.serving.codings import accepted, compress
from clew.serving.config import LIMIT_BYTES
from clew.serving.dataplane import Answer, refusal
from clew.serving.heads import Head, Heads
from clew.serving.requests import (
    WANTED,
    Refused,
    Request,
    decompress,
    read_head_length,
    read_timeout_s,
)
from clew.serving.runtime import Identity

REASONS = {
    200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden",
    404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict",
    413: b"Content Too Large", 415: b"Unsupported Media Type", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    503: b"Service Unavailable", 504: b"Gateway Timeout",
}  # fmt: skip
HEAD_BYTES = 64 << 10
PIPELINE = 64
REQUEST_S = 60.0
IDLE_S = 75.0
STALL_S = 60.0
LINGER_S = 2.0
HANDSHAKE_S = 20.0
ZIP_BYTES = 1 << 10
"""Shorter answers fit into a packet or two: compressing them costs more than it saves."""
_log = logging.getLogger("clew.serving")


App = Callable[[Request, Callable[[Answer], None]], None]
"""Takes a request and calls back once with its answer, on the loop."""

_OWN = {
    b"expect", b"content-encoding", b"clew-key", b"traceparent", b"tracestate",
    b"x-request-timeout-ms", b"x-envoy-expected-rq-timeout-ms",
}  # fmt: skip
"""Headers that belong to one request, or that change how it is read: heads with one are parsed."""


class Exchange(Struct, eq=False, kw_only=True):
    """A request on a connection, from its last byte to its answer, in the order of the wire.

    ``keep``: the connection, after the answer; ``old``: HTTP/1.0; ``bare``: without a body;
    ``zipped``: the coding of the answer.
    """

    connection: Connection
    keep: bool = True
    old: bool = False
    bare: bool = False
    zipped: bytes = b""
    answer: Answer | None = None

    def reply(self, answer: Answer) -> None:
        """Take the answer; it goes out when those before it have."""
        self.answer = answer
        self.connection.answered()


class Connection(asyncio.Protocol):
    """One client. ``since_s``: when the state that a time limit counts began."""

    __slots__ = (
        "_body", "_exchanges", "_gone", "_head_bytes", "_headers", "_open", "_parser", "_paused",
        "_server", "_shed", "_size", "_stalled", "_target", "_transport", "since_s",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._exchanges: deque[Exchange] = deque()
        self._open = False  # a request has begun and is not whole
        self._gone = False  # no more requests are read from here
        self._shed = False  # the last request was refused as it came
        self._target, self._headers = b"", dict[bytes, bytes]()
        self._paused = False
        self._stalled = False
        self.since_s = time.monotonic()

    # transport ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
            # inherited sockets do not say that they are TCP, so asyncio may leave Nagle on
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._gone = True
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._gone:
            return
        if not self._open:
            data = self._take_known(data)
            if not data or self._gone:
                self._pause_if_many()
                return
        fresh = not self._open
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._gone = True  # answered as plain HTTP/1.1; nothing more is read
            self._close_when_done()
        except httptools.HttpParserError as error:
            self._break(refusal(400, f"This is not HTTP/1.1: {error}."))
        if fresh and not self._open and not self._gone:
            self._learn(data)
        self._pause_if_many()

    def _pause_if_many(self) -> None:
        if len(self._exchanges) >= PIPELINE and not self._paused and not self._gone:
            self._paused = True
            self._transport.pause_reading()

    def _take_known(self, data: bytes) -> bytes:
        """Take the whole requests at the beginning whose heads are known; what is left."""
        heads, at, size = self._server.heads, 0, len(data)
        while at < size and not self._gone and (found := heads.find(data, at)) is not None:
            head, stop = found
            self._take(head, data[stop - head.length : stop])
            at = stop
        return data[at:] if at else data

    def _take(self, head: Head, body: bytes) -> None:
        server = self._server
        self.since_s = time.monotonic()
        if server.full(head.target) and not self._exchanges and not server.draining:
            self._refuse(head.target)
            return
        exchange = Exchange(connection=self, zipped=head.zipped)
        self._exchanges.append(exchange)
        self._ask(Request("POST", head.target, body, head.raw, headers=head.headers), exchange)

    def _learn(self, data: bytes) -> None:
        """Know the head of the request that ``data`` was, where the next may have the same."""
        headers, length = self._headers, self._headers.get(b"content-length", b"")
        usual = length.isdigit() and _OWN.isdisjoint(headers) and self._may_keep()
        if not usual or self._server.check(self._target, headers) is not None:
            return
        with suppress(Refused):
            head = Head(
                target=self._target,
                headers=headers,
                length=int(length),
                raw=read_head_length(headers),
                zipped=_zipped(headers),
            )
            self._server.heads.learn(data, head)

    def _may_keep(self) -> bool:
        """Whether the request is a POST on a connection that is kept without a word of it."""
        parser = self._parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        )

    def _refuse(self, target: bytes) -> None:
        """Too much waits for what is asked: that is all that is said, and counted."""
        self._server.refused(target)
        if not self._transport.is_closing():
            self._transport.write(self._server.too_many())

    def eof_received(self) -> bool:
        self._gone = True
        self._close_when_done()
        return bool(self._exchanges) and self._transport.can_write_eof()  # TLS has no half end

    def pause_writing(self) -> None:
        self._stalled = True
        self.since_s = time.monotonic()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled = False
        self.since_s = time.monotonic()
        if not self._paused and not self._gone:
            self._transport.resume_reading()

    # parser -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._open = True
        self.since_s = time.monotonic()
        self._target = b""
        self._headers = {}
        self._body: list[bytes] = []
        self._size = self._head_bytes = 0
        self._shed = False

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        name = name.lower()
        if name in self._server.wanted:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self._gone:
            return
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._server.limit_bytes:
            self._break(self._too_large())
        elif self._server.full(self._target) and self._is_shed():
            self._shed = True  # its body is passed over
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._exchanges:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _is_shed(self) -> bool:
        """Whether a request to what is full is refused as it comes. Others, such as those behind
        one that is not answered yet, go the long way, which refuses them too.
        """
        headers = self._headers
        return (
            not self._exchanges
            and self._may_keep()
            and b"expect" not in headers
            and not self._server.draining
            and self._server.check(self._target, headers) is None
        )

    def on_body(self, body: bytes) -> None:
        if self._gone or self._shed:
            return
        self._size += len(body)
        if self._size > self._server.limit_bytes:
            self._break(self._too_large())
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._gone:
            return
        self._open = False
        if self._shed:
            self._refuse(self._target)
            return
        self.since_s = time.monotonic()
        parser, headers = self._parser, self._headers
        method = parser.get_method()
        exchange = Exchange(
            connection=self,
            keep=parser.should_keep_alive(),
            old=parser.get_http_version() == "1.0",
            bare=method == b"HEAD",
            zipped=_zipped(headers),
        )
        self._exchanges.append(exchange)
        self._gone = not exchange.keep
        refused = self._server.check(self._target, headers)
        if refused is not None:
            exchange.reply(refused)
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        try:
            if b"content-encoding" in headers:
                body = decompress(body, headers[b"content-encoding"], self._server.limit_bytes)
            head = read_head_length(headers)
            timeout_s = read_timeout_s(headers)
        except Refused as refused_by:
            exchange.reply(refused_by.answer)
            return
        key = headers[b"clew-key"].decode("latin-1") if b"clew-key" in headers else ""
        asked = Request(method.decode(), self._target, body, head, key, timeout_s, headers)
        self._ask(asked, exchange)

    def _ask(self, request: Request, exchange: Exchange) -> None:
        try:
            self._server.app(request, exchange.reply)
        except Exception:  # noqa: BLE001 - a bug costs one answer, not the server
            _log.exception("%s %r could not be taken", request.method, request.target)
            if exchange.answer is None:
                exchange.reply(refusal(500, "The server could not take this request."))

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES and not self._gone:
            self._break(refusal(431, f"The head of a request may have {HEAD_BYTES} bytes."))

    def _too_large(self) -> Answer:
        return refusal(413, f"A request body may have {self._server.limit_bytes} bytes.")

    # answers ------------------------------------------------------------------------------------

    def _break(self, answer: Answer) -> None:
        """Answer, then read no more: what follows cannot be understood."""
        self._gone = True
        exchange = Exchange(connection=self, keep=False)
        self._exchanges.append(exchange)
        exchange.reply(answer)

    def answered(self) -> None:
        """Write the answers that are ready, in order."""
        exchanges = self._exchanges
        while exchanges and (answer := exchanges[0].answer) is not None:
            exchange = exchanges.popleft()
            if self._transport.is_closing():
                continue
            keep = exchange.keep and not self._server.draining
            self._transport.write(self._server.render(answer, exchange, keep))
            if not keep:
                self._finish()
                return
        if not exchanges:
            self.since_s = time.monotonic()
            if self._gone:
                self._transport.close()
        if self._paused and len(exchanges) < PIPELINE // 2 and not self._gone:
            self._paused = False
            if not self._stalled:
                self._transport.resume_reading()

    def _finish(self) -> None:
        """Say that this was the last answer, and let the client close, so that what it is still
        sending does not reset the connection under the answer (RFC 9112 §9.6).
        """
        self._gone = True
        self._exchanges.clear()
        self.since_s = time.monotonic()
        if self._open and self._transport.can_write_eof():
            self._open = False
            self._transport.write_eof()
        else:
            self._transport.close()

    def _close_when_done(self) -> None:
        if self._gone and not self._exchanges:
            self._transport.close()

    # time limits --------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing was asked that is not answered."""
        return not self._exchanges and not self._open

    def sweep(self, now_s: float) -> None:
        """Close what has taken too long."""
        age_s = now_s - self.since_s
        if self._gone and not self._exchanges:
            if age_s > LINGER_S:
                self._transport.abort()
        elif self._stalled:
            if age_s > STALL_S:
                self._transport.abort()
        elif self._open and not self._exchanges and age_s > REQUEST_S:
            self._break(refusal(408, f"The request did not end within {REQUEST_S:.0f} s."))
        elif self.idle and age_s > IDLE_S:
            self._transport.close()

    def close_if_idle(self, idle_s: float) -> None:
        """Close a connection on which nothing has happened for so long."""
        if self.idle and time.monotonic() - self.since_s >= idle_s:
            self._gone = True
            self._transport.close()


def _zipped(headers: Mapping[bytes, bytes]) -> bytes:
    asked = headers.get(b"accept-encoding")
    return b"" if asked is None else accepted(asked)


class HttpServer:
    """Serves an app on listening sockets. ``token`` '': everybody may ask.

    ``open_paths`` are answered without a token: a probe of an orchestrator has none. ``full``:
    whether what is asked for would be refused since too much waits there; ``refused`` is told of
    each that was.
    """

    def __init__(
        self,
        app: App,
        *,
        limit_bytes: int = LIMIT_BYTES,
        token: str = "",
        open_paths: Collection[bytes] = (),
        full: Callable[[bytes], bool] = lambda _: False,
        refused: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.app, self.full, self.refused = app, full, refused
        self.heads = Heads()
        self.limit_bytes = limit_bytes
        self.connections: set[Connection] = set()
        self.wanted = set(WANTED)
        """Headers that are kept; graphs ask for more."""
        self.draining = False
        self._open = frozenset(open_paths)
        self._bearer = b"Bearer " + token.encode() if token else b""
        self._date = (0, b"")
        self._too_many = (b"", b"")
        self._starts: dict[tuple[str, int, bool, bool], bytes] = {}
        self._listening: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on this socket too, TCP (with TLS or without) or Unix."""
        loop = asyncio.get_running_loop()
        if listener.family == socket.AF_UNIX:
            made = await loop.create_unix_server(
                lambda: Connection(self), sock=listener, backlog=4096
            )
        else:
            made = await loop.create_server(
                lambda: Connection(self),
                sock=listener,
                backlog=4096,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_S if tls else None,
            )
        self._listening.append(made)
        self._sweeper = self._sweeper or asyncio.create_task(self._sweep())

    async def drain(self, *, idle_s: float = 0.5, limit_s: float = 30.0) -> None:
        """Accept no more, answer everything that was asked, and close.

        A client that is about to use its connection again gets ``Connection: close`` with the
        next answer; one that is silent for ``idle_s`` is closed.
        """
        self.draining = True
        for listening in self._listening:
            listening.close()
        deadline = time.monotonic() + limit_s
        while self.connections and time.monotonic() < deadline:
            for connection in list(self.connections):
                connection.close_if_idle(idle_s)
            await asyncio.sleep(0.02)
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now_s = time.monotonic()
            for connection in list(self.connections):
                connection.sweep(now_s)

    def want(self, names: Collection[bytes]) -> None:
        """Keep these headers too, from now on."""
        if not self.wanted.issuperset(names):
            self.wanted |= set(names)
            self.heads.clear()

    def check(self, target: bytes, headers: dict[bytes, bytes]) -> Answer | None:
        """A refusal, where the caller may not ask; probes of ``open_paths`` need no token."""
        if target.partition(b"?")[0] in self._open:
            return None
        given = headers.get(b"authorization", b"")
        if self._bearer and not hmac.compare_digest(given, self._bearer):
            return refusal(401, "This server asks for a bearer token.")
        return None

    def render(self, answer: Answer, exchange: Exchange, keep: bool) -> bytes:
        """The bytes of an answer."""
        body = answer.body
        encoding = b""
        if exchange.zipped and len(body) >= ZIP_BYTES:
            body = compress(body, exchange.zipped)
            encoding = b"content-encoding: %b\r\nvary: accept-encoding\r\n" % exchange.zipped
        end = b"\r\n"
        if not keep:
            end = b"connection: close\r\n\r\n"
        elif exchange.old:
            end = b"connection: keep-alive\r\n\r\n"
        length = b"content-length: %d\r\n" % len(body)
        return b"".join((self._head(answer), encoding, length, end, b"" if exchange.bare else body))

    def too_many(self) -> bytes:
        """The bytes of a refusal where too much waits; the same for a second."""
        now = self._now()
        if now is not self._too_many[0]:
            body = b'{"error":"Too many requests wait already; retry later."}'
            head = b"HTTP/1.1 429 Too Many Requests\r\n%bcontent-type: application/json\r\n" % now
            more = b"retry-after: 1\r\ncontent-length: %d\r\n\r\n" % len(body)
            self._too_many = (now, head + more + body)
        return self._too_many[1]

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, f"date: {formatdate(second, usegmt=True)}\r\n".encode())
            self._starts.clear()
        return self._date[1]

    def _head(self, answer: Answer) -> bytes:
        """The status line and all headers but those of the body. What comes before the id of a
        prediction is the same for a second.
        """
        now, identity = self._now(), answer.identity
        if identity is None:
            return _start(answer, now) + _about(answer)
        key = identity.revision, answer.status, answer.head < 0, answer.logged
        start = self._starts.get(key)
        if start is None:
            start = self._starts[key] = _start(answer, now) + _maker(identity, answer.logged)
        head = b"%bclew-prediction-id: %b\r\n" % (start, answer.prediction_id.encode())
        usual = answer.status == 200 and answer.head < 0 and not answer.trace
        return head if usual else head + _about(answer)


def _start(answer: Answer, now: bytes) -> bytes:
    reason = REASONS.get(answer.status, b"Unknown")
    media = answer.media.encode() if answer.head < 0 else b"application/octet-stream"
    return b"HTTP/1.1 %d %b\r\n%bcontent-type: %b\r\n" % (answer.status, reason, now, media)


def _maker(identity: Identity, logged: bool) -> bytes:
    return (
        f"clew-global-id: {identity.global_id}\r\nclew-revision: {identity.revision}\r\n"
        f"clew-model-version: {identity.model_version}\r\n"
    ).encode() + (b"" if logged else b"clew-logged: false\r\n")


def _about(answer: Answer) -> bytes:
    about = b""
    if answer.head >= 0:
        about += b"inference-header-content-length: %d\r\n" % answer.head
    if answer.status in {429, 503}:
        about += b"retry-after: 1\r\n"
    elif answer.status == 401:
        about += b"www-authenticate: Bearer\r\n"
    elif answer.allow:
        about += f"allow: {answer.allow}\r\n".encode()
    if answer.trace:
        about += f"traceparent: {answer.trace}\r\n".encode()
    return about
