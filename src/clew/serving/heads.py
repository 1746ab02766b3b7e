"""Heads of requests that were refused as they came, by their bytes: the next one is not parsed.

Knows no sockets, no paths and no parser. Who asks an endpoint that is full sends the same head
again and again. What a parser has made of bytes it makes of the same bytes, so such a request is
refused by what was found out before, and at several times the capacity that is most of the work.
"""

from __future__ import annotations

from collections.abc import Callable

MOST = 256
"""Heads that are known at once."""
HEAD_BYTES = 4 << 10
"""A longer head is parsed each time."""
_END = b"\r\n\r\n"


class Heads:
    """What is known while something is full; nothing else is kept.

    ``full``: whether what is asked for would be refused since too much waits there; ``refused`` is
    told of each that was.
    """

    def __init__(self, full: Callable[[bytes], bool], refused: Callable[[bytes], None]) -> None:
        self.full, self.refused = full, refused
        self.known: dict[bytes, tuple[bytes, int]] = {}
        """Head → what it asks for, and the bytes of the whole request."""

    def learn(self, data: bytes, target: bytes, length: bytes) -> None:
        """``data`` was parsed and refused; it counts where it is one request that ends with it.

        ``length``: its Content-Length, b'' without it.
        """
        stop = data.find(_END) + len(_END)
        if stop > HEAD_BYTES or not length.isdigit() or stop + int(length) != len(data):
            return
        if len(self.known) >= MOST:
            self.known.clear()
        self.known[data[:stop]] = (target, len(data))

    def refuse(self, data: bytes) -> tuple[int, int]:
        """Refuse the requests at the beginning of ``data`` that are known and whole: how many, and
        where they end. Once one of them has room, all are read again.
        """
        count = at = 0
        while at < len(data):
            found = self.known.get(data[at : data.find(_END, at) + len(_END)])
            if found is None or at + found[1] > len(data):
                break
            if not self.full(found[0]):
                self.known.clear()
                break
            self.refused(found[0])
            count, at = count + 1, at + found[1]
        return count, at
