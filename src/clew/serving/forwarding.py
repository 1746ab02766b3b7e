"""A data plane whose models are elsewhere: requests go on over HTTP, answers come back as they are.

Knows the URL of a cluster's endpoints; no models and no rows.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
from urllib.parse import quote, urlsplit

from clew.serving.dataplane import Answer, Call, DataPlane, refusal
from clew.serving.protocol import V1
from clew.serving.runtime import Identity

TIMEOUT_S = 60.0
_TRIES = 2


class Forwarding(DataPlane):
    """Passes requests on to ``url``. Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str, token: str) -> None:
        super().__init__(loop, None)
        self._place = urlsplit(url)
        self._token = token
        self._kept = threading.local()

    def submit(self, call: Call) -> None:
        """Ask the cluster; replies when it has answered."""
        if call.endpoint not in self.routes:
            call.reply(refusal(404, f"There is no endpoint {call.endpoint!r}."))
            return
        self.in_flight += 1
        self._threads.submit(self._forward, call)

    def _forward(self, call: Call) -> None:
        try:
            answer = self._asked(call)
        except (OSError, http.client.HTTPException) as error:
            said = f"The cluster at {self._place.netloc} does not answer: {error}."
            answer = refusal(503, said)
        self._loop.call_soon_threadsafe(self._replied, call, answer)

    def _replied(self, call: Call, answer: Answer) -> None:
        self.in_flight -= 1
        call.reply(answer)

    def _asked(self, call: Call) -> Answer:
        name, version = quote(call.endpoint), quote(call.version)
        below = f"/versions/{version}" if version else ""
        headers = {"content-type": "application/json"}
        if call.kind == V1:
            headers["clew-path"] = f"/v1/models/{name}{below}:predict"
        if call.head >= 0:
            headers["inference-header-content-length"] = str(call.head)
        if call.key:
            headers["clew-key"] = call.key
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        path = f"/v2/models/{name}{below}/infer"
        for attempt in range(_TRIES):
            try:
                connection = self._connection()
                connection.request("POST", path, call.body, headers)
                return _answer(connection.getresponse())
            except (http.client.RemoteDisconnected, ConnectionError):
                self._kept.connection = None  # it was closed while it was kept: never begun
                if attempt + 1 == _TRIES:
                    raise
        raise AssertionError("the last try returns or raises")

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if found is None:
            make = (
                http.client.HTTPSConnection
                if self._place.scheme == "https"
                else http.client.HTTPConnection
            )
            found = make(self._place.hostname or "", self._place.port, timeout=TIMEOUT_S)
            self._kept.connection = found
        return found


def _answer(reply: http.client.HTTPResponse) -> Answer:
    body, told = reply.read(), reply.headers
    answer = Answer(reply.status, body, media=told.get("content-type", "application/json"))
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
