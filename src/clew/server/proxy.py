"""The Open Inference Protocol under the API's origin: passed on to the endpoint server.

Knows how to pass an HTTP request on, streaming both ways, and nothing of what it says. Errors have
the form of that protocol: ``{"error": text}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx2
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

PREFIXES = ("/v2", "/v1/models")
_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "host"}
)
_SECRET = frozenset({"authorization", "cookie", "origin", "referer"})
_METHODS = ["GET", "POST"]

router = APIRouter(include_in_schema=False)


class Proxy:
    """Passes requests to wherever the endpoint server is at the time; ``url`` is '' where none
    runs. ``token``: what the endpoint server asks for, '' where it asks nobody. Owns its
    connections; belongs to one event loop.
    """

    def __init__(self, url: Callable[[], str], token: str = "") -> None:
        self._url = url
        self._login = {"authorization": f"Bearer {token}"} if token else {}
        self._client: httpx2.AsyncClient | None = None

    async def pass_on(self, request: Request) -> Response:
        """The endpoint server's answer, or 503 where there is none."""
        base = self._url()
        if not base:
            return _unavailable("No endpoint server runs.")
        outgoing = self._connected().build_request(
            request.method,
            base.rstrip("/") + _target(request),
            headers=_kept(request.headers, _HOP | _SECRET) | self._login,
            content=request.stream() if request.method == "POST" else None,
        )
        try:
            answer = await self._connected().send(outgoing, stream=True)
        except httpx2.TransportError as error:
            return _unavailable(f"The endpoint server does not answer ({type(error).__name__}).")
        return StreamingResponse(
            answer.aiter_raw(),
            answer.status_code,
            _kept(answer.headers, _HOP),
            background=BackgroundTask(answer.aclose),
        )

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()

    def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            timeout = httpx2.Timeout(60.0, connect=2.0)
            limits = httpx2.Limits(max_connections=256, max_keepalive_connections=64)
            self._client = httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=False)
        return self._client


async def _pass_on(request: Request) -> Response:
    proxy: Proxy = request.app.state.proxy
    return await proxy.pass_on(request)


for prefix in PREFIXES:
    router.add_api_route(prefix, _pass_on, methods=_METHODS)
    router.add_api_route(prefix + "/{path:path}", _pass_on, methods=_METHODS)


def _target(request: Request) -> str:
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope["query_string"]
    return (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("ascii")


def _kept(headers: Mapping[str, str], dropped: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in dropped}


def _unavailable(what: str) -> Response:
    return JSONResponse({"error": what + " Start one with `clew server`."}, 503)
