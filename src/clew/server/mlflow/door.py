"""The door for MLflow's clients and pages: what is asked goes to whom it belongs to.

Knows which call is whose: hot writes are committed here, artifacts go to the store, runs and models
are told to lineage and held against the gates, and all else is MLflow's own application's.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable

import anyio.to_thread
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from clew.base.errors import ClewError, Denied
from clew.base.untold import UNTOLD
from clew.server.mlflow.answers import JSON, answer, refusal
from clew.server.mlflow.artifacts import Artifacts
from clew.server.mlflow.asked import Asked, is_mlflow, read_path
from clew.server.mlflow.child import Child, version
from clew.server.mlflow.grounds import Grounds
from clew.server.mlflow.hot import read_hot, touches_kept
from clew.server.mlflow.own import Own
from clew.server.mlflow.passing import Passing
from clew.server.mlflow.registry import Registry
from clew.server.mlflow.shelf import Shelf
from clew.server.mlflow.tracing import Tracing
from clew.server.mlflow.writing import Writing

Told = Callable[[bytes], None]
"""Hears MLflow's answer to a call that made something."""

_HOT = frozenset({"runs/log-metric", "runs/log-batch", "runs/log-parameter", "runs/set-tag"})
_HEARD = _HOT | {"runs/create", "runs/delete-tag", "logged-models"}
"""Calls whose bodies are read here; the others stream through."""

_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' blob:; worker-src 'self' blob:; frame-src 'self' blob: data:; "
    "media-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""MLflow's pages make styles and functions as they run. They reach no other host."""

_log = logging.getLogger("clew.server")


class Door:
    """An ASGI application for the paths that :meth:`answers` says yes to.

    Costs nothing before it is first asked: then MLflow's application is started, in a process of
    its own. Close it when the server has stopped.
    """

    def __init__(self, grounds: Grounds) -> None:
        self._grounds = grounds
        self._own = Own(grounds)
        self._child = Child(self._variables, grounds.home / "logs" / "mlflow.log")
        self._passing = Passing()
        self._tracing = Tracing(grounds.db, grounds.lineage, self._own)
        self._registry = Registry(grounds, self._own, self._tracing)
        shelf = Shelf(grounds.db, grounds.repos, grounds.store, grounds.lineage)
        self._artifacts = Artifacts(shelf, self._own, grounds.scratch)
        self._writing: Writing | None = None
        self._opening = threading.Lock()

    @staticmethod
    def answers(path: str) -> bool:
        """Whether a path of this server is one of MLflow's."""
        return is_mlflow(path)

    @property
    def pid(self) -> int | None:
        """The process of MLflow's application; None before it was needed."""
        return self._child.pid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; whoever asks has been let in."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request, read_path(scope["path"]))
        except ClewError as error:
            response = refusal(error)
        except ClientDisconnect:
            return
        except Exception:  # noqa: BLE001 - the client is told, the log has the rest
            reference = secrets.token_hex(4)
            _log.exception("%s %s failed (reference %s)", request.method, scope["path"], reference)
            response = refusal(_failed(reference))
        await response(scope, receive, send)

    async def stop(self) -> None:
        """Let go of connections; in the event loop that the door was asked in."""
        await self._passing.close()

    def close(self) -> None:
        """Write what waits, and end MLflow's application. Idempotent."""
        if self._writing is not None:
            self._writing.close()
        self._child.close()
        self._own.close()

    async def _answer(self, request: Request, asked: Asked) -> Response:
        if asked.kind == "home" and (asked.context or request.url.path == "/mlflow"):
            return RedirectResponse("/mlflow/", 307)
        if asked.kind == "version":
            return PlainTextResponse(version())
        place = await self._ready()
        if asked.kind == "artifact":
            return await self._artifacts(request, asked.artifact)
        if asked.kind in {"page", "home"}:
            if asked.path.endswith("/graphql"):
                await anyio.to_thread.run_sync(self._registry.refresh)
            response = await self._passing.stream(request, place, asked.path)
            response.headers["Content-Security-Policy"] = _PAGE_POLICY
            return response
        return await self._call(request, asked, place)

    async def _call(self, request: Request, asked: Asked, place: str) -> Response:
        call = asked.call
        if call.startswith(("registered-models", "model-versions")):
            return await self._models(request, asked, place)
        if call == "server-info":
            return await self._server_info(request, asked, place)
        if call == "experiments/create" and asked.context:
            return await self._experiment(request, asked, place)
        if request.method != "POST" or call not in _HEARD:
            return await self._passing.stream(request, place, asked.path)
        body = await request.body()
        _check_kept(call, body)
        told: Told | None = None
        if call in _HOT:
            logged = read_hot(call, body)
            if logged is not None and self._writing is not None and await self._writing.log(logged):
                return answer({})
        elif call == "runs/create":
            body = await anyio.to_thread.run_sync(self._rewritten, body, asked.context)
            told = self._tracing.run_created
        elif call == "logged-models":
            told = self._tracing.model_logged
        return await self._pass(request, asked, place, body, told)

    async def _experiment(self, request: Request, asked: Asked, place: str) -> Response:
        """Workers that run side by side all find that their experiment is missing, and make it."""
        body = await request.body()
        status, content, headers = await self._passing.whole(request, place, asked.path, body)
        if status == 400 and b"RESOURCE_ALREADY_EXISTS" in content:
            name = str(msgspec.json.decode(body).get("name", ""))
            found = await anyio.to_thread.run_sync(self._own.experiment, name)
            if found:
                return answer({"experiment_id": found})
        return Response(content, status, headers)

    async def _models(self, request: Request, asked: Asked, place: str) -> Response:
        """Calls of the registry: it has what Clew's has, and obeys Clew's gates."""
        body = await request.body()
        decide = self._registry.decide
        decided = await anyio.to_thread.run_sync(
            decide, request.method, asked.call, body, asked.context
        )
        if decided.done:
            return answer(decided.answer)
        return await self._pass(request, asked, place, decided.body, decided.told)

    async def _pass(
        self,
        request: Request,
        asked: Asked,
        place: str,
        body: bytes,
        told: Told | None = None,
    ) -> Response:
        """MLflow's answer to a body; where it is a success, ``told`` hears of it first."""
        status, content, headers = await self._passing.whole(request, place, asked.path, body)
        if status == 200 and told is not None:
            await anyio.to_thread.run_sync(told, content)
        return Response(content, status, headers)

    def _rewritten(self, body: bytes, context: str) -> bytes:
        try:
            return self._tracing.rewritten(body, context)
        except msgspec.MsgspecError:
            return body  # MLflow says what is wrong with it

    async def _server_info(self, request: Request, asked: Asked, place: str) -> Response:
        """As MLflow says, but for what this door does not carry."""
        status, content, headers = await self._passing.whole(request, place, asked.path, b"")
        if status != 200:
            return Response(content, status, headers)
        info = msgspec.json.decode(content)
        info.update({name: False for name in info if name.startswith("multipart_")})
        if isinstance(info.get("features_enabled"), dict):
            info["features_enabled"] = dict.fromkeys(info["features_enabled"], False)
        return Response(msgspec.json.encode(info), 200, media_type=JSON)

    async def _ready(self) -> str:
        """Where MLflow's application answers; starts it where it does not run."""
        if self._writing is not None and self._child.pid is not None:
            return self._child.place
        return await anyio.to_thread.run_sync(self._open)

    def _open(self) -> str:
        with self._opening:
            if self._writing is None:
                self._own.make()
            place = self._child.ready()
            if self._writing is None:
                self._writing = Writing(self._own.db, self._own.kind)
                threading.Thread(target=self._catch_up, name="clew-mlflow", daemon=True).start()
            return place

    def _catch_up(self) -> None:
        try:
            self._tracing.catch_up()
        except ClewError as error:
            _log.error("runs of MLflow that lineage lacks could not be told: %s", error)

    def _variables(self) -> dict[str, str]:
        artifacts = f"{self._grounds.url()}/api/2.0/mlflow-artifacts/artifacts"
        return {
            "_MLFLOW_SERVER_FILE_STORE": self._own.mlflow_url,
            "_MLFLOW_SERVER_REGISTRY_STORE": self._own.mlflow_url,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_STATIC_PREFIX": "/mlflow",
            **UNTOLD,
            "MLFLOW_ENABLE_AI_GATEWAY": "false",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",  # the guard is before this door
            "MLFLOW_TRACKING_TOKEN": self._grounds.token,  # for artifacts, which come back here
            "MLFLOW_LOGGING_LEVEL": "WARNING",
        }


def _failed(reference: str) -> ClewError:
    return ClewError(
        "server.failed",
        f"The server failed while it worked on this request (reference {reference}).",
        hint="Look for the reference in the server's log.",
    )


def _check_kept(call: str, body: bytes) -> None:
    key = touches_kept(call, body)
    if key:
        raise Denied(
            "mlflow.kept",
            f"The tag {key!r} is kept by Clew.",
            hint="Name yours otherwise: tags that begin with `clew.` say where a run belongs.",
        )
