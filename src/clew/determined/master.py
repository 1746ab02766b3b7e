"""The part of the Determined master's API that the harness of a trial calls, over HTTP.

Knows paths and shapes of the API (``determined/common/api/bindings.py`` of 0.38.1); what a call
means for the trial is for whoever hears it. It listens on this machine only, for one trial.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import traceback
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from clew.base.errors import ClewError

MOST_WAIT_S = 55.0
"""How long at most a question for preemption waits: the harness asks for 60 s and waits 70."""

_TOKEN = "Grpc-Metadata-x-allocation-token"  # noqa: S105 - the name of a header
_MOST_BYTES = 256 << 20


class Hears(Protocol):
    """A trial, as the API speaks to it. Calls come from several threads."""

    def metrics(
        self,
        group: str,
        steps: int | None,
        values: Mapping[str, Any],
        batches: list[Mapping[str, Any]],
    ) -> None:
        """Metrics of a group after so many steps (None: they have no steps)."""
        ...

    def storage(self, config: Mapping[str, Any]) -> None:
        """Where the program saves its checkpoints: as it was told, or as it says itself."""
        ...

    def checkpoint(self, uuid: str, metadata: Mapping[str, Any]) -> None:
        """A checkpoint is whole in its directory; it must be durable when this returns."""
        ...

    def metadata_of(self, uuid: str) -> Mapping[str, Any] | None:
        """What is kept beside a checkpoint; None for one that is not known."""
        ...

    def progress(self, share: float) -> None:
        """How far the trial is, from 0 to 1."""
        ...

    def status(self, text: str) -> None:
        """What the trial is doing."""
        ...

    def early_exit(self, reason: str) -> None:
        """Why the trial is about to end."""
        ...

    def preempted(self, wait_s: float) -> bool:
        """Whether the trial should end; waits so long for that."""
        ...

    def acknowledged(self) -> None:
        """The trial is about to end because it was preempted, and wants to go on later."""
        ...

    def validated(self) -> tuple[float | None, int | None]:
        """The best value of the searcher's metric, and the steps of the last validation."""
        ...

    def say(self, text: str) -> None:
        """Add lines to the log."""
        ...


class Asked(Struct, frozen=True):
    """One request: what its path has in the places of names, its query and its JSON."""

    names: Mapping[str, str]
    query: Mapping[str, str]
    body: Any


class Missing(Exception):
    """There is no such thing: 404."""


Answer = Callable[["Master", Asked], Any]
_ROUTES: list[tuple[str, re.Pattern[str], Answer]] = []


def _route(method: str, path: str) -> Callable[[Answer], Answer]:
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))

    def record(answer: Answer) -> Answer:
        _ROUTES.append((method, pattern, answer))
        return answer

    return record


class Master:
    """The API for one trial, open until :meth:`close`. ``failure`` is the first error in it."""

    def __init__(self, hears: Hears, about: Mapping[str, Any]) -> None:
        """``about``: what :func:`rendezvous` tells: addresses, rank and slots."""
        self.hears = hears
        self.about = about
        self.token = secrets.token_hex(16)
        self.failure: BaseException | None = None
        self.notes: dict[str, Any] = {}
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.master = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the harness finds it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Answer nobody any more; returns when no request is under way."""
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, path: str, asked: Asked) -> tuple[int, Any]:
        """Status and JSON for a request. What fails on our side is kept, for the trial to raise."""
        for name, pattern, answer in _ROUTES:
            match = pattern.fullmatch(path) if name == method else None
            if match is None:
                continue
            try:
                return 200, answer(self, Asked(match.groupdict(), asked.query, asked.body)) or {}
            except Missing as error:
                return 404, _error(str(error))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                return 400, _error(f"{method} {path} is not understood: {error!r}")
            except ClewError as error:
                self.failure = self.failure or error
                return 500, _error(error.message)
            except Exception as error:  # noqa: BLE001 - the boundary: the trial raises it
                self.failure = self.failure or error
                self.hears.say(traceback.format_exc())
                return 500, _error(repr(error))
        self.hears.say(f"clew: {method} {path} of the Determined master is not answered by Clew.")
        return 501, _error(f"{method} {path} is not answered by Clew.")


def _error(message: str) -> dict[str, Any]:
    return {"message": message, "error": {"code": 0, "error": message}}


# reporting --------------------------------------------------------------------------------------


@_route("POST", "/api/v1/runs/start")
def _start(master: Master, asked: Asked) -> Any:
    master.hears.storage(asked.body.get("checkpointStorage") or {})
    return {"storageId": 1}


@_route("POST", "/api/v1/trials/{trial}/metrics")
def _metrics(master: Master, asked: Asked) -> Any:
    told = asked.body["metrics"]
    values = told["metrics"]
    master.hears.metrics(
        asked.body["group"],
        told.get("stepsCompleted"),
        values.get("avgMetrics") or {},
        values.get("batchMetrics") or [],
    )


@_route("POST", "/api/v1/trials/{trial}/progress")
def _progress(master: Master, asked: Asked) -> Any:
    share = asked.body["progress"] if isinstance(asked.body, Mapping) else asked.body
    master.hears.progress(min(1.0, max(0.0, float(share))))


@_route("POST", "/api/v1/trials/{trial}/runner/metadata")
def _status(master: Master, asked: Asked) -> Any:
    master.hears.status(str(asked.body["state"]))


@_route("POST", "/api/v1/trials/{trial}/early_exit")
def _early_exit(master: Master, asked: Asked) -> Any:
    master.hears.early_exit(str(asked.body["reason"]))


@_route("GET", "/api/v1/trials/{trial}")
def _trial(master: Master, asked: Asked) -> Any:
    _, steps = master.hears.validated()
    last = None if steps is None else {"totalBatches": steps}
    return {"trial": {"id": int(asked.names["trial"]), "latestValidation": last}}


@_route("GET", "/api/v1/experiments/{experiment}/searcher/best_searcher_validation_metric")
def _best(master: Master, asked: Asked) -> Any:  # noqa: ARG001 - a route
    best, _ = master.hears.validated()
    if best is None:
        raise Missing("There is no validation yet.")
    return {"metric": best}


@_route("POST", "/api/v1/runs/{run}/metadata")
def _set_metadata(master: Master, asked: Asked) -> Any:
    master.notes = dict(asked.body["metadata"])
    master.hears.say(f"metadata: {json.dumps(master.notes)}")
    return {"metadata": master.notes}


@_route("GET", "/api/v1/runs/{run}/metadata")
def _metadata(master: Master, asked: Asked) -> Any:  # noqa: ARG001 - a route
    return {"metadata": master.notes}


# checkpoints ------------------------------------------------------------------------------------


@_route("POST", "/api/v1/checkpoints")
def _checkpoint(master: Master, asked: Asked) -> Any:
    master.hears.checkpoint(str(asked.body["uuid"]), asked.body["metadata"])


@_route("GET", "/api/v1/checkpoints/{uuid}")
def _checkpoint_of(master: Master, asked: Asked) -> Any:
    uuid = asked.names["uuid"]
    metadata = master.hears.metadata_of(uuid)
    if metadata is None:
        raise Missing(f"There is no checkpoint {uuid} here.")
    return {
        "checkpoint": {
            "uuid": uuid,
            "metadata": dict(metadata),
            "resources": {},
            "training": {},
            "state": "STATE_COMPLETED",
        }
    }


@_route("PATCH", "/api/v1/checkpoints")
def _forget(master: Master, asked: Asked) -> Any:
    gone = ", ".join(str(one["uuid"]) for one in asked.body["checkpoints"])
    master.hears.say(f"clew: retention decides how long checkpoints stay ({gone}).")


# the allocation ---------------------------------------------------------------------------------


@_route("GET", "/api/v1/allocations/{allocation}/signals/preemption")
def _preemption(master: Master, asked: Asked) -> Any:
    wait_s = min(float(asked.query.get("timeout_seconds", 0)), MOST_WAIT_S)
    return {"preempt": master.hears.preempted(wait_s)}


@_route("POST", "/api/v1/allocations/{allocation}/signals/ack_preemption")
def _acknowledge(master: Master, asked: Asked) -> Any:  # noqa: ARG001 - a route
    master.hears.acknowledged()


@_route("GET", "/api/v1/allocations/{allocation}/resources/{resources}/rendezvous")
def rendezvous(master: Master, asked: Asked) -> Any:  # noqa: ARG001 - a route
    """Where the containers of a trial meet: there is one, this machine."""
    return {"rendezvousInfo": dict(master.about)}


@_route("POST", "/api/v1/allocations/{allocation}/acceleratorData")
@_route("POST", "/api/v1/trial-source-info")
def _taken(master: Master, asked: Asked) -> Any:  # noqa: ARG001 - a route
    return {}


# the rest ---------------------------------------------------------------------------------------


@_route("POST", "/task-logs")
def _logs(master: Master, asked: Asked) -> Any:
    master.hears.say("".join(str(one.get("log", "")) for one in asked.body).rstrip("\n"))


@_route("POST", "/api/v1/webhooks/custom")
def _alert(master: Master, asked: Asked) -> Any:
    told = asked.body["data"]
    title, text = told.get("title", ""), told.get("description", "")
    master.hears.say(f"alert: {title}: {text}".rstrip(": "))


@_route("GET", "/api/v1/me")
def _me(master: Master, asked: Asked) -> Any:  # noqa: ARG001 - a route
    return {"user": {"id": 1, "username": "clew", "admin": False, "active": True}}


@_route("GET", "/api/v1/master")
def _about(master: Master, asked: Asked) -> Any:  # noqa: ARG001 - a route
    return {"version": "0.38.1", "clusterId": "clew", "clusterName": "clew", "masterId": "clew"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    master: Master


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with connections that stay."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def do_PATCH(self) -> None:
        self._reply()

    def do_PUT(self) -> None:
        self._reply()

    def do_DELETE(self) -> None:
        self._reply()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged."""

    def _reply(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if size > _MOST_BYTES:
            self.close_connection = True
            self._send(413, _error("This is too much at once."))
            return
        content = self.rfile.read(size)
        master = self.server.master
        if self.headers.get(_TOKEN) != f"Bearer {master.token}":
            self._send(401, _error("This token is not that of the trial."))
            return
        place = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(place.query).items()}
        try:
            body = json.loads(content) if content else {}
        except ValueError as error:
            self._send(400, _error(f"The body is no JSON: {error}"))
            return
        self._send(*master.answer(self.command, place.path, Asked({}, query, body)))

    def _send(self, status: int, answer: Any) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
