"""The application: API, pages, proxy and metrics behind one guard.

Wires the parts of this room, and knows what none of them does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from clew.base.errors import ClewError
from clew.server import api, proxy, web
from clew.server.call import ServedVerbs
from clew.server.faults import Faults
from clew.server.guard import Guard, Rules, rules
from clew.server.metrics import CONTENT_TYPE, Metrics
from clew.server.mlflow import Door
from clew.server.proxy import Proxy
from clew.server.s3 import Gateway
from clew.server.shapes import describe
from clew.server.tail import Changed, Tail
from clew.server.wire import as_clew_error, error_response

_WAITERS = 64
_ABOUT = """The verbs of a Clew workspace. Errors are `{"error": {kind, code, message, hint}}`.
Ask for `application/msgpack` to get numbers that JSON cannot say (NaN, infinities)."""


class App(Guard):
    """The guarded application; ``inner`` is without the guard.

    Requests that are signed as S3 clients do go to the gateway, which guards itself.
    """

    def __init__(
        self, inner: FastAPI, guarded: ASGIApp, rules: Rules, s3: Gateway | None = None
    ) -> None:
        super().__init__(guarded, rules)
        self.inner = inner
        self._s3 = s3

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if self._s3 is not None and self._s3.answers(scope):
            await self._s3(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    @property
    def tail(self) -> Tail:
        """What a server closes before it stops, so that no listener holds it."""
        tail: Tail = self.inner.state.tail
        return tail


def create_app(
    verbs: ServedVerbs,
    *,
    token: str = "",
    allowed_hosts: Collection[str] | None = None,
    endpoint_url: Callable[[], str] = lambda: "",
    changed: Changed | None = None,
    scratch: Path | None = None,
    s3: Callable[[Rules], Gateway] | None = None,
    mlflow: Door | None = None,
) -> App:
    """An ASGI application over a workspace; the verbs are called from several threads at once.

    ``token``: asked of everybody ('' asks nobody; then only loopback names are answered).
    ``allowed_hosts``: further names that the Host header may carry (``*``: any).
    ``endpoint_url``: where the endpoint server is now ('' where none runs).
    ``changed(seq, timeout_s)``: waits in a thread for an event after ``seq``; without it the log
    is asked ten times a second while somebody listens. ``scratch``: where uploads wait.
    ``s3``: makes the gateway that speaks S3, given who may ask; without it nobody does.
    ``mlflow``: answers on the paths of MLflow; it is not closed here.
    """
    app = FastAPI(
        title="Clew",
        version=version("clew"),
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.verbs = verbs
    app.state.token = token
    app.state.scratch = scratch
    app.state.tail = Tail(verbs, changed)
    app.state.waiters = CapacityLimiter(_WAITERS)
    app.state.proxy = Proxy(endpoint_url, token)
    app.state.metrics = Metrics(verbs)
    app.state.mlflow = mlflow
    app.include_router(api.router)
    describe(app, api.shapes)
    app.include_router(proxy.router)
    app.include_router(web.router)
    app.mount("/static", web.static_files())
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    app.add_api_route("/api/v1/health", _health, tags=["questions"])
    for kind in (ClewError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer_error)
    who = rules(token=token, allowed_hosts=allowed_hosts)
    inner = app if mlflow is None else _Forked(app, mlflow)
    return App(app, Faults(inner), who, s3(who) if s3 is not None else None)


class _Forked:
    """The application, but for the paths of MLflow: those pass by all that the others need."""

    def __init__(self, app: ASGIApp, mlflow: Door) -> None:
        self._app = app
        self._mlflow = mlflow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mine = scope["type"] == "http" and self._mlflow.answers(scope["path"])
        await (self._mlflow if mine else self._app)(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    if app.state.scratch is not None:
        app.state.scratch.mkdir(parents=True, exist_ok=True)
    yield
    app.state.tail.close()
    await app.state.proxy.close()
    if app.state.mlflow is not None:
        await app.state.mlflow.stop()


def _answer_error(request: Request, error: Exception) -> Response:
    ours = as_clew_error(request, error)
    return web.show_error(request, ours) if web.wants_page(request) else error_response(ours)


def _metrics(request: Request) -> Response:
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _health() -> dict[str, str]:
    """That the server is up, and which version it is. Needs no login."""
    return {"status": "ok", "version": version("clew")}
