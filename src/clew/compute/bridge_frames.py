"""The language between the engine and the bridge to a cluster.

Knows nothing of what lanes say: their frames pass through as they are.
"""

from __future__ import annotations

import socket

import msgspec

from clew.base import lines
from clew.compute.demands import Demand, Machine


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """To the bridge: start a lane where this is to be had."""

    number: int
    demand: Demand
    greeting: bytes


class Tell(msgspec.Struct, frozen=True, array_like=True, tag="tell"):
    """To the bridge: frames for a lane."""

    number: int
    frames: list[bytes]


class Close(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """To the bridge: end a lane; nothing of it is wanted any more."""

    number: int


class Joined(msgspec.Struct, frozen=True, array_like=True, tag="joined"):
    """From the bridge, first: it is in the cluster, which has these machines."""

    machines: list[Machine]


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """From the bridge, in place of that: why not, an error in wire form. It ends."""

    error: dict[str, str]


class Machines(msgspec.Struct, frozen=True, array_like=True, tag="machines"):
    """From the bridge: the machines are now these."""

    machines: list[Machine]


class Heard(msgspec.Struct, frozen=True, array_like=True, tag="heard"):
    """From the bridge: frames of a lane, in order."""

    number: int
    frames: list[bytes]


class Gone(msgspec.Struct, frozen=True, array_like=True, tag="gone"):
    """From the bridge: a lane is lost. ``unborn``: it never said a word."""

    number: int
    why: str
    unborn: bool


ToBridge = Open | Tell | Close
FromBridge = Joined | Refused | Machines | Heard | Gone

to_bridge = msgspec.msgpack.Decoder(ToBridge)
from_bridge = msgspec.msgpack.Decoder(FromBridge)
_encoder = msgspec.msgpack.Encoder()


def write_frame(connection: socket.socket, frame: ToBridge | FromBridge) -> None:
    """Send a frame with its length in front; one thread at a time."""
    lines.send(connection, _encoder.encode(frame))
