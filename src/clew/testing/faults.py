"""A proxy in front of an HTTP server that goes wrong on demand, for tests of clients.

Knows requests, answers and ways to spoil them; knows nothing of what they are about.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import urlsplit

FAULTS = ("hang", "500", "503", "cut", "short", "flip", "lost")
"""hang: no answer; 500, 503: refused; cut: the connection breaks in the body; short: half of the
body, said to be all; flip: one bit of the body is another; lost: carried out, and no answer."""

Chooser = Callable[[str, str], str]


def never(_method: str, _path: str) -> str:
    """No fault."""
    return ""


class FaultyProxy:
    """Forwards to ``upstream``; ``choose(method, path)`` names the fault of each request or ''.

    ``choose`` may be set anew at any time. ``seen`` lists what was asked.
    """

    def __init__(self, upstream: str) -> None:
        self.choose: Chooser = never
        self.seen: list[tuple[str, str]] = []
        self.over = threading.Event()
        self.upstream = urlsplit(upstream)
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def every(number: int, fault: str) -> Chooser:
    """``fault`` for each request whose turn is a multiple of ``number``."""
    lock = threading.Lock()
    turn = 0

    def choose(_method: str, _path: str) -> str:
        nonlocal turn
        with lock:
            turn += 1
            return fault if turn % number == 0 else ""

    return choose


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[FaultyProxy]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.proxy.seen.append((self.command, self.path))
        fault = self.proxy.choose(self.command, self.path)
        if fault == "hang":
            self.close_connection = True
            self.proxy.over.wait(30)
            return
        if fault in {"500", "503"}:
            self._answer(int(fault), [], b"<Error><Code>SlowDown</Code></Error>")
            return
        status, headers, data = self._forward(body)
        if fault == "lost":
            self.close_connection = True
            return
        self._spoil(fault, status, headers, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815 - http.server's names

    def _spoil(self, fault: str, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        spoilable = status in {200, 206} and len(data) > 1 and self.command == "GET"
        if fault == "cut" and spoilable:
            self._answer(status, headers, data, sent=len(data) // 2)
            self.close_connection = True
        elif fault == "short" and spoilable:
            self._answer(status, headers, data[: len(data) // 2])
        elif fault == "flip" and spoilable:
            at = len(data) // 3
            self._answer(status, headers, data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        else:
            self._answer(status, headers, data)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        place = self.proxy.upstream
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() != "connection":
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, sent: int | None = None
    ) -> None:
        self.send_response_only(status)
        length = str(len(data))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("content-length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if sent is None else data[:sent])

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Serve one connection; clients that give up are no news."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
