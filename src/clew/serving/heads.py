"""Heads of requests by their bytes: one that was parsed once is not parsed again.

Knows no sockets, no paths and no parser. A client sends the same head again and again, and what a
parser has made of bytes it makes of the same bytes. That is much of HTTP's part of a usual
request, and most of one that is refused since too much waits.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

MOST = 256
"""Heads that are known at once."""
HEAD_BYTES = 2 << 10
"""A longer head is parsed each time."""
END = b"\r\n\r\n"


class Head(Struct, frozen=True, kw_only=True):
    """What was made of a head: that of a POST whose body has a length, on a connection that is
    kept, of one who may ask. ``length``: bytes of the body; ``raw``: where its raw bytes begin, -1
    without them; ``zipped``: the coding of the answer.
    """

    target: bytes
    headers: Mapping[bytes, bytes]
    length: int
    raw: int
    zipped: bytes


class Heads:
    """The heads that are known, by their bytes up to the empty line and with it."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}
        self._last: tuple[bytes, Head] | None = None

    def __len__(self) -> int:
        return len(self._known)

    def clear(self) -> None:
        """Know none any more."""
        self._known.clear()
        self._last = None

    def learn(self, data: bytes, head: Head) -> None:
        """``data`` was parsed to this; it counts where it is that one request and nothing else."""
        at = data.find(END)
        stop = at + len(END)
        if at < 0 or stop > HEAD_BYTES or stop + head.length != len(data):
            return
        if len(self) >= MOST:
            self.clear()
        self._known[data[:stop]] = head

    def find(self, data: bytes, at: int) -> tuple[Head, int] | None:
        """The head at a place and where its request ends, where that is known and whole."""
        last = self._last
        if last is not None and data.startswith(last[0], at):  # mostly: no copy, no hash
            head = last[1]
            end = at + len(last[0]) + head.length
        else:
            stop = data.find(END, at) + len(END)
            raw = data[at:stop]
            known = self._known.get(raw)
            if known is None:
                return None
            self._last, head, end = (raw, known), known, stop + known.length
        return None if end > len(data) else (head, end)
