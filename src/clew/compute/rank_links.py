"""One rank as its launcher sees it, and the door at which ranks that others start come in.

Knows frames and descriptors; knows nothing of what ranks do. All methods are for one thread.
"""

from __future__ import annotations

import hmac
import os
import secrets
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from clew.base.gpus import Gpu
from clew.compute.frames import FromWorker, Inbox, Outbox, from_worker

_CHUNK = 1 << 16
_TAIL_LINES = 30
_LONGEST_LINE = 1 << 16
_MOST_CHUNKS = 64
"""So much of what a rank printed is taken at a time: others have their turn too."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a rank is, on a cluster; empty where all are on one machine.

    ``address`` and ``interface`` are those by which other nodes reach it; ``ports`` are reserved
    there, for a meeting of all and for a server of its own. ``store`` is the address of the store
    there, ``gpus`` are those that it was given.
    """

    node: str = ""
    address: str = ""
    interface: str = ""
    ports: tuple[int, int] = (0, 0)
    store: str = ""
    gpus: tuple[Gpu, ...] = ()


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """What a rank says on each of its two connections. ``use``: ``frames`` or ``output``; or
    ``store``, on a connection for requests of a store.
    """

    token: str
    rank: int
    use: str
    host: str = ""
    place: Place = Place()


class Link:
    """The frames of one rank, what it prints, and its process where that is a child of ours."""

    def __init__(
        self,
        rank: int,
        connection: socket.socket,
        output: int,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """``output`` is a descriptor to read from; it is closed with the link."""
        self.rank = rank
        self.process = process
        self.value: object = None
        self.ended = False
        self._connection = connection
        self._inbox = Inbox()
        outbox = Outbox(connection, 4 * _CHUNK)
        self.write, self.flush = outbox.write, outbox.flush
        self._output = output
        self._line = b""
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        connection.setblocking(False)
        os.set_blocking(output, False)

    @property
    def frames(self) -> int:
        """The descriptor of its frames, for a selector."""
        return self._connection.fileno()

    @property
    def output(self) -> int:
        """The descriptor of what it prints, for a selector; -1 where that has ended."""
        return self._output

    def read(self) -> tuple[list[FromWorker], bool]:
        """The frames that have come, and whether there may be more."""
        try:
            data = self._connection.recv(4 * _CHUNK)
            return [from_worker.decode(body) for body in self._inbox.add(data)], bool(data)
        except BlockingIOError:
            return [], True
        except (OSError, msgspec.DecodeError):  # it died, or its code wrote to the pipe
            return [], False

    def lines(self, *, last: bool = False) -> list[str]:
        """What it has printed since, by line; the unfinished one too where it is the ``last``."""
        text = self._line + self._taken()
        *whole, rest = text.split(b"\n")
        if last or len(rest) > _LONGEST_LINE:
            whole, rest = ([*whole, rest] if rest else whole), b""
        self._line = rest
        found = [line.rstrip(b"\r").decode(errors="replace") for line in whole]
        self._tail.extend(found)
        return found

    def tail(self) -> str:
        """The last lines that it printed."""
        return "\n".join(self._tail)

    def how(self) -> str:
        """How its process ended, in words."""
        if self.process is None:
            return "is gone"
        try:
            status = self.process.wait(1.0)  # its pipe ends a moment before it does
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if status >= 0:
            return f"ended with exit code {status}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-status).name}"
        return f"was killed by signal {-status}"

    def hang_up(self) -> None:
        """Close its pipe, upon which a rank that is done ends by itself."""
        self._connection.close()

    def close(self) -> None:
        """Let go of its descriptors. Idempotent."""
        self._connection.close()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1

    def _taken(self) -> bytes:
        parts = []
        with suppress(OSError):
            for _ in range(_MOST_CHUNKS if self._output >= 0 else 0):
                data = os.read(self._output, _CHUNK)
                if not data:
                    os.close(self._output)
                    self._output = -1
                    break
                parts.append(data)
        return b"".join(parts)


class Door:
    """A port where ranks that mpirun starts come in, each by two connections."""

    def __init__(
        self,
        host: str,
        come: Callable[[Hello, socket.socket, int], None],
        errand: Callable[[socket.socket], None] | None = None,
    ) -> None:
        """``come`` is told of each rank: what it said, its frames and its output. ``errand`` gets
        connections for requests of a store.
        """
        self.token = secrets.token_hex(32)
        self._come = come
        self._errand = errand
        self._listening = socket.create_server((host, 0))
        self._listening.setblocking(False)
        self._guests: list[Guest] = []
        self._halves: dict[int, dict[str, Guest]] = {}
        self._said: dict[tuple[int, str], Hello] = {}

    @property
    def port(self) -> int:
        """The number."""
        return int(self._listening.getsockname()[1])

    def fileno(self) -> int:
        """For a selector: somebody is at the door."""
        return self._listening.fileno()

    def accept(self) -> Guest | None:
        """Who has come; nothing is known of it until it has spoken."""
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return None
        guest = Guest(connection)
        self._guests.append(guest)
        return guest

    def hear(self, guest: Guest) -> bool:
        """Whether what a guest said was all that is awaited of it here (or it is shown out)."""
        hello = guest.hello()
        if hello is None:
            return False
        self._guests.remove(guest)
        if not hmac.compare_digest(hello.token, self.token) or hello.use not in {
            "frames",
            "output",
            "store",
        }:
            guest.connection.close()
            return True
        if hello.use == "store":
            if self._errand is None:
                guest.connection.close()
            else:
                self._errand(guest.connection)
            return True
        halves = self._halves.setdefault(hello.rank, {})
        halves[hello.use] = guest
        self._said[hello.rank, hello.use] = hello
        if len(halves) == 2:
            del self._halves[hello.rank]
            output = os.dup(halves["output"].connection.fileno())
            halves["output"].connection.close()
            told = self._said[hello.rank, "frames"]
            self._come(told, halves["frames"].connection, output)
        return True

    def close(self) -> None:
        """Nobody comes in any more. Idempotent."""
        self._listening.close()
        for guest in [*self._guests, *(g for pair in self._halves.values() for g in pair.values())]:
            guest.connection.close()


class Guest:
    """A connection before it is known whose it is."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self._said = bytearray()

    def hello(self) -> Hello | None:
        """What it said, None while that is not whole. Nonsense is a Hello without a token.

        Reads that one frame and not a byte more: the rest is for whoever it turns out to be.
        """
        wrong = Hello("", -1, "")
        try:
            wanted = 4 if len(self._said) < 4 else 4 + int.from_bytes(self._said[:4], "big")
            while len(self._said) < wanted:
                data = self.connection.recv(wanted - len(self._said))
                if not data or wanted > _CHUNK:
                    return wrong
                self._said += data
                if len(self._said) == 4:
                    wanted = 4 + int.from_bytes(self._said, "big")
            return msgspec.msgpack.decode(bytes(self._said[4:]), type=Hello)
        except BlockingIOError:
            return None
        except (OSError, msgspec.DecodeError):
            return wrong
