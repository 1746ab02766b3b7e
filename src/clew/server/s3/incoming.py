"""Bodies that come in: unframed, checked against all that was promised, never whole in memory.

Knows the framing ``aws-chunked`` and what a client may promise of a body; nothing of where it goes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterator

from msgspec import Struct

from clew.server.s3 import checksums
from clew.server.s3.errors import S3Error
from clew.server.s3.request import Asked
from clew.server.s3.signing import Signature, mismatch

_STREAMING = "STREAMING-"
_MAX_LINE = 8192
_MAX_CHUNK = 1 << 30
_PREFIX = "x-amz-checksum-"


class Received(Struct, frozen=True, kw_only=True):
    """What was found of a body that is through."""

    size_bytes: int
    md5: str
    checksums: dict[str, str]
    """By algorithm, in base 64: those that the client sent."""


class Promise(Struct, frozen=True, kw_only=True):
    """What a client says of a body before it comes. ``length``: of the content, without framing."""

    length: int | None
    framed: bool
    signed_chunks: bool
    sha256: str
    md5: str
    checksums: dict[str, str]
    trailer: str
    """The checksum that comes behind the body; '' where none does."""


def read_promise(asked: Asked) -> Promise:
    """What the headers of a request say of its body.

    Raises:
        S3Error: ``InvalidDigest``, ``InvalidRequest``, ``MissingContentLength``.
    """
    payload = asked.header("x-amz-content-sha256")
    framed = payload.startswith(_STREAMING)
    decoded = asked.header("x-amz-decoded-content-length")
    if framed and not decoded.isdigit():
        raise S3Error("MissingContentLength", "x-amz-decoded-content-length is missing.", 411)
    if not framed and asked.length is None and "transfer-encoding" not in asked.headers:
        raise S3Error("MissingContentLength", "Content-Length is missing.", 411)
    trailer = asked.header("x-amz-trailer").strip().lower().removeprefix(_PREFIX)
    promised = {
        name: asked.header(_PREFIX + name)
        for name in checksums.ALGORITHMS
        if asked.header(_PREFIX + name)
    }
    for name, value in promised.items():
        _check_form(value, len(checksums.new(name).digest()), f"{_PREFIX}{name}")
    if trailer and (trailer not in checksums.ALGORITHMS or not framed):
        raise S3Error("InvalidRequest", f"The trailer {trailer!r} is not one that S3 has.")
    md5 = asked.header("content-md5")
    if "content-md5" in asked.headers:
        _check_form(md5, 16, "Content-MD5")
    plain = payload if len(payload) == 64 else ""
    return Promise(
        length=int(decoded) if framed else asked.length,
        framed=framed,
        signed_chunks=framed and not payload.startswith(f"{_STREAMING}UNSIGNED"),
        sha256=plain,
        md5=md5,
        checksums=promised,
        trailer=trailer,
    )


class Incoming:
    """A body as a stream to read once. Owned by one thread.

    :meth:`read` raises S3Error as soon as something does not hold, and at the latest where the
    body ends: whoever has read it to its end (b'') may keep what was read.
    """

    def __init__(
        self, more: Callable[[], bytes], promise: Promise, signature: Signature | None
    ) -> None:
        self._promise = promise
        self._pieces = _content(more, promise, signature, self._trail)
        self._held = memoryview(b"")
        self._size = 0
        self._md5 = checksums.new("md5")
        self._sha256 = hashlib.sha256() if promise.sha256 else None
        named = {*promise.checksums, *([promise.trailer] if promise.trailer else [])}
        self._sums = {name: checksums.new(name) for name in sorted(named)}
        self._trailed = ""
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, b'' only at the end; all that is left without a size."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if not self._held and not self._ended:
            self._held = memoryview(self._next())
        piece = bytes(self._held[:size])
        self._held = self._held[size:]
        return piece

    def received(self) -> Received:
        """What came, once it is through."""
        assert self._ended
        found = {name: checksums.encoded(one.digest()) for name, one in self._sums.items()}
        return Received(size_bytes=self._size, md5=self._md5.digest().hex(), checksums=found)

    def _next(self) -> bytes:
        piece = next(self._pieces, b"")
        if not piece:
            self._ended = True
            self._check()
            return b""
        self._size += len(piece)
        if self._promise.length is not None and self._size > self._promise.length:
            raise _incomplete(self._size, self._promise.length)
        self._md5.update(piece)
        if self._sha256 is not None:
            self._sha256.update(piece)
        for one in self._sums.values():
            one.update(piece)
        return piece

    def _trail(self, name: str, value: str) -> None:
        if name == _PREFIX + self._promise.trailer:
            self._trailed = value

    def _check(self) -> None:
        promise, found = self._promise, self.received()
        if promise.length is not None and found.size_bytes != promise.length:
            raise _incomplete(found.size_bytes, promise.length)
        if self._sha256 is not None and not _same(self._sha256.hexdigest(), promise.sha256):
            raise S3Error(
                "XAmzContentSHA256Mismatch", "The body is not what x-amz-content-sha256 says."
            )
        if promise.md5 and base64.b64decode(promise.md5).hex() != found.md5:
            raise S3Error("BadDigest", "The body is not what Content-MD5 says.")
        promised = dict(promise.checksums)
        if promise.trailer:
            promised[promise.trailer] = self._trailed
        for name, value in promised.items():
            if found.checksums[name] != value:
                raise S3Error("BadDigest", f"The body is not what {_PREFIX}{name} says.")


def _content(
    more: Callable[[], bytes],
    promise: Promise,
    signature: Signature | None,
    trail: Callable[[str, str], None],
) -> Iterator[bytes]:
    """The content of a body, with its framing taken off."""
    if promise.framed:
        return _Frames(more, signature if promise.signed_chunks else None, trail).pieces()
    return iter(more, b"")


class _Frames:
    """Lines of ``SIZE[;chunk-signature=…]`` before each chunk, 0 at the end, then trailers."""

    def __init__(
        self,
        more: Callable[[], bytes],
        signature: Signature | None,
        trail: Callable[[str, str], None],
    ) -> None:
        self._more = more
        self._signature = signature if signature is not None and signature.key else None
        self._last = signature.value if signature is not None else ""
        self._trail = trail
        self._buffer = bytearray()

    def pieces(self) -> Iterator[bytes]:
        """The content, piece by piece; a signed chunk is handed on once its signature holds.

        An unsigned one goes on as it comes.
        """
        while True:
            size, signed = self._header()
            if size == 0:
                break
            if self._signature is not None:
                data = b"".join(self._data(size))
                self._verify(signed, hashlib.sha256(data).hexdigest())
                yield data
            else:
                yield from self._data(size)
            if self._line():
                raise _unframed("a chunk is longer than it says")
        self._verify(signed, hashlib.sha256(b"").hexdigest())
        self._trailer()

    def _header(self) -> tuple[int, str]:
        text, _, extension = self._line().partition(b";")
        name, _, signed = extension.partition(b"=")
        try:
            size = int(text, 16)
        except ValueError:
            raise _unframed(f"{bytes(text[:20])!r} is not the size of a chunk") from None
        most = _MAX_CHUNK if self._signature is None else 64 << 20
        if not 0 <= size <= most:
            raise _unframed(f"a chunk has {size} bytes")
        return size, signed.decode("latin-1") if name == b"chunk-signature" else ""

    def _verify(self, signed: str, sha256: str) -> None:
        if self._signature is None:
            return
        expected = self._signature.of_chunk(self._last, sha256)
        if not _same(expected, signed):
            raise mismatch("The signature of a chunk does not fit.")
        self._last = expected

    def _trailer(self) -> None:
        lines = []
        signed = ""
        while line := self._line(ended=True):
            name, _, value = line.decode("latin-1").partition(":")
            name, value = name.strip().lower(), value.strip()
            if name == "x-amz-trailer-signature":
                signed = value
            else:
                lines.append(f"{name}:{value}\n")
                self._trail(name, value)
        if self._signature is not None and lines:
            sha256 = hashlib.sha256("".join(lines).encode("latin-1")).hexdigest()
            if not _same(self._signature.of_trailer(self._last, sha256), signed):
                raise mismatch("The signature of the trailing headers does not fit.")

    def _line(self, *, ended: bool = False) -> bytes:
        """A line without its end; with ``ended`` the body may stop instead."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _MAX_LINE:
                raise _unframed("a line has no end")
            piece = self._more()
            if not piece:
                if ended and not self._buffer:
                    return b""
                raise _unframed("the body stops in the middle")
            self._buffer += piece
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _data(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._buffer:
                self._buffer += self._more()
                if not self._buffer:
                    raise _unframed("the body stops in the middle")
            piece = bytes(self._buffer[:size])
            del self._buffer[: len(piece)]
            size -= len(piece)
            yield piece


def _check_form(value: str, size: int, name: str) -> None:
    try:
        right = len(base64.b64decode(value, validate=True)) == size
    except (binascii.Error, ValueError):
        right = False
    if not right:
        raise S3Error("InvalidDigest", f"{name} is {value!r}, which is not its form.")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _incomplete(size: int, promised: int) -> S3Error:
    return S3Error("IncompleteBody", f"The body has {size} bytes, not {promised}.")


def _unframed(why: str) -> S3Error:
    return S3Error("IncompleteBody", f"The chunks of the body cannot be read: {why}.")
