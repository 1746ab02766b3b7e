"""A rank that was started by somebody else (mpirun): finds its launcher, and is its worker.

Knows where the launcher is from its environment. Started as ``python -m clew.compute.rank``, with
``CLEW_RANK_HOME`` (HOST:PORT), ``CLEW_RANK_TOKEN``, and its number as whoever started it says it.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile

import msgspec

from clew.compute.frames import LENGTH
from clew.compute.rank_links import Hello
from clew.compute.worker import main

HOME = "CLEW_RANK_HOME"
TOKEN = "CLEW_RANK_TOKEN"  # noqa: S105 - the name of a variable
NUMBERS = ("CLEW_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
_CONNECT_S = 30


def join() -> None:
    """Come in at the launcher's door and serve it until it hangs up."""
    number = next(int(os.environ[name]) for name in NUMBERS if name in os.environ)
    host, _, port = os.environ.pop(HOME).rpartition(":")
    token = os.environ.pop(TOKEN)
    output = _connected(host, int(port), Hello(token, number, "output", socket.gethostname()))
    frames = _connected(host, int(port), Hello(token, number, "frames", socket.gethostname()))
    sys.stdout.flush()
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    with tempfile.TemporaryDirectory(prefix="clew-rank-") as scratch:
        main([str(frames.detach()), str(os.getppid()), scratch])


def _connected(host: str, port: int, hello: Hello) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=_CONNECT_S)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = msgspec.msgpack.encode(hello)
    connection.sendall(LENGTH.pack(len(body)) + body)
    return connection


if __name__ == "__main__":
    join()
