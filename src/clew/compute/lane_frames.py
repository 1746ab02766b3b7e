"""The language between the pool of a cluster and its lanes, which run calls on other machines.

Knows nothing of how frames travel. A frame is one MessagePack array.
"""

from __future__ import annotations

import msgspec

from clew.compute.frames import Answer, Done, Run, Said


class Greeting(msgspec.Struct, frozen=True):
    """What a lane is told when it starts.

    ``version`` and ``python`` are those of the engine. ``store`` is the address that payloads
    name; ``place`` is what :func:`clew.compute.elsewhere.identity` says of it there. ``sharing``:
    ``auto``, ``shared`` or ``relay``. ``cpus`` are for the lane alone.
    """

    version: str
    python: str
    store: str
    place: tuple[str, int, int] | None
    sharing: str
    cpus: float
    preload: tuple[str, ...]


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """To the lane: run this call. Paths in it are those of the engine's machine."""

    run: Run
    timeout_s: float | None
    memory_bytes: int | None
    program: tuple[str, ...]


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """To the lane: end this call as cancelled, if it is there."""

    call_id: str


class Reply(msgspec.Struct, frozen=True, array_like=True, tag="reply"):
    """To the lane: the answer to a wish."""

    number: int
    body: bytes


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """From the lane, first: where it is, or why it can do nothing (an error in wire form).

    ``node``: what the cluster calls the machine, '' where that is not known.
    """

    host: str
    direct: bool
    error: dict[str, str] | None
    node: str = ""


class Wish(msgspec.Struct, frozen=True, array_like=True, tag="wish"):
    """From the lane: something of the engine's machine is needed. ``kind``: ``store``, where
    ``body`` is a request to a :class:`clew.store.Relay`, or ``name`` and ``code``, where it is the
    directory of a snapshot whose digest or whose files are wanted.
    """

    number: int
    kind: str
    body: bytes


ToLane = Begin | Answer | Stop | Reply
FromLane = Hello | Said | Done | Wish

_encoder = msgspec.msgpack.Encoder()
to_lane = msgspec.msgpack.Decoder(ToLane)
from_lane = msgspec.msgpack.Decoder(FromLane)


def encode_frame(frame: ToLane | FromLane) -> bytes:
    """A frame as bytes."""
    return _encoder.encode(frame)
