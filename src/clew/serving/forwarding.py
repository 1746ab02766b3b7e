"""A data plane whose models are elsewhere: requests go on over HTTP, answers come back as they are.

Knows the URL of a cluster's endpoints; no models and no rows.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from clew.serving.dataplane import Answer, Call, DataPlane, Route, refusal
from clew.serving.graph_settling import headers_of
from clew.serving.http import REASONS
from clew.serving.protocol import V1
from clew.serving.runtime import Identity

TIMEOUT_S = 60.0
_TRIES = 2
_TRACE = ("traceparent", "tracestate")
_log = logging.getLogger("clew.serving")


class Forwarding(DataPlane):
    """Passes requests on to ``url``. Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str, token: str) -> None:
        super().__init__(loop, None)
        self._place = urlsplit(url)
        self._token = token
        self._kept = threading.local()
        self._asking: Counter[str] = Counter()

    def submit(self, call: Call) -> None:
        """Ask the cluster; replies when it has answered."""
        route = self.routes.get(call.endpoint)
        if route is None:
            call.reply(refusal(404, f"There is no endpoint {call.endpoint!r}."))
            return
        asking = self._asking[call.endpoint]
        if asking >= route.max_queue:
            call.reply(refusal(429, f"{asking} requests wait already; retry later."))
            return
        self._asking[call.endpoint] += 1
        self.in_flight += 1
        self._threads.submit(self._forward, call)

    def explain(
        self,
        kind: str,
        name: str,
        version: str,
        body: bytes,
        head: int,
        reply: Callable[[Answer], None],
        *,
        key: str = "",
        timeout_s: float = math.inf,
    ) -> None:
        """Have an answer explained where the model is; as ``Explaining.ask``."""
        call = _Why(
            kind=kind, endpoint=name, version=version, body=body, head=head, reply=reply, key=key,
            timeout_s=timeout_s,
        )  # fmt: skip
        self.submit(call)

    def _forward(self, call: Call) -> None:
        try:
            answer = self._asked(call)
        except (OSError, http.client.HTTPException) as error:
            said = f"The cluster at {self._place.netloc} does not answer: {error}."
            late = call.deadline_s < time.perf_counter()
            answer = refusal(504, _late(call)) if late else refusal(503, said)
        except Exception:  # noqa: BLE001 - a bug costs one answer, not the caller's patience
            _log.exception("a request could not be passed on")
            answer = refusal(500, "The server could not pass this request on.")
        self._loop.call_soon_threadsafe(self._replied, call, answer)

    def _replied(self, call: Call, answer: Answer) -> None:
        self.in_flight -= 1
        self._asking[call.endpoint] -= 1
        call.reply(answer)

    def _asked(self, call: Call) -> Answer:
        name, version = quote(call.endpoint), quote(call.version)
        below = f"/versions/{version}" if version else ""
        headers = {"content-type": "application/json"}
        verb, verb_of_v1 = ("explain",) * 2 if isinstance(call, _Why) else ("infer", "predict")
        if call.kind == V1:
            headers["clew-path"] = f"/v1/models/{name}{below}:{verb_of_v1}"
        if call.head >= 0:
            headers["inference-header-content-length"] = str(call.head)
        if call.key:
            headers["clew-key"] = call.key
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        headers |= _passed_on(call, self.routes.get(call.endpoint))
        path = f"/v2/models/{name}{below}/{verb}"
        for attempt in range(_TRIES):
            left_s = call.deadline_s - time.perf_counter()
            if left_s <= 0:
                return refusal(504, _late(call))
            if left_s < math.inf:
                headers["x-request-timeout-ms"] = str(max(1, int(left_s * 1e3)))
            try:
                connection = self._connection(min(TIMEOUT_S, left_s))
                connection.request("POST", path, call.body, headers)
                return _answer(connection.getresponse())
            except (http.client.RemoteDisconnected, ConnectionError):
                self._drop()  # it was closed while it was kept: never begun
                if attempt + 1 == _TRIES:
                    raise
            except BaseException:
                self._drop()  # its answer may still come, and is nobody's
                raise
        raise AssertionError("the last try returns or raises")

    def _drop(self) -> None:
        connection, self._kept.connection = getattr(self._kept, "connection", None), None
        if connection is not None:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if found is None:
            make = (
                http.client.HTTPSConnection
                if self._place.scheme == "https"
                else http.client.HTTPConnection
            )
            found = make(self._place.hostname or "", self._place.port)
            self._kept.connection = found
        found.timeout = timeout_s
        if found.sock is not None:
            found.sock.settimeout(timeout_s)
        return found


def _late(call: Call) -> str:
    waited_ms = (time.perf_counter() - call.begun_s) * 1e3
    return f"The request's deadline passed while it waited for {waited_ms:.0f} ms."


class _Why(Call):
    """A question why a model answers as it does."""


def _passed_on(call: Call, route: Route | None) -> dict[str, str]:
    """The headers of W3C's trace context, where the request has them, and those that a graph asks
    for.
    """
    found: dict[str, str] = {}
    wanted = {*_TRACE, *(name.decode() for name in headers_of({"": route} if route else {}))}
    for name, value in (call.headers or {}).items():
        key = name.decode() if isinstance(name, bytes) else name
        if key in wanted:
            found[key] = value.decode("latin-1") if isinstance(value, bytes) else value
    return found


def _answer(reply: http.client.HTTPResponse) -> Answer:
    body, told = reply.read(), reply.headers
    media = told.get("content-type", "application/json")
    if reply.status not in REASONS:  # of a proxy between
        said = f"The cluster answered with status {reply.status}: {_text(body)}"
        return refusal(503, said)
    if reply.status >= 400 and "json" not in media:
        return refusal(reply.status, f"The cluster says: {_text(body)}")
    answer = Answer(reply.status, body, media=media)
    answer.head = int(told.get("inference-header-content-length", -1))
    answer.prediction_id = told.get("clew-prediction-id", "")
    answer.logged = told.get("clew-logged", "") != "false"
    if revision := told.get("clew-revision", ""):
        answer.identity = Identity(
            endpoint="",
            revision=revision,
            number=0,
            model_version=told.get("clew-model-version", ""),
            version="",
            global_id=told.get("clew-global-id", ""),
        )
    return answer


def _text(body: bytes) -> str:
    return body[:500].decode(errors="replace").strip() or "nothing"
