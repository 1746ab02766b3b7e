"""An endpoint of a server that is asked over a Unix socket or over HTTP, as a model in memory is.

Knows the Open Inference Protocol and sockets; nothing of a workspace.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from clew.base.asking import classes_of, outputs_of, request_of
from clew.base.errors import ClewError, Invalid, NotFound, Unavailable
from clew.base.records import PredictResult
from clew.base.rows import plain_rows
from clew.base.tls import trusting, untrusted

TIMEOUT_S = 60.0


class RemoteModel:
    """An endpoint at an address: ``unix:///run/clew.sock``, ``http://host:port`` or ``https://…``.

    One connection, kept open; several threads ask one after the other. ``ca``: a file with
    authorities that are trusted beside those of the system.

    Raises:
        Invalid: ``load.address`` where it is no such address; ``tls.unreadable``.
        NotFound: ``endpoint.unknown``.
        Unavailable: ``endpoint.unreachable``, ``endpoint.unavailable``, ``server.untrusted``.
    """

    def __init__(self, name: str, at: str, *, token: str = "", ca: str = "") -> None:
        self._name, self._at = name, at
        self._connection = _connection(at, ca)
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._lock = threading.Lock()
        self._place = f"/v2/models/{quote(name, safe='')}"
        try:
            self._about = self._call("GET", self._place)[0]
        except ClewError:
            self.close()
            raise

    @property
    def model_version(self) -> str:
        """The id of the model version that the endpoint said it serves when it was asked first."""
        return str(self._about["parameters"]["clew-model-version"])

    @property
    def platform(self) -> str:
        """What computes it there."""
        return str(self._about["platform"])

    @property
    def inputs(self) -> list[dict[str, object]]:
        """What it takes: name, datatype and shape of each input."""
        return list(self._about["inputs"])

    def predict(self, rows: Any) -> PredictResult:
        """Predict for rows: mappings of column to value, lists of numbers, an array, or a frame.

        Raises:
            Invalid: ``predict.rows``; ``predict.refused`` with what the model says of them.
            Unavailable: ``endpoint.unreachable``, ``endpoint.unavailable``.
        """
        asked = request_of(self.inputs, plain_rows(rows))
        body, headers = self._call("POST", f"{self._place}/infer", asked)
        return PredictResult(
            prediction_id=headers["clew-prediction-id"],
            global_id=headers["clew-global-id"],
            endpoint=self._name,
            revision=headers["clew-revision"],
            model_version=headers["clew-model-version"],
            outputs=outputs_of(body["outputs"]),
            classes=classes_of(body["outputs"]),
        )

    def close(self) -> None:
        """Let the connection go. Idempotent."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, path: str, body: bytes | None = None) -> tuple[Any, Any]:
        with self._lock:
            reused = self._connection.sock is not None
            try:
                answer, raw = self._once(method, path, body)
            except (OSError, HTTPException) as error:
                self._connection.close()
                if not reused or isinstance(error, TimeoutError):
                    raise self._silent(error) from error
                answer, raw = self._again(method, path, body)
        if answer.status != 200:
            raise self._refused(answer.status, raw)
        return json.loads(raw), answer.headers

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[HTTPResponse, bytes]:
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        return answer, answer.read()

    def _again(self, method: str, path: str, body: bytes | None) -> tuple[HTTPResponse, bytes]:
        """On a new connection: a server closes one that was idle, and a process may have ended."""
        try:
            return self._once(method, path, body)
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> Unavailable:
        if isinstance(error, ssl.SSLCertVerificationError):
            return untrusted(self._at, error.verify_message)
        return Unavailable(
            "endpoint.unreachable",
            f"{self._at} does not answer: {error or type(error).__name__}.",
            hint="Is the server there? clew server --unix PATH",
        )

    def _refused(self, status: int, raw: bytes) -> ClewError:
        try:
            said = str(json.loads(raw)["error"])
        except (ValueError, KeyError, TypeError):
            said = raw[:200].decode(errors="replace")
        if status == 404:
            return NotFound("endpoint.unknown", said, hint="clew endpoints")
        if status == 400:
            return Invalid("predict.refused", said, hint="Give what `inputs` says.")
        return Unavailable(
            "endpoint.unavailable",
            f"{self._at} answers {status}: {said}",
            hint="Unless it says what to do: ask again in a moment.",
        )


class _Unix(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise


def _connection(at: str, ca: str) -> HTTPConnection:
    parts = urlsplit(at)
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return _Unix(unquote(parts.path))
    if parts.scheme == "http" and parts.hostname:
        return HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT_S)
    if parts.scheme == "https" and parts.hostname:
        trust = trusting(ca) if ca else ssl.create_default_context()
        port = parts.port or 443
        return HTTPSConnection(parts.hostname, port, timeout=TIMEOUT_S, context=trust)
    raise Invalid(
        "load.address",
        f"{at!r} is no address of endpoints.",
        hint="Write unix:///run/clew.sock or http://127.0.0.1:8687.",
    )
