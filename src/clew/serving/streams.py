"""One request over HTTP/2 and its answer, under flow control; and the numbers of the protocol.

Knows nothing of sockets, or of what is asked. RFC 9113.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR = 0x0, 0x1, 0x3
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 0x6, 0x7, 0x8, 0x9
INTERNAL_ERROR, ENHANCE_YOUR_CALM = 0x2, 0xB
FRAME_BYTES = 16384
STREAM_BYTES = 1 << 20
"""How much of a request may come before it is taken from a stream."""
MOST = (1 << 31) - 1
"""The largest window, and the last stream."""
T = TypeVar("T")


class Broken(Exception):
    """The other side does not speak HTTP/2 as it should; the connection ends with this code."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


class Carrier(Protocol):
    """A connection, as far as its streams need it."""

    window: int
    """How much its client takes now, of all streams."""
    frame_bytes: int
    out: list[bytes]
    """What goes out at the next turn."""
    now_s: float
    """A clock that goes on each second or so: reading it costs nothing."""
    held: int
    """Bytes of requests that are not answered yet."""
    coming: int
    """Those of them whose request is not whole."""
    untaken: int
    """Bytes of answers that wait until the client takes them."""
    blocked: dict[int, Stream[Any]]
    """Streams whose answer would be taken, were there room on the connection."""

    def put(self, kind: int, flags: int, id: int, payload: bytes, /) -> None:
        """A frame goes out."""
        ...

    def send_data(self, id: int, payload: bytes, /) -> None:
        """A part of an answer goes out."""
        ...

    def done(self, stream: Stream[Any], /) -> None:
        """A stream is answered."""
        ...


class Stream(Generic[T]):
    """One request and its answer.

    ``taken`` is called with each part of its body, ``ended`` at its end, ``gone`` when the client
    wants no answer any more, ``drained`` when it has taken all that waited for it. ``asked`` is
    what ``App.read`` made of its headers; ``half``: no more of its body comes. ``awaited``: more is
    due from the client, or all stands still. ``moved_s``: when half a window of the body was last
    taken from the client, or a part of the answer by it; ``heard_s``: the same of any part.
    """

    __slots__ = (
        "_at", "_connection", "_headed", "_owed", "_queue", "_tail", "_window", "asked", "awaited",
        "closed", "drained", "ended", "gone", "half", "heard_s", "held", "id", "moved_s", "room",
        "taken", "waiting_bytes",
    )  # fmt: skip

    def __init__(self, connection: Carrier, id: int, asked: T, window: int) -> None:
        self._connection, self.id, self.asked = connection, id, asked
        self._window = window
        self.room = STREAM_BYTES
        self._owed = self._at = self.held = 0
        self.waiting_bytes = 0
        """What was sent and is not taken by the client yet."""
        self.moved_s = self.heard_s = connection.now_s
        self.awaited = True
        self._headed = self.half = self.closed = False
        self._queue: deque[bytes] | None = None
        self._tail: bytes | None = None
        self.taken: Callable[[bytes], None] = nothing
        self.ended: Callable[[], None] = nothing
        self.gone: Callable[[], None] = nothing
        self.drained: Callable[[], None] = nothing

    def took(self, size_bytes: int) -> None:
        """So much of the body has been taken: as much more may come."""
        self._owed += size_bytes
        self.heard_s = self._connection.now_s
        if self._owed >= STREAM_BYTES // 2 and not self.half and not self.closed:
            self.room += self._owed
            self.moved_s = self.heard_s
            self._connection.put(WINDOW_UPDATE, 0, self.id, self._owed.to_bytes(4, "big"))
            self._owed = 0

    def answer(self, head: bytes, body: bytes, tail: bytes) -> None:
        """The whole answer: blocks of headers and trailers, and what is between them."""
        if self.closed:
            return
        connection = self._connection
        size = len(body)
        if size > self._window or size > connection.window or size > connection.frame_bytes:
            self.send(head, body)
            self.finish(head, tail)
            return
        connection.window -= size
        id = self.id.to_bytes(4, "big")
        connection.out += (
            len(head).to_bytes(3, "big"), b"\1\4", id, head,
            size.to_bytes(3, "big"), b"\0\0", id, body,
            len(tail).to_bytes(3, "big"), b"\1\5", id, tail,
        )  # fmt: skip
        connection.done(self)

    def send(self, head: bytes, body: bytes) -> None:
        """A part of the answer; ``head`` goes before the first."""
        if self.closed:
            return
        self._begin(head)
        if self._queue is None:
            self._queue = deque()
        if not self._queue:
            self.moved_s = self.heard_s = self._connection.now_s
        self._queue.append(body)
        self._wait(len(body))
        self.pump()

    def hold(self, size_bytes: int) -> None:
        """So much more (or less) of what the client sent is kept for this stream."""
        if self.closed:
            return
        self.held += size_bytes
        self._connection.held += size_bytes
        if not self.half:
            self._connection.coming += size_bytes

    def expect(self, more: bool) -> None:
        """More is due from the client from now on, or nothing is."""
        if more and not self.awaited:
            self.moved_s = self.heard_s = self._connection.now_s
        self.awaited = more

    def _wait(self, size_bytes: int) -> None:
        self.waiting_bytes += size_bytes
        self._connection.untaken += size_bytes

    def whole(self) -> None:
        """No more of its body comes."""
        self.half = True
        self._connection.coming -= self.held

    def leave(self) -> None:
        """It is over: nothing is kept for it."""
        self.hold(-self.held)
        self._wait(-self.waiting_bytes)
        self.closed = True
        self._queue = None
        self.taken = self.ended = self.gone = self.drained = nothing  # no circle is left

    def stuck(self, slow_s: float, silent_s: float, sent_s: float) -> bool:
        """Whether what is due from the client has not moved since ``slow_s``, or not at all since
        ``silent_s``. ``sent_s``: when it last took anything on this connection.
        """
        if self.waiting_bytes:
            held_up_here = self._window <= 0
            return (self.heard_s if held_up_here else max(self.heard_s, sent_s)) < silent_s
        due = self.awaited and not self.half
        return due and (self.moved_s < slow_s or self.heard_s < silent_s)

    def finish(self, head: bytes, tail: bytes) -> None:
        """The end of the answer, after what was sent. ``head`` goes first where nothing did: with
        an empty one the trailers are all.
        """
        if self.closed:
            return
        if head:
            self._begin(head)
        self._tail = tail
        self.pump()

    def refuse(self, head: bytes, tail: bytes) -> None:
        """The end, with no more of a body: one block where nothing was sent before."""
        if not self.closed:
            self._tail = tail if self._headed else head + tail
            self.pump()

    def _begin(self, head: bytes) -> None:
        if not self._headed:
            self._headed = True
            self._connection.put(HEADERS, END_HEADERS, self.id, head)

    def widen(self, more: int) -> None:
        """The client takes so many bytes more (or less)."""
        self._window += more
        if self._window > MOST:
            raise Broken(FLOW_CONTROL_ERROR, "a window is too large")

    def pump(self) -> None:
        """Send what waits, as far as the client takes it."""
        connection, queue = self._connection, self._queue
        waited = bool(queue)
        while queue:
            part, at = queue[0], self._at
            most = min(self._window, connection.window, connection.frame_bytes)
            if most <= 0 and part:
                if self._window > 0:
                    connection.blocked[self.id] = self
                return
            now = part[at : at + most]
            connection.send_data(self.id, now)
            self._window -= len(now)
            self._wait(-len(now))
            self.heard_s = connection.now_s
            self._at += len(now)
            if self._at >= len(part):
                queue.popleft()
                self._at = 0
        if self._tail is not None:
            connection.put(HEADERS, END_HEADERS | END_STREAM, self.id, self._tail)
            connection.done(self)
        elif waited:
            self.drained()


def nothing(*_: object) -> None:
    """Do nothing: what a stream is told where nobody listens."""
