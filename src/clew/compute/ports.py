"""A free port that stays free until the process it is for takes it; what network it is on.

Knows sockets; knows nothing of ranks.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from contextlib import suppress

_SIOCGIFADDR = 0x8915
"""Linux: asks an interface for its address."""


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


def interface_of(address: str) -> str:
    """The network interface of this machine that has an IPv4 address; '' where none is found."""
    if sys.platform != "linux":
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without such an address
                asked = struct.pack("256s", name.encode()[:15])
                told = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, asked)
                if socket.inet_ntoa(told[20:24]) == address:
                    return name
    return ""


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
