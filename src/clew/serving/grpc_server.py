"""The Open Inference Protocol over gRPC, beside HTTP in a serving process.

Knows no rows and no models: it answers from the same data plane and the same desk as REST. Needs
``grpcio`` (``pip install "clew[grpc]"``). Requests are parsed here and not by grpcio, so that bytes
that are no message are the client's error.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import orjson

from clew.base.errors import ClewError
from clew.serving import describing
from clew.serving.dataplane import Answer, Call, DataPlane, Route, not_there, refusal, status_of
from clew.serving.desk import Desk
from clew.serving.messages import MESSAGES, DecodeError, fill
from clew.serving.protocol import V2
from clew.serving.rest import Around, check_parameters
from clew.serving.runtime import Runtime
from clew.serving.tensors import InputError
from clew.serving.transcoding import body_of, response_of, told_of

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
PENDING = 64
"""Requests of one stream that may be under way."""
_SAID = 2000
"""Characters of an error: it travels as metadata, of which clients take 8 KiB."""
_Code = grpc.StatusCode
_CODES = {
    400: _Code.INVALID_ARGUMENT,
    401: _Code.UNAUTHENTICATED,
    403: _Code.PERMISSION_DENIED,
    404: _Code.NOT_FOUND,
    409: _Code.FAILED_PRECONDITION,
    413: _Code.RESOURCE_EXHAUSTED,
    429: _Code.RESOURCE_EXHAUSTED,
    500: _Code.INTERNAL,
    503: _Code.UNAVAILABLE,
    504: _Code.DEADLINE_EXCEEDED,
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
_Act = Callable[[Any, Any], Awaitable[Any]]


class _Refused(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class GrpcServer:
    """Answers on an address from a data plane, until it is drained. Belongs to one event loop.

    Several processes may serve one address: the kernel gives each a share of the connections.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plane: DataPlane,
        desk: Desk,
        *,
        address: str,
        version: str,
        token: str = "",
        limit_bytes: int,
        around: Around | None = None,
    ) -> None:
        self._loop, self._plane, self._desk = loop, plane, desk
        self._address, self._version, self._limit = address, version, limit_bytes
        self._bearer = f"Bearer {token}".encode() if token else b""
        self._around = around

    async def start(self) -> None:
        """Accept connections from now on."""
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", self._limit),
                ("grpc.max_send_message_length", -1),
            ]
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, self._methods()),
                grpc.method_handlers_generic_handler(
                    HEALTH, {"Check": self._unary("HealthCheckRequest", self._health, open=True)}
                ),
            )
        )
        self._server.add_insecure_port(self._address)
        await self._server.start()

    async def drain(self, limit_s: float = 30.0) -> None:
        """Accept no more (clients are told to go elsewhere), and answer everything asked."""
        await self._server.stop(limit_s)

    def _methods(self) -> dict[str, Any]:
        acts: dict[str, _Act] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelInfer": self._infer,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        open_to_all = {"ServerLive", "ServerReady"}
        methods = {
            name: self._unary(f"{name}Request", act, open=name in open_to_all)
            for name, act in acts.items()
        }
        stream = grpc.stream_stream_rpc_method_handler(self._stream)
        return {**methods, "ModelStreamInfer": stream}

    def _unary(self, kind: str, act: _Act, *, open: bool = False) -> Any:
        async def handle(raw: bytes, context: Any) -> bytes:
            try:
                if not open:
                    self._admit(context)
                answer = await act(_read(kind, raw), context)
            except _Refused as refused:
                wrong = refused.answer
            except ClewError as error:
                wrong = refusal(status_of(error), error.message)
            except Exception:  # noqa: BLE001 - a bug costs one answer, not the server
                _log.exception("%s could not be answered", kind)
                wrong = refusal(500, "The server could not answer this.")
            else:
                return bytes(answer.SerializeToString())
            await context.abort(
                _CODES.get(wrong.status, _Code.INTERNAL), _said(wrong), told_of(wrong)
            )
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(handle)

    def _admit(self, context: Any) -> None:
        """Refuse who may not ask."""
        if not self._bearer:
            return
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        given = given if isinstance(given, bytes) else given.encode()
        if not hmac.compare_digest(given, self._bearer):
            raise _Refused(refusal(401, "This server asks for a bearer token."))

    # the server ---------------------------------------------------------------------------------

    async def _live(self, _: Any, __: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, _: Any, __: Any) -> Any:
        ready = describing.all_ready(self._plane.routes.values())
        return MESSAGES["ServerReadyResponse"](ready=ready)

    async def _health(self, request: Any, _: Any) -> Any:
        """The health protocol of gRPC itself: of the server, or of an endpoint by its name."""
        if request.service in {"", SERVICE}:
            ready = describing.all_ready(self._plane.routes.values())
        else:
            ready = self._route(request.service).ready
        return MESSAGES["HealthCheckResponse"](status=1 if ready else 2)

    async def _server_metadata(self, _: Any, __: Any) -> Any:
        return fill("ServerMetadataResponse", describing.server(self._version))

    async def _statistics(self, request: Any, _: Any) -> Any:
        found = await self._in_thread(self._desk.statistics, request.name, request.version)
        return fill("ModelStatisticsResponse", {"model_stats": found})

    # models -------------------------------------------------------------------------------------

    def _route(self, name: str) -> Route:
        route = self._plane.routes.get(name)
        if route is None:
            raise _Refused(refusal(404, f"There is no endpoint {name!r}."))
        return route

    def _served(self, request: Any) -> tuple[Route, Runtime]:
        route = self._route(request.name)
        runtime = route.peek(request.version)
        if runtime is None:
            raise _Refused(not_there(route, request.version))
        return route, runtime

    async def _model_ready(self, request: Any, _: Any) -> Any:
        route = self._plane.routes.get(request.name)
        ready = route is not None and route.peek(request.version) is not None
        return MESSAGES["ModelReadyResponse"](ready=ready)

    async def _model_metadata(self, request: Any, _: Any) -> Any:
        return fill("ModelMetadataResponse", describing.metadata(*self._served(request)))

    async def _model_config(self, request: Any, _: Any) -> Any:
        told: dict[str, Any] = describing.configuration(*self._served(request))
        for tensor in [*told["input"], *told["output"]]:
            tensor["data_type"] = _TYPES[tensor["data_type"]]
        return fill("ModelConfigResponse", {"config": told})

    async def _index(self, request: Any, _: Any) -> Any:
        _check_repository(request)
        found = describing.index(self._plane.routes.values(), ready=request.ready)
        return fill("RepositoryIndexResponse", {"models": found})

    async def _load(self, request: Any, _: Any) -> Any:
        _check_repository(request)
        check_parameters("load", dict(request.parameters))
        await self._in_thread(self._desk.load, request.model_name)
        return MESSAGES["RepositoryModelLoadResponse"]()

    async def _unload(self, request: Any, _: Any) -> Any:
        _check_repository(request)
        check_parameters("unload", dict(request.parameters))
        await self._in_thread(self._desk.unload, request.model_name)
        return MESSAGES["RepositoryModelUnloadResponse"]()

    async def _in_thread(self, act: Callable[..., Any], *given: str) -> Any:
        return await self._loop.run_in_executor(None, act, *given)

    # inference ----------------------------------------------------------------------------------

    async def _infer(self, request: Any, context: Any) -> Any:
        left_s = context.time_remaining()
        left_s = math.inf if left_s is None else left_s
        answer = await self._answer(request, context, left_s)
        if answer.status != 200:
            raise _Refused(answer)
        context.set_trailing_metadata(told_of(answer))
        return response_of(answer, request)

    async def _answer(self, request: Any, context: Any, timeout_s: float = math.inf) -> Answer:
        """The answer of the data plane. A client that has left, or whose deadline is over, is
        waited for no longer.
        """
        future: asyncio.Future[Answer] = self._loop.create_future()

        def reply(answer: Answer) -> None:
            if not future.done():
                future.set_result(answer)

        told: Callable[[Answer], None] = reply
        if self._around is not None:
            given = _trace_of(context)
            told = self._around(reply, "ModelInfer", given, request.model_name)
        call = Call(
            kind=V2,
            endpoint=request.model_name,
            version=request.model_version,
            body=b"",
            head=-1,
            reply=told,
            timeout_s=timeout_s,
        )
        try:
            call.body, call.head = body_of(request)
        except InputError as error:
            self._plane.reject(call, error.message)
        else:
            self._plane.submit(call)
        return await future

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Answers in the order of the requests, many of which may be under way."""
        try:
            self._admit(context)
        except _Refused as refused:
            await context.abort(_CODES[refused.answer.status], _said(refused.answer))
        pending = asyncio.Queue[asyncio.Task[bytes] | None](PENDING)
        reader = asyncio.create_task(self._take(requests, context, pending))
        try:
            while (task := await pending.get()) is not None:
                yield await task
        finally:
            reader.cancel()

    async def _take(
        self,
        requests: AsyncIterator[bytes],
        context: Any,
        pending: asyncio.Queue[asyncio.Task[bytes] | None],
    ) -> None:
        try:
            async for raw in requests:
                await pending.put(asyncio.create_task(self._one_of_stream(raw, context)))
        finally:
            await pending.put(None)

    async def _one_of_stream(self, raw: bytes, context: Any) -> bytes:
        response = MESSAGES["ModelStreamInferResponse"]()
        try:
            request = _read("ModelInferRequest", raw)
            answer = await self._answer(request, context)
            if answer.status == 200:
                found = response_of(answer, request)
            else:
                found = MESSAGES["ModelInferResponse"](id=request.id)
                response.error_message = _said(answer)
            if request.parameters.get(_WANTS_FINAL) is not None:
                found.parameters["triton_final_response"].bool_param = True
            response.infer_response.CopyFrom(found)
        except _Refused as refused:
            response.error_message = _said(refused.answer)
        except Exception:  # noqa: BLE001 - a bug costs one answer, not the stream
            _log.exception("a request of a stream could not be answered")
            response.error_message = "The server could not answer this."
        return bytes(response.SerializeToString())


_WANTS_FINAL = "triton_enable_empty_final_response"


def _read(kind: str, raw: bytes) -> Any:
    try:
        return MESSAGES[kind].FromString(raw)
    except DecodeError as error:
        raise _Refused(refusal(400, f"This is not a {kind}: {error}.")) from None


def _trace_of(context: Any) -> dict[str, str]:
    """The metadata of W3C's trace context, where it has them."""
    given = dict(context.invocation_metadata() or ())
    return {name: str(given[name]) for name in ("traceparent", "tracestate") if name in given}


def _said(answer: Answer) -> str:
    return str(orjson.loads(answer.body)["error"])[:_SAID]


def _check_repository(request: Any) -> None:
    if request.repository_name:
        raise InputError("There is one repository, without a name: leave repository_name out.")
