"""The sockets of a serving process: which are inherited, and which speak TLS.

Knows no requests. Every process wraps its own end of the shared sockets, and looks itself whether
the certificate has changed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from clew.base.tls import REFRESH_S, ServerTls
from clew.serving.config import ProcessConfig
from clew.serving.http import HttpServer


class Doors:
    """What a process is told of its sockets, opened. Belongs to one loop.

    TLS is for those that other machines reach: the Unix socket, and the loopback port beside a port
    with TLS, on which this machine's own processes ask, are without.
    """

    def __init__(self, config: ProcessConfig) -> None:
        self._config = config
        files = config.tls_certificate, config.tls_key
        self._tls = ServerTls(*files) if config.tls_certificate else None
        self._grpc = ServerTls(*files, protocols=("h2",)) if config.tls_certificate else None
        self._looking: asyncio.Task[None] | None = None

    @property
    def grpc_tls(self) -> ssl.SSLContext | None:
        """What gRPC is wrapped in."""
        return self._grpc.context if self._grpc else None

    async def open(self, server: HttpServer) -> None:
        """Let a server answer on all but that of gRPC."""
        config, tls = self._config, self._tls
        await server.start(socket.socket(fileno=config.listener), tls.context if tls else None)
        for one in (config.inner_listener, config.unix_listener):
            if one is not None:
                await server.start(socket.socket(fileno=one))
        if tls is not None:
            self._looking = asyncio.create_task(self._look())

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            for tls in (self._tls, self._grpc):
                if tls is not None:
                    tls.refresh()
