"""Listening: one uvicorn server in the calling thread, until it is told to stop.

Knows sockets and signals, and nothing of what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from clew.base.errors import Denied, Unavailable
from clew.base.structs import KNOWN
from clew.base.tls import ServerTls
from clew.server.app import create_app
from clew.server.call import ServedVerbs
from clew.server.guard import Rules
from clew.server.mlflow import Door
from clew.server.s3 import Gateway
from clew.server.tail import Changed, Tail

HANDSHAKE_S = 20.0
_GRACE_S = 3
_TICKS = 10
"""After so many ticks of uvicorn (1 s) it is looked whether the certificate has changed."""


def serve(
    verbs: ServedVerbs,
    host: str = "127.0.0.1",
    port: int = 8686,
    *,
    token: str = "",
    allowed_hosts: Collection[str] | None = None,
    endpoint_url: Callable[[], str] = lambda: "",
    changed: Changed | None = None,
    scratch: Path | None = None,
    s3: Callable[[Rules], Gateway] | None = None,
    mlflow: Door | None = None,
    ready: Callable[[str], None] = lambda _: None,
    leaving: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
    tls: ServerTls | None = None,
    outside: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM (in the main thread) or until ``stop`` is set; then return.

    Port 0 takes a free one. ``ready`` is told the URL once the port is bound; a request made
    from then on is answered. With ``tls`` that is a port on loopback without it, for this machine's
    own processes, which need trust no certificate so; ``outside`` is told that for all before.
    ``leaving`` is called before connections are taken no more. The verbs are not closed.

    Raises:
        Unavailable: ``server.port_in_use``, ``server.cannot_listen``.
        Denied: ``server.no_auth`` for an address beyond loopback without a token.
    """
    check_login(host, token)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        inner = stack.enter_context(_listen("127.0.0.1", 0)) if tls else listener
        app = create_app(
            verbs,
            token=token,
            allowed_hosts=allowed_hosts,
            endpoint_url=endpoint_url,
            changed=changed,
            scratch=scratch,
            s3=s3,
            mlflow=mlflow,
        )
        KNOWN.several_threads()
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_GRACE_S,
        )
        url = _url(host, listener.getsockname()[1])
        if tls is not None:
            outside(url.replace("http", "https", 1))
            url = _url("127.0.0.1", inner.getsockname()[1])
        ready(url)
        wrapped = None if tls is None else (listener, tls)
        _Server(config, app.tail, stop, leaving, wrapped).run(sockets=[inner])


class _Server(uvicorn.Server):
    """uvicorn, but a signal makes :func:`serve` return, so that its caller can close in order."""

    def __init__(
        self,
        config: uvicorn.Config,
        tail: Tail,
        stop: threading.Event | None,
        leaving: Callable[[], None],
        wrapped: tuple[socket.socket, ServerTls] | None,
    ) -> None:
        super().__init__(config)
        self._wrapped = wrapped
        self._tail = tail
        self._stop = stop
        self._leaving = leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._wrapped is None or not self.started:
            return
        listener, tls = self._wrapped
        kind: Any = self.config.http_protocol_class
        protocol = partial(
            kind,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        self.servers.append(
            await loop.create_server(
                protocol, sock=listener, ssl=tls.context, ssl_handshake_timeout=HANDSHAKE_S
            )
        )

    async def on_tick(self, counter: int) -> bool:
        if self._wrapped is not None and counter % _TICKS == 0:
            self._wrapped[1].refresh()
        return bool(self._stop and self._stop.is_set()) or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._leaving()
        self._tail.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def leave(_number: int, _frame: FrameType | None) -> None:
            self.should_exit = True

        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, leave) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def check_login(host: str, token: str) -> None:
    """Raises Denied ``server.no_auth`` for an address beyond loopback without a token."""
    if token or _is_loopback(host):
        return
    raise Denied(
        "server.no_auth",
        f"Anybody who reaches {host} could change this workspace: a token is needed there.",
        hint="Set CLEW_TOKEN to a long random text, or listen on 127.0.0.1.",
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot_listen(host, port, error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from None
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> Unavailable:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            "server.port_in_use",
            f"Port {port} on {host} is in use by another program.",
            hint="Choose another with `--port`, or `--port 0` for any free one.",
        )
    return Unavailable(
        "server.cannot_listen",
        f"Cannot listen on {host}, port {port}: {error.strerror or error}.",
        hint="Choose another address with `--host` or another port with `--port`.",
    )


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"http://[{name}]:{port}" if ":" in name.strip("[]") else f"http://{name}:{port}"
