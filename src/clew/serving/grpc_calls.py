"""gRPC over HTTP/2: paths, messages with a length before them, metadata, deadlines and codes.

Knows no models and no messages of any protocol: a call has bytes, and is answered with bytes.
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Mapping

from hpack import HeaderTuple, NeverIndexedHeaderTuple
from msgspec import Struct

from clew.serving.streams import Header, Headers, Stream

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 2, 3, 4, 5
PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 7, 8, 9
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16
SAID_BYTES = 6000
"""Bytes of what is said of an error: it travels as metadata, of which clients take 8 KiB."""
_BARE: Headers = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_HEAD: Headers = (*_BARE, (b"grpc-accept-encoding", b"identity,deflate,gzip"))
_FINE: Headers = ((b"grpc-status", b"0"),)
_NOT_GRPC: Headers = ((b":status", b"415"), (b"content-length", b"0"))
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PREFIX = 5
_SQUEEZED = {"gzip", "deflate"}
_log = logging.getLogger("clew.serving")


class Refused(Exception):
    """A call that is answered with a code and with what is wrong."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code, self.said = code, said


class Asked(Struct, frozen=True):
    """What the headers of a call say. ``metadata``: names in small letters, the last of each."""

    path: str
    metadata: Mapping[str, str]
    timeout_s: float = math.inf
    encoding: str = ""
    is_grpc: bool = True


def read(headers: list[Header]) -> Asked:
    """The call that headers ask for."""
    found = dict(headers)
    kind = found.get(b"content-type", b"")
    metadata = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in found.items()
        if not name.startswith(b":")
    }
    return Asked(
        found.get(b":path", b"").decode("latin-1"),
        metadata,
        _timeout_s(found.get(b"grpc-timeout", b"")),
        metadata.get("grpc-encoding", "identity"),
        found.get(b":method") == b"POST" and kind.startswith(b"application/grpc"),
    )


def _timeout_s(value: bytes) -> float:
    unit = _UNITS.get(value[-1:])
    digits = value[:-1]
    return int(digits) * unit if unit and digits.isdigit() and len(digits) <= 8 else math.inf


Take = Callable[["Rpc", bytes], None]
"""Answers a call by its one message."""


class Method(Struct, frozen=True):
    """What is done at a path. ``begin``: answers a stream of messages; else ``take`` answers one.

    ``admit`` says who may ask: it raises :class:`Refused`.
    """

    admit: Callable[[Rpc], None]
    take: Take | None = None
    begin: Callable[[Rpc], object] | None = None


class Rpc:
    """One call, and its answer."""

    __slots__ = ("_body", "_limit", "_method", "stream")

    def __init__(self, stream: Stream[Asked], method: Method, limit_bytes: int) -> None:
        self.stream, self._method, self._limit = stream, method, limit_bytes
        self._body: bytes | bytearray = b""

    @property
    def asked(self) -> Asked:
        """What its headers say."""
        return self.stream.asked

    # the request, where it is one message -------------------------------------------------------

    def taken(self, part: bytes) -> None:
        """Take a part of it."""
        if len(self._body) + len(part) > self._limit + _PREFIX:
            self.refuse(RESOURCE_EXHAUSTED, _too_large(self._limit))
            return
        if not self._body:  # most come in one part
            self._body = part
        elif isinstance(self._body, bytes):
            self._body = bytearray(self._body)
            self._body += part
        else:
            self._body += part
        self.stream.took(len(part))

    def ended(self) -> None:
        """Answer it, now that it is whole."""
        body, self._body = self._body, b""
        take = self._method.take
        assert take is not None, "that is how it began"
        try:
            if len(body) < _PREFIX or int.from_bytes(body[1:5], "big") != len(body) - _PREFIX:
                raise Refused(INVALID_ARGUMENT, "The call takes one message, which is not here.")
            take(self, self.message(body[0], bytes(memoryview(body)[_PREFIX:])))
        except Refused as refused:
            self.refuse(refused.code, refused.said)

    def message(self, flag: int, raw: bytes) -> bytes:
        """A message, unpacked where it came packed."""
        if not flag:
            return raw
        if self.asked.encoding not in _SQUEEZED:
            raise Refused(
                UNIMPLEMENTED, f"Messages may be packed by gzip or deflate, not {_named(self)}."
            )
        unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # a gzip or a zlib header
        try:
            plain = unpack.decompress(raw, self._limit + 1)
        except zlib.error as error:
            raise Refused(
                INVALID_ARGUMENT, f"The message is not {_named(self)}: {error}."
            ) from None
        if len(plain) > self._limit:
            raise Refused(RESOURCE_EXHAUSTED, _too_large(self._limit))
        if not unpack.eof:
            raise Refused(INVALID_ARGUMENT, f"The {_named(self)} message ends too early.")
        return plain

    def check(self, size: int) -> None:
        """Whether a message may be so large.

        Raises:
            Refused: it is larger.
        """
        if size > self._limit:
            raise Refused(RESOURCE_EXHAUSTED, _too_large(self._limit))

    # the answer ---------------------------------------------------------------------------------

    def reply(self, message: bytes, trailers: Headers = ()) -> None:
        """Answer with one message, and end."""
        self.stream.answer(_HEAD, _framed(message), (*_FINE, *trailers))

    def send(self, message: bytes) -> None:
        """Answer with one message of several."""
        self.stream.send(_HEAD, _framed(message))

    def finish(self) -> None:
        """End: that was all."""
        self.stream.finish(_HEAD, _FINE)

    def refuse(self, code: int, said: str, trailers: Headers = ()) -> None:
        """End with what is wrong; nothing is sent before it where nothing was."""
        said_once = NeverIndexedHeaderTuple(b"grpc-message", quoted(said))
        told: Headers = ((b"grpc-status", b"%d" % code), said_once)
        self.stream.refuse(_BARE, (*told, *trailers))


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _named(rpc: Rpc) -> str:
    return repr(rpc.asked.encoding)


def _too_large(limit_bytes: int) -> str:
    return f"A message may have {limit_bytes} bytes."


def quoted(said: str) -> bytes:
    """Text as ``grpc-message`` has it: what is not printable ASCII by its bytes in hexadecimal."""
    found, size = [], 0
    for character in said:
        raw = character.encode(errors="replace")
        plain = len(raw) == 1 and 0x20 <= raw[0] <= 0x7E and raw != b"%"
        part = raw if plain else b"".join([b"%%%02X" % byte for byte in raw])
        size += len(part)
        if size > SAID_BYTES:
            break
        found.append(part)
    return b"".join(found)


def trailers_of(told: Mapping[str, str], *, once: bool = False) -> Headers:
    """Metadata that goes behind an answer. ``once``: it hardly comes again, and takes no place
    among the headers that a connection abbreviates.
    """
    made = NeverIndexedHeaderTuple if once else HeaderTuple
    return tuple(made(name.encode(), value.encode("latin-1", "replace"))
                 for name, value in told.items())  # fmt: skip


class GrpcApp:
    """Calls by their path. ``limit_bytes``: how large a message may be."""

    def __init__(self, methods: Mapping[str, Method], *, limit_bytes: int) -> None:
        self._methods, self._limit = methods, limit_bytes
        self.read = read

    def begin(self, stream: Stream[Asked]) -> None:
        """A call has begun."""
        asked = stream.asked
        if not asked.is_grpc:
            stream.finish((), _NOT_GRPC)
            return
        method = self._methods.get(asked.path)
        rpc = Rpc(stream, method or _NOWHERE, self._limit)
        if method is None:
            shared = ": shared memory is an extension that is not" * ("SharedMemory" in asked.path)
            rpc.refuse(UNIMPLEMENTED, f"There is no {asked.path!r} here{shared}.")
            return
        try:
            method.admit(rpc)  # before anything is kept of what it sends
        except Refused as refused:
            rpc.refuse(refused.code, refused.said)
            return
        if method.begin is None:
            stream.taken, stream.ended = rpc.taken, rpc.ended
        else:
            method.begin(rpc)


def _nobody(_: Rpc) -> None:
    return None


_NOWHERE = Method(_nobody)


class Messages:
    """The messages of a call that is a stream of them, as they come.

    ``each`` takes one after the other; ``end`` is called after the last.
    """

    def __init__(self, rpc: Rpc, each: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._rpc, self._each, self._end = rpc, each, end
        self._buffer = bytearray()
        self._owed, self._over = 0, False
        self.held = False
        """Whether messages wait, since what takes them has enough."""
        rpc.stream.taken, rpc.stream.ended = self._taken, self._ended
        rpc.stream.expect(False)

    def _taken(self, part: bytes) -> None:
        self._buffer += part
        self._owed += len(part)
        self.go_on()

    def _ended(self) -> None:
        self.go_on()

    def go_on(self) -> None:
        """Give what is whole, unless they are held; then the client may send more."""
        try:
            while not self.held and not self._rpc.stream.closed and self._whole():
                pass
        except Refused as refused:
            self._rpc.refuse(refused.code, refused.said)
            return
        self._rpc.stream.expect(bool(self._buffer) and not self.held)
        if self.held or self._rpc.stream.closed:
            return
        owed, self._owed = self._owed, 0
        self._rpc.stream.took(owed)
        if self._rpc.stream.half and not self._over:
            self._over = True
            if self._buffer:
                self._rpc.refuse(INVALID_ARGUMENT, "The last message ends too early.")
            else:
                self._end()

    def _whole(self) -> bool:
        """Give the next message, where all of it is there."""
        buffer = self._buffer
        if len(buffer) < _PREFIX:
            return False
        size = int.from_bytes(buffer[1:5], "big")
        self._rpc.check(size)
        if len(buffer) < _PREFIX + size:
            return False
        flag, raw = buffer[0], bytes(buffer[_PREFIX : _PREFIX + size])
        del buffer[: _PREFIX + size]
        self._rpc.stream.hold(-_PREFIX - size)
        self._rpc.stream.expect(False)
        self._each(self._rpc.message(flag, raw))
        return True
