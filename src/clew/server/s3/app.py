"""The gateway: each request to the operation that it asks for, each answer back.

Knows ASGI, and which method and query means which operation of S3; what they do is elsewhere. No
framework is in the way: bodies go through threads piece by piece, and memory stays bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio import CapacityLimiter
from msgspec.structs import replace
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from clew.base import clock
from clew.base.errors import ClewError
from clew.base.ids import new_id
from clew.server.guard import Rules, check_stranger
from clew.server.s3.answers import XML, Answer, Stream
from clew.server.s3.committing import Lanes, Rooms
from clew.server.s3.errors import NotModified, S3Error, as_s3, not_implemented
from clew.server.s3.incoming import Incoming, read_promise
from clew.server.s3.multipart import Multipart
from clew.server.s3.objects import IN_MEMORY, Objects
from clew.server.s3.request import Asked, read_request
from clew.server.s3.shelves import Buckets
from clew.server.s3.signing import Signature, is_signed, verify
from clew.server.s3.xml import error_document

Found = TypeVar("Found")
MOST_XML = 4 << 20
_PIECE = 1 << 20
_BREATH_S = 5.0
"""After so long a client that waits for a long operation is shown a sign of life."""
_READERS = 32
_WRITERS = 32
_NOT_HERE = frozenset(
    {
        *("accelerate", "acl", "analytics", "append", "attributes", "cors", "encryption"),
        *("intelligent-tiering", "inventory", "legal-hold", "lifecycle", "logging", "metrics"),
        *("notification", "object-lock", "ownershipControls", "partNumber", "policy"),
        *("policyStatus", "publicAccessBlock", "rename", "replication", "requestPayment"),
        *("restore", "retention", "select", "tagging", "torrent", "versions", "website"),
    }
)
_SAFE = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""An object may be a page with scripts: it must not act in the name of this server's own pages."""
_log = logging.getLogger("clew.server")


class Gateway:
    """An ASGI application that speaks S3.

    The token of ``rules`` is the secret key; where there is none, signatures are not compared.
    With ``gather_s`` the writes of a branch make one commit when it was quiet for so many seconds.
    """

    def __init__(self, rooms: Rooms, rules: Rules, *, gather_s: float = 0) -> None:
        lanes = Lanes(rooms, gather_s)
        if gather_s:
            rooms = replace(rooms, present=lanes.gatherer.present)
        lanes.gatherer.start()
        self._lanes = lanes
        self._rules = rules
        self._buckets = Buckets(rooms)
        self._objects = Objects(rooms, lanes)
        self._multipart = Multipart(rooms, lanes, self._objects)
        self._readers = CapacityLimiter(_READERS)
        self._writers = CapacityLimiter(_WRITERS)

    def close(self) -> None:
        """End the commits in which writes are gathered, when the server has stopped."""
        self._lanes.gatherer.close()

    def answers(self, scope: Scope) -> bool:
        """Whether a request on a shared port is one of an S3 client: those are signed."""
        if scope["type"] != "http":
            return False
        authorization = Headers(scope=scope).get("authorization", "")
        return is_signed(authorization, scope["query_string"].decode("latin-1"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        call = _Call(scope, receive, send)
        try:
            asked = read_request(scope)
            self._check_stranger(scope, asked)
            signature = verify(asked, self._rules.token, clock.now())
            await self._dispatch(call, asked, signature)
        except NotModified as unchanged:
            await call.send(Answer(status=304, headers=unchanged.headers))
        except S3Error as error:
            await call.refuse(error)
        except ClewError as error:
            await call.refuse(as_s3(error))
        except _GoneError:
            return
        except Exception:
            _log.exception("S3 request %s failed", call.id)
            if call.begun:
                raise
            await call.refuse(S3Error("InternalError", "The server failed; see its log.", 500))

    def _check_stranger(self, scope: Scope, asked: Asked) -> None:
        """No page of another site can set the header that signs; but a form can name any URL."""
        host = f"{asked.bucket}.localhost"
        named = asked.header("host")
        plain = named.replace(host, "localhost", 1) if named.startswith(host) else named
        forms = "authorization" not in asked.headers
        check_stranger(Request(scope), plain, self._rules, forms=forms)

    async def _dispatch(self, call: _Call, asked: Asked, signature: Signature | None) -> None:
        here = _NOT_HERE & asked.query.keys()
        if "tagging" in here and asked.key and asked.method == "GET":
            await call.send(Answer(headers=XML, body=_NO_TAGS))
            return
        if "uploadId" in asked.query:
            here -= {"partNumber"}
        if here:
            raise not_implemented(f"?{min(here)}")
        if asked.key:
            await self._object(call, asked, signature)
        elif asked.bucket:
            await self._bucket(call, asked, signature)
        elif asked.method == "GET":
            await self._reply(call, partial(self._buckets.every, asked))
        else:
            raise _no_method(asked)

    async def _bucket(self, call: _Call, asked: Asked, signature: Signature | None) -> None:
        query, ops = asked.query, self._buckets
        if asked.method == "POST" and "delete" in query:
            body = await self._document(call, asked, signature)
            await self._reply(call, partial(self._objects.delete_many, asked, body))
            return
        act: Callable[[Asked], Answer]
        if asked.method == "GET" and "location" in query:
            act = ops.location
        elif asked.method == "GET" and "versioning" in query:
            act = ops.versioning
        elif asked.method == "GET" and "uploads" in query:
            act = self._multipart.uploads
        elif asked.method in {"PUT", "DELETE"} and "versioning" in query:
            raise not_implemented("?versioning (every commit is a version already)")
        elif asked.method in {"GET", "HEAD", "PUT", "DELETE"}:
            act = {"GET": ops.keys, "HEAD": ops.head, "PUT": ops.create, "DELETE": ops.delete}[
                asked.method
            ]
        else:
            raise _no_method(asked)
        await self._reply(call, partial(act, asked))

    async def _object(self, call: _Call, asked: Asked, signature: Signature | None) -> None:
        if "uploadId" in asked.query or "uploads" in asked.query:
            await self._upload(call, asked, signature)
        elif asked.method in {"GET", "HEAD"}:
            wanted = partial(self._objects.get, asked, body=asked.method == "GET")
            await self._reply(call, wanted)
        elif asked.method == "PUT" and "x-amz-copy-source" in asked.headers:
            await self._reply(call, partial(self._objects.copy, asked))
        elif asked.method == "PUT":
            await self._put(call, asked, signature)
        elif asked.method == "DELETE":
            await self._reply(call, partial(self._objects.delete, asked))
        else:
            raise _no_method(asked)

    async def _upload(self, call: _Call, asked: Asked, signature: Signature | None) -> None:
        ops, method = self._multipart, asked.method
        if "uploads" in asked.query and method == "POST":
            await self._reply(call, partial(ops.begin, asked))
        elif method == "POST":
            body = await self._document(call, asked, signature)
            await self._reply(call, partial(ops.complete, asked, body), slow=True)
        elif method == "PUT" and "x-amz-copy-source" in asked.headers:
            await self._reply(call, partial(ops.copy_part, asked), slow=True)
        elif method == "PUT":
            incoming, _ = await self._incoming(call, asked, signature)
            await self._reply(call, partial(ops.put_part, asked, incoming), self._writers)
        elif method == "GET":
            await self._reply(call, partial(ops.parts, asked))
        elif method == "DELETE":
            await self._reply(call, partial(ops.give_up, asked))
        else:
            raise _no_method(asked)

    async def _put(self, call: _Call, asked: Asked, signature: Signature | None) -> None:
        incoming, length = await self._incoming(call, asked, signature)
        await self._reply(call, partial(self._objects.put, asked, incoming, length), self._writers)

    async def _incoming(
        self, call: _Call, asked: Asked, signature: Signature | None
    ) -> tuple[Incoming, int | None]:
        """The body to be read in a thread. A small one is waited for here, so that a slow client
        holds no thread.
        """
        promise = read_promise(asked)
        more = call.more
        if asked.length is not None and asked.length <= IN_MEMORY:
            more = iter((await call.whole(IN_MEMORY), b"")).__next__
        return Incoming(more, promise, signature), promise.length

    async def _document(self, call: _Call, asked: Asked, signature: Signature | None) -> bytes:
        if (asked.length or 0) > MOST_XML:
            raise S3Error("MaxMessageLengthExceeded", f"At most {MOST_XML} bytes of XML.")
        promise = read_promise(asked)
        whole = iter((await call.whole(MOST_XML), b""))
        incoming = Incoming(whole.__next__, promise, signature)
        return await anyio.to_thread.run_sync(incoming.read, limiter=self._readers)

    async def _reply(
        self,
        call: _Call,
        act: Callable[[], Answer],
        limiter: CapacityLimiter | None = None,
        *,
        slow: bool = False,
    ) -> None:
        limiter = limiter or self._readers
        if slow:
            await call.send_slowly(partial(anyio.to_thread.run_sync, act, limiter=self._writers))
        else:
            await call.send(await anyio.to_thread.run_sync(act, limiter=limiter), limiter)


class _GoneError(Exception):
    """The client went away: there is nobody to answer."""


class _Call:
    """One request and its answer, on the wire."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = new_id()
        self.begun = False
        self._resource = scope["path"]
        self._head = scope["method"] == "HEAD"
        self._receive = receive
        self._send = send
        self._through = not _has_body(scope)

    def more(self) -> bytes:
        """More of the body, for a thread; b'' at its end."""
        return anyio.from_thread.run(self._gather)

    async def whole(self, most: int) -> bytes:
        """The whole body, where it is not longer than promised."""
        pieces, size = [], 0
        while piece := await self._gather():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise S3Error("EntityTooLarge", f"At most {most} bytes are taken here.")
        return b"".join(pieces)

    async def send(self, answer: Answer, limiter: CapacityLimiter | None = None) -> None:
        """The answer; a stream is read in threads and closed."""
        body = answer.body
        size = body.size_bytes if isinstance(body, Stream) else len(body)
        await self._start(answer, {"Content-Length": str(size)})
        if isinstance(body, Stream):
            await self._stream(body, limiter)
        else:
            await self._end(b"" if self._head else body)

    async def send_slowly(self, act: Callable[[], Awaitable[Answer]]) -> None:
        """What takes long: spaces until it is there, so that nobody gives up waiting.

        Then the status was sent already, and an error is told in the body, as S3 does.
        """
        done: list[Answer | S3Error] = []
        over = anyio.Event()

        async def work() -> None:
            try:
                done.append(await act())
            except S3Error as error:
                done.append(error)
            except ClewError as error:
                done.append(as_s3(error))
            finally:
                over.set()

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            prolog = b""
            while not over.is_set():
                with anyio.move_on_after(_BREATH_S):
                    await over.wait()
                    break
                if not prolog:
                    prolog = _PROLOG
                    await self._start(Answer(headers=XML), {})
                    await self._piece(prolog)
                await self._piece(b" ")
        answer = done[0]
        if not prolog:
            if isinstance(answer, S3Error):
                raise answer
            await self.send(answer)
            return
        told = self._told(answer) if isinstance(answer, S3Error) else answer.body
        assert isinstance(told, bytes)
        await self._end(told.removeprefix(_PROLOG))

    async def refuse(self, error: S3Error) -> None:
        """An error. What was not read of a body makes the connection useless."""
        if self.begun:
            raise error
        headers = {**XML, **error.headers}
        if not self._through:
            headers["Connection"] = "close"
        body = b"" if self._head else self._told(error)
        await self.send(Answer(status=error.status, headers=headers, body=body))

    def _told(self, error: S3Error) -> bytes:
        return error_document(error.code, error.message, self._resource, self.id)

    async def _gather(self) -> bytes:
        """The next piece of the body, of a size that is worth a change of threads."""
        pieces, size = [], 0
        while not self._through and size < _PIECE:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            piece = message.get("body", b"")
            pieces.append(piece)
            size += len(piece)
            self._through = not message.get("more_body", False)
        return b"".join(pieces)

    async def _start(self, answer: Answer, headers: dict[str, str]) -> None:
        self.begun = True
        sent = {**_SAFE, "x-amz-request-id": self.id, "Server": "Clew", **headers, **answer.headers}
        if answer.status in {204, 304}:
            sent.pop("Content-Length", None)
        await self._send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [
                    (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
                    for name, value in sent.items()
                ],
            }
        )

    async def _stream(self, body: Stream, limiter: CapacityLimiter | None) -> None:
        left = body.size_bytes
        try:
            while left and not self._head:
                read = partial(body.source.read, min(_PIECE, left))
                piece = await anyio.to_thread.run_sync(read, limiter=limiter)
                if not piece:
                    raise EOFError("a file is shorter than its tree says")
                left -= len(piece)
                await self._piece(piece)
        finally:
            body.source.close()
        await self._end(b"")

    async def _piece(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _end(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data})


_PROLOG = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_NO_TAGS = _PROLOG + b"<Tagging><TagSet></TagSet></Tagging>"


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _no_method(asked: Asked) -> S3Error:
    return S3Error("MethodNotAllowed", f"{asked.method} means nothing here.", 405)
