"""A free port that stays free until the process it is for takes it.

Knows sockets; knows nothing of ranks.
"""

from __future__ import annotations

import socket
from contextlib import suppress


class Reservation:
    """A TCP port of this machine that the system gives to nobody else while this is open.

    The port is bound and not listened to. Who is told its number can bind and listen all the same,
    as servers that set ``SO_REUSEADDR`` do (PyTorch's store, gRPC, Python's servers), while the
    system, which chooses ports for those that ask for any, passes this one over. So nothing can
    take it between the choice and the use, which finding a free port and closing it again allows.
    """

    def __init__(self) -> None:
        self._socket = _dual() or _plain()
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give it back. Idempotent."""
        self._socket.close()


def _dual() -> socket.socket | None:
    """Of both families, so that neither of them can lose it."""
    if not socket.has_ipv6:
        return None
    with suppress(OSError):
        found = socket.socket(socket.AF_INET6)
        try:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            return _bound(found, "::")
        except OSError:
            found.close()
    return None


def _plain() -> socket.socket:
    found = socket.socket()
    try:
        return _bound(found, "")
    except OSError:
        found.close()
        raise


def _bound(found: socket.socket, host: str) -> socket.socket:
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, 0))
    return found
