"""One request over HTTP/2 and its answer, under flow control.

Knows nothing of sockets and frames, or of what is asked. RFC 9113.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

STREAM_BYTES = 1 << 20
"""How much of a request may come before it is taken from a stream."""
Header = tuple[bytes, bytes]
Headers = Sequence[Header]
T = TypeVar("T")


class Carrier(Protocol):
    """A connection, as far as its streams need it."""

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

    @property
    def is_full(self) -> bool:
        """Whether its client takes nothing more now, of any stream."""
        ...

    def room(self, id: int, /) -> int:
        """How much of an answer a client takes now in one frame."""
        ...

    def more(self, id: int, size_bytes: int, /) -> None:
        """So much more of a request may come."""
        ...

    def send_headers(self, id: int, headers: Headers, /, *, end: bool = False) -> None:
        """Headers go out, or trailers."""
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
        "_at", "_connection", "_headed", "_owed", "_queue", "_tail", "asked", "awaited", "closed",
        "drained", "ended", "gone", "half", "heard_s", "held", "id", "moved_s", "taken",
        "waiting_bytes",
    )  # fmt: skip

    def __init__(self, connection: Carrier, id: int, asked: T) -> None:
        self._connection, self.id, self.asked = connection, id, asked
        self._owed = self._at = self.held = 0
        self.waiting_bytes = 0
        """What was sent and is not taken by the client yet."""
        self.moved_s = self.heard_s = connection.now_s
        self.awaited = True
        self._headed = self.half = self.closed = False
        self._queue: deque[bytes] | None = None
        self._tail: Headers | None = None
        self.taken: Callable[[bytes], None] = nothing
        self.ended: Callable[[], None] = nothing
        self.gone: Callable[[], None] = nothing
        self.drained: Callable[[], None] = nothing

    def took(self, size_bytes: int) -> None:
        """So much of the body has been taken: as much more may come."""
        self._owed += size_bytes
        self.heard_s = self._connection.now_s
        if self._owed >= STREAM_BYTES // 2 and not self.half and not self.closed:
            owed, self._owed = self._owed, 0
            self.moved_s = self.heard_s
            self._connection.more(self.id, owed)

    def answer(self, head: Headers, body: bytes, tail: Headers) -> None:
        """The whole answer: headers and trailers, and what is between them."""
        self.send(head, body)
        self.finish(head, tail)

    def send(self, head: Headers, body: bytes) -> None:
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
            waits_in_line = self.id in self._connection.blocked
            return (max(self.heard_s, sent_s) if waits_in_line else self.heard_s) < silent_s
        due = self.awaited and not self.half
        return due and (self.moved_s < slow_s or self.heard_s < silent_s)

    def finish(self, head: Headers, tail: Headers) -> None:
        """The end of the answer, after what was sent. ``head`` goes first where nothing did: with
        an empty one the trailers are all.
        """
        if self.closed:
            return
        if head:
            self._begin(head)
        self._tail = tail
        self.pump()

    def refuse(self, head: Headers, tail: Headers) -> None:
        """The end, with no more of a body: one block where nothing was sent before."""
        if not self.closed:
            self._tail = tail if self._headed else (*head, *tail)
            self.pump()

    def _begin(self, head: Headers) -> None:
        if not self._headed:
            self._headed = True
            self._connection.send_headers(self.id, head)

    def pump(self) -> None:
        """Send what waits, as far as the client takes it."""
        connection, queue = self._connection, self._queue
        waited = bool(queue)
        while queue:
            part, at = queue[0], self._at
            most = connection.room(self.id)
            if most <= 0 and part:
                if connection.is_full:
                    connection.blocked[self.id] = self
                return
            now = part[at : at + most] if at or most < len(part) else part
            connection.send_data(self.id, now)
            self._wait(-len(now))
            self.heard_s = connection.now_s
            self._at += len(now)
            if self._at >= len(part):
                queue.popleft()
                self._at = 0
        if self._tail is not None:
            connection.send_headers(self.id, self._tail, end=True)
            connection.done(self)
        elif waited:
            self.drained()


def nothing(*_: object) -> None:
    """Do nothing: what a stream is told where nobody listens."""
