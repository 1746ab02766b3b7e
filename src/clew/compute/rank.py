"""A rank that was started by somebody else (mpirun): finds its launcher, and is its worker.

Knows where the launcher is from its environment. Started as ``python -m clew.compute.rank``, with
``CLEW_RANK_HOME`` (HOST:PORT), ``CLEW_RANK_TOKEN``, and its number as whoever started it says it.
On a cluster also ``CLEW_RANK_NODE``, ``CLEW_RANK_ADDRESS`` and ``CLEW_RANK_STORE``: which machine
this is, how others reach it, and how the store is reached here.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from contextlib import ExitStack, closing

import msgspec

from clew.base import lines
from clew.base.gpus import gpus
from clew.compute.ports import Reservation, interface_of
from clew.compute.rank_links import Hello, Place
from clew.compute.worker import main

HOME = "CLEW_RANK_HOME"
TOKEN = "CLEW_RANK_TOKEN"  # noqa: S105 - the name of a variable
NUMBER, NODE, ADDRESS = "CLEW_RANK", "CLEW_RANK_NODE", "CLEW_RANK_ADDRESS"
STORE = "CLEW_RANK_STORE"
NUMBERS = (NUMBER, "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
_CONNECT_S = 30


def join() -> None:
    """Come in at the launcher's door and serve it until it hangs up."""
    number = next(int(os.environ[name]) for name in NUMBERS if name in os.environ)
    host, _, port = os.environ.pop(HOME).rpartition(":")
    token = os.environ.pop(TOKEN)
    machine = socket.gethostname()
    with ExitStack() as things:
        seat = _place(things)
        output = _connected(host, int(port), Hello(token, number, "output", machine))
        frames = _connected(host, int(port), Hello(token, number, "frames", machine, seat))
        _serve(output, frames)


def _serve(output: socket.socket, frames: socket.socket) -> None:
    """Be the launcher's worker until it hangs up."""
    sys.stdout.flush()
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    with tempfile.TemporaryDirectory(prefix="clew-rank-") as scratch:
        main([str(frames.detach()), str(os.getppid()), scratch])


def _place(things: ExitStack) -> Place:
    """Where this rank is on a cluster, with ports that are reserved as long as ``things`` are."""
    address = os.environ.pop(ADDRESS, "")
    if not address:
        return Place()
    ports = [things.enter_context(closing(Reservation())).port for _ in range(2)]
    return Place(
        node=os.environ.pop(NODE, ""),
        address=address,
        interface=interface_of(address),
        ports=(ports[0], ports[1]),
        store=os.environ.pop(STORE, ""),
        gpus=tuple(gpus()),
    )


def _connected(host: str, port: int, hello: Hello) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=_CONNECT_S)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines.send(connection, msgspec.msgpack.encode(hello))
    return connection


if __name__ == "__main__":
    join()
