"""Requests that MLflow's application answers, passed on over its socket, streaming both ways.

Knows HTTP; nothing of what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx2
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from clew.base.errors import Unavailable

_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "host"}
)
_SECRET = frozenset({"authorization", "cookie", "origin", "referer"})
_OURS = frozenset({"content-security-policy", "x-frame-options"})
"""The door says what a page may do."""


class Passing:
    """One client for one socket; belongs to one event loop."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None
        self._place = ""

    async def stream(self, request: Request, place: str, path: str) -> Response:
        """The answer of MLflow's application, as it comes. Raises Unavailable ``mlflow.gone``."""
        answer = await self._send(request, place, path, None)
        return StreamingResponse(
            answer.aiter_raw(),
            answer.status_code,
            _kept(answer.headers, _HOP | _OURS),
            background=BackgroundTask(answer.aclose),
        )

    async def whole(
        self, request: Request, place: str, path: str, body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the answer to ``body``. Raises as :meth:`stream`."""
        answer = await self._send(request, place, path, body)
        try:
            content = await answer.aread()
        except httpx2.TransportError as error:
            raise _gone(error) from None
        kept = _kept(answer.headers, _HOP | _OURS | {"content-length", "content-encoding"})
        return answer.status_code, content, kept

    async def close(self) -> None:
        """Let go of the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _send(
        self, request: Request, place: str, path: str, body: bytes | None
    ) -> httpx2.Response:
        if self._client is None or place != self._place:
            await self.close()
            self._place = place
            limits = httpx2.Limits(max_connections=128, max_keepalive_connections=32)
            self._client = httpx2.AsyncClient(
                transport=httpx2.AsyncHTTPTransport(uds=place, limits=limits),
                timeout=httpx2.Timeout(300.0, connect=5.0),
                trust_env=False,
            )
        dropped = _HOP | _SECRET | ({"content-length"} if body is not None else frozenset())
        query = request.scope["query_string"].decode("latin-1")
        has_body = request.method not in {"GET", "HEAD"}
        outgoing = self._client.build_request(
            request.method,
            httpx2.URL(scheme="http", host="localhost", path=path, query=query.encode()),
            headers=_kept(request.headers, dropped),
            content=body if body is not None else request.stream() if has_body else None,
        )
        try:
            return await self._client.send(outgoing, stream=True)
        except httpx2.TransportError as error:
            raise _gone(error) from None


def _kept(headers: Mapping[str, str], dropped: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in dropped}


def _gone(error: Exception) -> Unavailable:
    return Unavailable(
        "mlflow.gone",
        f"MLflow's application does not answer ({type(error).__name__}).",
        hint="Ask again: it is started anew.",
    )
