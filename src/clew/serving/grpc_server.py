"""The Open Inference Protocol over gRPC, beside HTTP in a serving process.

Knows no rows and no models: it answers from the same data plane and the same desk as REST, on the
same loop. Needs ``protobuf`` (``pip install "clew[grpc]"``).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson

from clew.base.errors import ClewError
from clew.serving import describing, grpc_calls
from clew.serving.config import MOST_CONNECTIONS
from clew.serving.dataplane import Answer, Call, DataPlane, Route, refusal, status_of
from clew.serving.desk import Desk
from clew.serving.grpc_calls import GrpcApp, Messages, Method, Refused, Rpc, trailers_of
from clew.serving.grpc_health import Health
from clew.serving.http2 import Http2Server
from clew.serving.messages import MESSAGES, DecodeError, fill
from clew.serving.protocol import V2
from clew.serving.questions import TOO_MANY, Questions
from clew.serving.rest import Around, check_parameters
from clew.serving.runtime import Runtime
from clew.serving.streams import Headers
from clew.serving.tensors import InputError
from clew.serving.transcoding import (
    Usual,
    body_of,
    bytes_of,
    maker_of,
    response_of,
    told_of,
    usual_of,
)

SERVICE = "inference.GRPCInferenceService"
PENDING = 64
"""Requests of one stream that may be under way."""
UNTAKEN_BYTES = 4 << 20
"""Answers of one stream that its client has not taken; then no more of its requests are."""
_CODES = {
    400: grpc_calls.INVALID_ARGUMENT,
    401: grpc_calls.UNAUTHENTICATED,
    403: grpc_calls.PERMISSION_DENIED,
    404: grpc_calls.NOT_FOUND,
    409: grpc_calls.FAILED_PRECONDITION,
    413: grpc_calls.RESOURCE_EXHAUSTED,
    429: grpc_calls.RESOURCE_EXHAUSTED,
    500: grpc_calls.INTERNAL,
    503: grpc_calls.UNAVAILABLE,
    504: grpc_calls.DEADLINE_EXCEEDED,
}
_TYPES = {
    f"TYPE_{name}": number
    for number, name in enumerate(
        ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
         "FP32", "FP64", "STRING", "BF16"), 1,
    )
}  # fmt: skip
"""Triton's numbers for datatypes in a model configuration."""
_log = logging.getLogger("clew.serving")
_Act = Callable[[Any], Any]
"""A request → its response, or a future of it."""


class GrpcServer:
    """Answers on a listening socket from a data plane, until it is drained. Belongs to one loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plane: DataPlane,
        desk: Desk,
        *,
        version: str,
        token: str = "",
        limit_bytes: int,
        around: Around | None = None,
        most_connections: int = MOST_CONNECTIONS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._plane, self._desk = plane, desk
        self._questions = Questions(loop)
        self._version = version
        self._bearer = f"Bearer {token}".encode() if token else b""
        self._around = around
        self._makers: dict[str, Headers] = {}
        self._health = Health(lambda: plane.routes, SERVICE)
        app = GrpcApp(self._methods(), limit_bytes=limit_bytes)
        self._server = Http2Server(loop, app, most=most_connections, tls=tls)

    async def start(self, listener: socket.socket) -> None:
        """Accept connections from now on."""
        await self._server.start(listener)

    async def drain(self, limit_s: float = 30.0) -> None:
        """Accept no more (clients are told to go elsewhere), and answer everything asked."""
        self._health.close()
        await self._server.drain(limit_s=limit_s)

    def follow(self) -> None:
        """The routes of the data plane have changed: tell those who watch their health."""
        self._health.look()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.connections)

    @property
    def refused(self) -> int:
        """How many connections were refused, since too many were open."""
        return self._server.refused

    def _methods(self) -> dict[str, Method]:
        acts: dict[str, _Act] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        open_to_all = {"ServerLive", "ServerReady"}
        methods = {
            name: Method(
                _all if name in open_to_all else self._admit,
                partial(self._unary, f"{name}Request", act),
            )
            for name, act in acts.items()
        }
        methods["ModelInfer"] = Method(self._admit, self._infer)
        methods["ModelStreamInfer"] = Method(self._admit, begin=partial(_Asking, self))
        found = {f"/{SERVICE}/{name}": method for name, method in methods.items()}
        return {**found, **self._health.methods()}

    def _unary(self, kind: str, act: _Act, rpc: Rpc, raw: bytes) -> None:
        try:
            found = act(_read(kind, raw))
        except _Asleep as sleeps:
            again = partial(self._unary, kind, act, rpc, raw)
            self._plane.when_awake(sleeps.route, sleeps.version, again, partial(_refuse, rpc))
        except _Wrong as wrong:
            _refuse(rpc, wrong.answer)
        except ClewError as error:
            _refuse(rpc, refusal(status_of(error), error.message))
        else:
            if isinstance(found, asyncio.Future):
                found.add_done_callback(partial(self._came, kind, rpc))
            else:
                rpc.reply(found.SerializeToString())

    def _came(self, kind: str, rpc: Rpc, done: asyncio.Future[Any]) -> None:
        """Answer with what a thread has found."""
        try:
            rpc.reply(done.result().SerializeToString())
        except ClewError as error:
            _refuse(rpc, refusal(status_of(error), error.message))
        except Exception:  # noqa: BLE001 - a bug costs one answer, not the server
            _log.exception("%s could not be answered", kind)
            _refuse(rpc, refusal(500, "The server could not answer this."))

    def _admit(self, rpc: Rpc) -> None:
        """Refuse who may not ask."""
        if not self._bearer:
            return
        given = rpc.asked.metadata.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, self._bearer):
            raise Refused(grpc_calls.UNAUTHENTICATED, "This server asks for a bearer token.")

    # the server ---------------------------------------------------------------------------------

    def _live(self, _: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    def _ready(self, _: Any) -> Any:
        ready = describing.all_ready(self._plane.routes.values())
        return MESSAGES["ServerReadyResponse"](ready=ready)

    def _server_metadata(self, _: Any) -> Any:
        return fill("ServerMetadataResponse", describing.server(self._version))

    def _statistics(self, request: Any) -> Any:
        def told() -> Any:
            found = self._desk.statistics(request.name, request.version)
            return fill("ModelStatisticsResponse", {"model_stats": found})

        return self._ask(told)

    # models -------------------------------------------------------------------------------------

    def _route(self, name: str) -> Route:
        route = self._plane.routes.get(name)
        if route is None:
            raise _Wrong(refusal(404, f"There is no endpoint {name!r}."))
        return route

    def _served(self, request: Any) -> tuple[Route, Runtime]:
        route = self._route(request.name)
        runtime = route.peek(request.version)
        if runtime is None:
            raise _Asleep(route, request.version)
        return route, runtime

    def _model_ready(self, request: Any) -> Any:
        route = self._plane.routes.get(request.name)
        ready = route is not None and route.answers(request.version)
        return MESSAGES["ModelReadyResponse"](ready=ready)

    def _model_metadata(self, request: Any) -> Any:
        return fill("ModelMetadataResponse", describing.metadata(*self._served(request)))

    def _model_config(self, request: Any) -> Any:
        told: dict[str, Any] = describing.configuration(*self._served(request))
        for tensor in [*told["input"], *told["output"]]:
            tensor["data_type"] = _TYPES[tensor["data_type"]]
        return fill("ModelConfigResponse", {"config": told})

    def _index(self, request: Any) -> Any:
        _check_repository(request)
        found = describing.index(self._plane.routes.values(), ready=request.ready)
        return fill("RepositoryIndexResponse", {"models": found})

    def _load(self, request: Any) -> Any:
        _check_repository(request)
        check_parameters("load", dict(request.parameters))
        answer = MESSAGES["RepositoryModelLoadResponse"]
        return self._in_thread(self._desk.load, request.model_name, answer)

    def _unload(self, request: Any) -> Any:
        _check_repository(request)
        check_parameters("unload", dict(request.parameters))
        answer = MESSAGES["RepositoryModelUnloadResponse"]
        return self._in_thread(self._desk.unload, request.model_name, answer)

    def _in_thread(self, act: Callable[[str], None], name: str, answer: type[Any]) -> Any:
        def acted() -> Any:
            act(name)
            return answer()

        return self._ask(acted, slow=True)

    def _ask(self, act: Callable[[], Any], *, slow: bool = False) -> asyncio.Future[Any]:
        future = self._questions.ask(act, slow=slow)
        if future is None:
            raise _Wrong(refusal(429, TOO_MANY))
        return future

    # inference ----------------------------------------------------------------------------------

    def _infer(self, rpc: Rpc, raw: bytes) -> None:
        try:
            request = _read("ModelInferRequest", raw)
        except _Wrong as wrong:
            _refuse(rpc, wrong.answer)
            return
        reply = partial(self._answered, rpc, request)
        call = self.ask(request, rpc, reply, rpc.asked.timeout_s)
        rpc.stream.gone = call.give_up

    def _answered(self, rpc: Rpc, request: Any, answer: Answer) -> None:
        try:
            if answer.status == 200:
                rpc.reply(bytes_of(answer, request), self._told(answer))
            else:
                _refuse(rpc, answer, self._told(answer))
        except Exception:  # noqa: BLE001 - a bug costs one answer, not those beside it
            _log.exception("an answer could not be told")
            _refuse(rpc, refusal(500, "The server could not answer this."))

    def _told(self, answer: Answer) -> Headers:
        """What made an answer, as trailers."""
        identity, told = answer.identity, trailers_of(told_of(answer), once=True)
        if identity is None:
            return told
        maker = self._makers.get(identity.revision)
        if maker is None:
            maker = self._makers[identity.revision] = trailers_of(maker_of(identity))
        return (*maker, *told)

    def ask(
        self, request: Any, rpc: Rpc, reply: Callable[[Answer], None], timeout_s: float = math.inf
    ) -> Call:
        """Give a request to the data plane, which calls back once."""
        if self._around is not None:
            given = _trace_of(rpc.asked.metadata)
            reply = self._around(reply, "ModelInfer", given, request.model_name)
        call = _Call(
            kind=V2,
            endpoint=request.model_name,
            version=request.model_version,
            body=b"",
            head=-1,
            reply=reply,
            key=rpc.asked.metadata.get("clew-key", ""),
            timeout_s=timeout_s,
            headers=rpc.asked.metadata,
        )
        call.usual = usual_of(request)
        try:
            if call.usual is not None:
                call.body, call.head = call.usual.body, call.usual.head
            else:
                call.body, call.head = body_of(request)
        except InputError as error:
            self._plane.reject(call, error.message)
        else:
            self._plane.submit(call)
        return call


class _Call(Call):
    """A request of which the transport knows what it says, where it is of the usual form."""

    usual: Usual | None = None

    def read(self) -> None:
        """As of any other, without reading again what was just written."""
        if self.usual is None:
            Call.read(self)
        else:
            self.wire = self.usual.wire


class _Asking:
    """A stream of requests: answers go in the order of the requests, many of which may be under
    way.
    """

    def __init__(self, server: GrpcServer, rpc: Rpc) -> None:
        self._server, self._rpc = server, rpc
        self._places: deque[list[bytes]] = deque()
        self._ended = False
        self._messages = Messages(rpc, self._take, self._end)
        rpc.stream.drained = self._on

    def _take(self, raw: bytes) -> None:
        place: list[bytes] = []
        self._places.append(place)
        self._hold()
        try:
            request = _read("ModelInferRequest", raw)
        except _Wrong as wrong:
            self._fill(place, MESSAGES["ModelStreamInferResponse"](
                error_message=_said(wrong.answer)))  # fmt: skip
            return
        self._rpc.stream.hold(len(raw))
        reply = partial(self._answered, place, request, len(raw))
        self._server.ask(request, self._rpc, reply)

    def _answered(self, place: list[bytes], request: Any, size_bytes: int, answer: Answer) -> None:
        self._rpc.stream.hold(-size_bytes)
        try:
            response = _streamed(answer, request)
        except Exception:  # noqa: BLE001 - a bug costs one answer, not the stream
            _log.exception("a request of a stream could not be answered")
            said = "The server could not answer this."
            response = MESSAGES["ModelStreamInferResponse"](error_message=said)
        self._fill(place, response)

    def _fill(self, place: list[bytes], response: Any) -> None:
        """An answer is there: it goes out when those before it have."""
        place.append(response.SerializeToString())
        while self._places and self._places[0]:
            self._rpc.send(self._places.popleft()[0])
        self._on()

    def _hold(self) -> None:
        untaken = self._rpc.stream.waiting_bytes > UNTAKEN_BYTES
        self._messages.held = len(self._places) >= PENDING or untaken

    def _on(self) -> None:
        held = self._messages.held
        self._hold()
        if held and not self._messages.held:
            self._messages.go_on()
        if self._ended and not self._places:
            self._ended = False
            self._rpc.finish()

    def _end(self) -> None:
        self._ended = True
        self._on()


def _streamed(answer: Answer, request: Any) -> Any:
    response = MESSAGES["ModelStreamInferResponse"]()
    if answer.status == 200:
        found = response_of(answer, request)
    else:
        found = MESSAGES["ModelInferResponse"](id=request.id)
        response.error_message = _said(answer)
    if request.parameters.get(_WANTS_FINAL) is not None:
        found.parameters["triton_final_response"].bool_param = True
    response.infer_response.CopyFrom(found)
    return response


class _Wrong(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class _Asleep(Exception):
    """What is asked for is not in memory: it comes, or there is none."""

    def __init__(self, route: Route, version: str) -> None:
        super().__init__(route.name)
        self.route, self.version = route, version


_WANTS_FINAL = "triton_enable_empty_final_response"


def _all(_: Rpc) -> None:
    """Everybody may ask: a probe of an orchestrator has no token."""


def _read(kind: str, raw: bytes) -> Any:
    try:
        return MESSAGES[kind].FromString(raw)
    except DecodeError as error:
        raise _Wrong(refusal(400, f"This is not a {kind}: {error}.")) from None


def _trace_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of W3C's trace context, where it has them."""
    return {name: metadata[name] for name in ("traceparent", "tracestate") if name in metadata}


def _refuse(rpc: Rpc, answer: Answer, trailers: Headers = ()) -> None:
    rpc.refuse(_CODES.get(answer.status, grpc_calls.INTERNAL), _said(answer), trailers)


def _said(answer: Answer) -> str:
    return str(orjson.loads(answer.body)["error"])


def _check_repository(request: Any) -> None:
    if request.repository_name:
        raise InputError("There is one repository, without a name: leave repository_name out.")
