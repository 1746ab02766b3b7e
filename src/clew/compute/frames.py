"""The language between the pool and a worker: frames of four bytes of length and MessagePack.

Knows nothing of what payloads mean or of when a frame is sent.
"""

from __future__ import annotations

import socket

import msgspec

from clew.base.errors import Invalid
from clew.base.lines import LENGTH
from clew.compute.call import CallError

HEADER_BYTES = LENGTH.size
_LARGEST = 0xFFFF_FFFF - 1024 * 1024  # the rest of the frame needs some room


class Run(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    """To the worker: run this call."""

    call_id: str
    entry: str
    label: str
    snapshot_dir: str
    environment: dict[str, str]
    payload: msgspec.Raw


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """To the worker: the listener's answer to the last ask, or its error in wire form."""

    value: msgspec.Raw
    error: dict[str, str] | None


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """From the worker: started, waiting for the first call."""


class Said(msgspec.Struct, frozen=True, array_like=True, tag="said"):
    """From the worker: a message of the call; ``wants_answer`` where it waits."""

    message: msgspec.Raw
    wants_answer: bool


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """From the worker, or made by the pool where the worker cannot speak: the end of a call."""

    value: msgspec.Raw
    error: CallError | None
    duration_s: float
    log: str


ToWorker = Run | Answer
FromWorker = Ready | Said | Done

to_worker = msgspec.msgpack.Decoder(ToWorker)
from_worker = msgspec.msgpack.Decoder(FromWorker)


def _plain(value: object) -> object:
    """NumPy's scalars are numbers to everyone but the encoder."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()  # type: ignore[attr-defined]  # as every scalar of NumPy
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not plain data")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
NOTHING = msgspec.Raw(_encoder.encode(None))


def encode(value: object) -> msgspec.Raw:
    """The bytes of plain data. Raises TypeError, ValueError, OverflowError or RecursionError."""
    return msgspec.Raw(_encoder.encode(value))


def encode_or_refuse(value: object, code: str, what: str) -> msgspec.Raw:
    """The bytes of plain data.

    Raises:
        Invalid: ``code``, where ``what`` holds something that MessagePack does not carry, or is
            larger than 4 GiB.
    """
    try:
        raw = encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(
            code,
            f"{what} cannot travel between processes: {error}.",
            hint="Use None, bool, int of 64 bits, float, str, bytes, lists and dicts of those.",
        ) from error
    if memoryview(raw).nbytes > _LARGEST:
        raise Invalid(
            code,
            f"{what} has more than 4 GiB and cannot travel between processes.",
            hint="Write it to a file or to the store, and send its name.",
        )
    return raw


def decode(raw: msgspec.Raw) -> object:
    """The plain data of :func:`encode`."""
    return msgspec.msgpack.decode(raw)


def pack(frame: ToWorker | FromWorker) -> bytes:
    """A frame with its length in front."""
    body = _encoder.encode(frame)
    return LENGTH.pack(len(body)) + body


def body_bytes(header: bytes | bytearray) -> int:
    """The length of the body that a header announces."""
    size: int = LENGTH.unpack_from(header)[0]
    return size


class Inbox:
    """Bytes as they arrive, frames as they are complete."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> list[bytes]:
        """The bodies of the frames that ``data`` completes, in order."""
        self._bytes += data
        bodies: list[bytes] = []
        at = 0
        while len(self._bytes) - at >= HEADER_BYTES:
            end = at + HEADER_BYTES + LENGTH.unpack_from(self._bytes, at)[0]
            if end > len(self._bytes):
                break
            bodies.append(bytes(memoryview(self._bytes)[at + HEADER_BYTES : end]))
            at = end
        if at:
            del self._bytes[:at]
        return bodies


class Outbox:
    """Frames on their way out over a socket that does not block, which its owner closes."""

    def __init__(self, connection: socket.socket, piece_bytes: int) -> None:
        """``piece_bytes``: what is handed to the system at a time."""
        self._connection = connection
        self._piece_bytes = piece_bytes
        self._bytes = bytearray()

    def write(self, frame: ToWorker) -> bool:
        """Send a frame, as far as the socket takes it; whether something is left to send."""
        self._bytes += pack(frame)
        return self.flush()

    def flush(self) -> bool:
        """Send what is left; whether there is still more. A closed socket swallows it."""
        while self._bytes:
            try:
                sent = self._connection.send(memoryview(self._bytes)[: self._piece_bytes])
            except BlockingIOError:
                return True
            except OSError:  # it died: reading says so
                self._bytes.clear()
                return False
            del self._bytes[:sent]
        return False
