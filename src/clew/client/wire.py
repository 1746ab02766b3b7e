"""One conversation with a server: requests out, records or errors of ours back.

Knows httpx2 and media types, and nothing of the verbs.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from clew.base.errors import ClewError, Unavailable, closed, from_wire
from clew.base.tls import trusting, untrusted

T = TypeVar("T")
_MSGPACK = "application/msgpack"
Parameters = Mapping[str, object]
_AWAY = "Start it with `clew server`, or unset CLEW_URL to work on this directory."
_ENDED = "The server of this directory has ended meanwhile: the same again works on its files."


class Wire:
    """A connection pool to one server. Thread-safe.

    Every call raises what the server said, as the error that it was there; Unavailable
    ``server.unreachable`` where no answer came, ``server.untrusted`` where its certificate is not
    taken; Invalid ``server.url`` for a URL that is none. ``ca``: a file with authorities that are
    trusted beside those of the system.
    """

    def __init__(self, url: str, token: str, *, near: bool = False, ca: str = "") -> None:
        self._near = near
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx2.Timeout(None, connect=5.0)
        here = _is_loopback(urlsplit(self.url).hostname or "")
        self._client = httpx2.Client(
            base_url=f"{self.url}/api/v1",
            headers={**headers, "Accept": _MSGPACK},
            timeout=timeout,
            trust_env=not here,
            verify=trusting(ca) if ca and self.url.startswith("https:") else True,
        )

    def get(self, path: str, kind: type[T], /, **parameters: object) -> T:
        """What a route answers, as ``kind`` (a record, or a list of them)."""
        return self._decoded("GET", path, kind, parameters, None, {})

    def post(self, path: str, kind: type[T], body: object, **parameters: object) -> T:
        """The same, for a route that takes a JSON body."""
        content = msgspec.json.encode(body)
        return self._decoded(
            "POST", path, kind, parameters, content, {"Content-Type": "application/json"}
        )

    def delete(self, path: str, kind: type[T], /, **parameters: object) -> T:
        """The same, for what is to go."""
        return self._decoded("DELETE", path, kind, parameters, None, {})

    def upload(
        self, path: str, kind: type[T], content: Iterator[bytes], media_type: str, **values: object
    ) -> T:
        """The same, for a route that takes a stream."""
        return self._decoded("POST", path, kind, values, content, {"Content-Type": media_type})

    def put(self, path: str, kind: type[T], content: Iterator[bytes], **values: object) -> T:
        """The same, for a route that takes a piece of a stream."""
        octets = {"Content-Type": "application/octet-stream"}
        return self._decoded("PUT", path, kind, values, content, octets)

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        silence_s: float | None = None,
        **parameters: object,
    ) -> Iterator[httpx2.Response]:
        """The answer of a route while it comes; ``silence_s`` without a byte is a broken one."""
        timeout = httpx2.Timeout(silence_s, connect=5.0)
        with (
            self._reaching(),
            self._client.stream(
                "GET", path, params=_query(parameters), headers=dict(headers or {}), timeout=timeout
            ) as answer,
        ):
            if answer.is_error:
                answer.read()
                raise _error(answer)
            yield answer

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _decoded(
        self,
        method: str,
        path: str,
        kind: type[T],
        parameters: Parameters,
        content: bytes | Iterator[bytes] | None,
        headers: dict[str, str],
    ) -> T:
        with self._reaching():
            answer = self._client.request(
                method, path, params=_query(parameters), content=content, headers=headers
            )
        if answer.is_error:
            raise _error(answer)
        if kind is str:
            return answer.text  # type: ignore[return-value]  # T is str here
        if kind is bytes:
            return answer.content  # type: ignore[return-value]  # T is bytes here
        return _decode(answer, kind)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        if self._client.is_closed:
            raise closed()
        try:
            yield
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL):
            raise Unavailable(
                "server.unreachable",
                f"{self.url!r} is not the URL of a server.",
                hint="Set CLEW_URL to such as http://127.0.0.1:8686.",
            ) from None
        except httpx2.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise untrusted(self.url, _said(error)) from error
            raise Unavailable(
                "server.unreachable",
                f"No answer from {self.url} ({_said(error)}).",
                hint=_ENDED if self._near else _AWAY,
            ) from error


def _query(parameters: Parameters) -> dict[str, str | list[str]]:
    return {name: _text(value) for name, value in parameters.items() if value is not None}


def _text(value: object) -> str | list[str]:
    if isinstance(value, bool):
        return "true" if value else "false"
    return [str(item) for item in value] if isinstance(value, list | tuple) else str(value)


def _decode(answer: httpx2.Response, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(answer.content, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise Unavailable(
            "server.other_version",
            f"The answer of {answer.url} is not what this version of Clew expects: {error}.",
            hint="Install the same version of Clew here and on the server.",
        ) from None


def _error(answer: httpx2.Response) -> ClewError:
    try:
        said = json.loads(answer.content)["error"]
        return from_wire({name: str(said[name]) for name in ("kind", "code", "message", "hint")})
    except (ValueError, KeyError, TypeError):
        return Unavailable(
            "server.not_clew",
            f"{answer.url} answered {answer.status_code}, and not as a Clew server does.",
            hint="Check CLEW_URL.",
        )


def _said(error: httpx2.TransportError) -> str:
    return str(error) or type(error).__name__


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
