"""Frames over sockets, four bytes of length and then the body; and asking over them.

Knows nothing of what is in a frame or of who is at the other end.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

LENGTH = struct.Struct(">I")
_PIECE_BYTES = 1 << 20


class Line:
    """Asks over connections that ``connect`` makes, and hands the answers back. Thread-safe.

    A connection for each request that is under way; those that are idle are used again. ``lost``
    makes the error of one that broke, of the reason in words.
    """

    def __init__(
        self, connect: Callable[[], socket.socket], lost: Callable[[str], Exception]
    ) -> None:
        self._connect, self._lost = connect, lost
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()

    def __call__(self, request: bytes) -> bytes:
        """The answer. Raises what ``lost`` makes."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or self._connect()
            send(connection, request)
            answer = receive(connection)
        except OSError as error:
            raise self._lost(str(error)) from error
        if answer is None:
            raise self._lost("it hung up")
        with self._lock:
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Let go of the connections that are idle."""
        with self._lock:
            connections, self._idle = self._idle, []
        for connection in connections:
            connection.close()

    def __del__(self) -> None:
        self.close()


def send(connection: socket.socket, body: bytes) -> None:
    """Send one frame."""
    head = LENGTH.pack(len(body))
    if len(body) > _PIECE_BYTES:  # a second call costs less than a copy
        connection.sendall(head)
        connection.sendall(body)
    else:
        connection.sendall(head + body)


def receive(connection: socket.socket) -> bytes | None:
    """Wait for a frame; None where the other end has hung up."""
    head = exactly(connection, LENGTH.size)
    return None if head is None else exactly(connection, LENGTH.unpack(head)[0])


def exactly(connection: socket.socket, size: int) -> bytes | None:
    """So many bytes; None where the other end has hung up before."""
    parts: list[bytes] = []
    while size:
        part = connection.recv(min(size, _PIECE_BYTES))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
