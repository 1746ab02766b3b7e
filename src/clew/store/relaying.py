"""A store that is reached through another process: its packs and its leases, by requests.

Knows requests and sockets; knows nothing of who is at the other end, nor of what packs hold but
that they are sound. One request or answer is four bytes of length and MessagePack.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import msgspec

from clew.base import lines
from clew.base.errors import ClewError, Denied, Unavailable, from_wire
from clew.base.lines import Line
from clew.store import packs
from clew.store.catalog import objects_of
from clew.store.keeping import Keep
from clew.store.leases import Board
from clew.store.locking import Never
from clew.store.remote import RemoteShelf
from clew.store.shelf import Hold, Shelf

SCHEME = "relay://"
Ask = Callable[[bytes], bytes]
_GONE = "gone"


class Relay:
    """Answers requests on behalf of one far process, with a shelf and a board of this one.

    Thread-safe. Packs that come in are verified, every byte; nothing else is taken, and nothing is
    ever removed. What the far process has posted on the board stands until it is taken down or
    :meth:`end` is called.
    """

    def __init__(self, shelf: Shelf, board: Board) -> None:
        self._shelf = shelf
        self._board = board
        self._tokens: set[str] = set()
        self._lock = threading.Lock()
        self._acts: dict[str, Callable[..., Any]] = {
            "put": self._put,
            "settle": shelf.settle,
            "read": shelf.read,
            "tail": shelf.tail,
            "list": lambda: sorted(shelf.list()),
            "post": self._post,
            "renew": board.renew,
            "lapsed": board.lapsed,
            "take_down": self._take_down,
            "standing": lambda: sorted(board.standing()),
        }

    def answer(self, request: bytes) -> bytes:
        """The answer to a request; errors travel in it."""
        name, arguments = msgspec.msgpack.decode(request, type=tuple[str, list[Any]])
        try:
            return msgspec.msgpack.encode({"value": self._acts[name](*arguments)})
        except FileNotFoundError as error:
            return msgspec.msgpack.encode({_GONE: str(error)})
        except ClewError as error:
            return msgspec.msgpack.encode({"error": error.to_wire()})

    def end(self) -> None:
        """The far process is gone: nothing of it is leaned on any more."""
        with self._lock:
            tokens, self._tokens = self._tokens, set()
        for token in tokens:
            self._board.take_down(token)

    def _put(self, name: str, data: bytes) -> None:
        verify(name, data)
        self._shelf.put(name, [data])

    def _post(self, token: str) -> None:
        self._board.post(token)
        with self._lock:
            self._tokens.add(token)

    def _take_down(self, token: str) -> None:
        self._board.take_down(token)
        with self._lock:
            self._tokens.discard(token)


def verify(name: str, data: bytes) -> None:
    """Take a pack only if each of its objects is what its digest says.

    Raises:
        Denied: ``store.relay`` where it is no pack.
        Corrupt: ``pack.corrupt``.
    """
    if not name.endswith(packs.SUFFIX):
        raise Denied(
            "store.relay",
            f"{name} is no pack, and nothing else is taken from another machine.",
            hint="This is a defect of Clew: please report it.",
        )
    trailer = packs.read_trailer(name, data[-packs.TAIL_BYTES :], len(data))
    index = data[trailer.index_offset : trailer.index_offset + trailer.index_bytes]
    pack = packs.read_index(name, trailer, index, len(data))
    packs.check_header(name, data)
    for key, place, _, payload in objects_of(pack, data):
        head = packs.record_head(key, place)
        if payload is None or data[place.offset - len(head) : place.offset] != head:
            raise packs.corrupt_pack(name, f"the bytes of {place.tag}:{key.hex()} have changed")


# the far end --------------------------------------------------------------------------------


class _Names:
    """Named bytes at the other end: what a bucket is to a RemoteShelf."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def put(self, name: str, data: bytes) -> None:
        asked(self._ask, "put", _plain(name), data)

    def read(self, name: str, offset: int, size: int) -> tuple[bytes, int]:
        return asked(self._ask, "read", _plain(name), offset, size), -1

    def tail(self, name: str, size: int) -> tuple[bytes, int]:
        data, size_bytes = asked(self._ask, "tail", _plain(name), size)
        return data, size_bytes

    def list(self, _folder: str) -> Sequence[str]:
        found: Sequence[str] = asked(self._ask, "list")
        return found

    def remove(self, name: str) -> None:
        """Never: nobody is alone here."""


class _Board:
    """The board at the other end (see :class:`clew.store.leases.Board`)."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def post(self, token: str) -> None:
        asked(self._ask, "post", token)

    def renew(self, token: str) -> None:
        asked(self._ask, "renew", token)

    def lapsed(self, token: str) -> bool:
        return bool(asked(self._ask, "lapsed", token))

    def take_down(self, token: str) -> None:
        asked(self._ask, "take_down", token)

    def standing(self) -> set[str]:
        return set(asked(self._ask, "standing"))


class FarShelf(RemoteShelf):
    """As a bucket's, but that what others put need not be durable when it can be seen."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(_Names(ask), Never())
        self._ask = ask

    def settle(self) -> None:
        """See :meth:`Shelf.settle`."""
        asked(self._ask, "settle")

    def alone(self) -> AbstractContextManager[Hold]:
        """Never: the store is tended at the other end."""
        return Never().hold("alone")


def asked(ask: Ask, name: str, *arguments: object) -> Any:
    """What the relay answers; what it raised is raised here."""
    answer = msgspec.msgpack.decode(ask(msgspec.msgpack.encode([name, list(arguments)])))
    if _GONE in answer:
        raise FileNotFoundError(answer[_GONE])
    if "error" in answer:
        raise from_wire(answer["error"])
    return answer["value"]


def _plain(name: str) -> str:
    return name.rpartition("/")[2]


def far_end(ask: Ask, cache: Path | None = None) -> tuple[Shelf, Board, Keep | None]:
    """Shelf, board and cache of a store whose relay answers to ``ask``, which is thread-safe."""
    return FarShelf(ask), _Board(ask), None if cache is None else Keep(cache)


# over a socket of this machine ------------------------------------------------------------------


def caller(path: str) -> Line:
    """Asks over a Unix socket; raises Unavailable ``store.unreachable``."""

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(path)
        return connection

    return Line(connect, _lost)


def _lost(why: str) -> Unavailable:
    return Unavailable(
        "store.unreachable",
        f"The way to the workspace's store is gone: {why}.",
        hint="The work is done again by another worker.",
    )


class Switchboard:
    """A Unix socket at ``path`` whose requests ``ask`` answers, a thread for each connection."""

    def __init__(self, path: Path, ask: Ask) -> None:
        self.address = f"{SCHEME}{path}"
        self._ask = ask
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(64)
        self._thread = threading.Thread(target=self._accept, name="clew-relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # whoever asked is gone: nobody waits for the answer
            while (request := lines.receive(connection)) is not None:
                try:
                    answer = self._ask(request)
                except ClewError as error:
                    answer = msgspec.msgpack.encode({"error": error.to_wire()})
                lines.send(connection, answer)
