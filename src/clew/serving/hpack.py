"""Header compression of HTTP/2 (RFC 7541): blocks of bytes to names and values, and back.

Knows nothing of frames, streams or what headers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Generic, TypeVar

TABLE_BYTES = 4096
"""How large the table of the other side's headers may become: the default of the protocol."""
LIST_BYTES = 64 << 10
"""How large the headers of one request may be, unpacked, counted as the table is."""
_ENTRY_BYTES = 32
_KNOWN, _KNOWN_BYTES = 64, 4096
"""Blocks whose meaning is remembered, since a client repeats itself; larger ones are not."""
_END = 256
T = TypeVar("T")
Header = tuple[bytes, bytes]


class HpackError(Exception):
    """These bytes are no header block; what follows on the connection cannot be understood."""


class Decoder(Generic[T]):
    """Reads the blocks of one connection, in their order. ``read``: what headers mean.

    A block is read once for as long as it means the same, so ``read`` must depend on nothing else.
    """

    def __init__(self, read: Callable[[list[Header]], T]) -> None:
        self._read = read
        self._table: list[Header] = []  # the newest last
        self._bytes, self._limit = 0, TABLE_BYTES
        self._known: dict[bytes, T] = {}

    def decode(self, block: bytes) -> T:
        """What the headers of a block mean.

        Raises:
            HpackError: it is none, or larger than it may be.
        """
        found = self._known.get(block)
        if found is not None:
            return found
        headers, changed = self._headers(block)
        found = self._read(headers)
        if changed or len(self._known) >= _KNOWN:
            self._known.clear()
        if not changed and len(block) <= _KNOWN_BYTES:
            self._known[block] = found
        return found

    def _headers(self, block: bytes) -> tuple[list[Header], bool]:
        headers: list[Header] = []
        at, end, size, changed = 0, len(block), 0, False
        try:
            while at < end:
                first = block[at]
                if first & 0x80:
                    index, at = _integer(block, at, 7)
                    header = self._entry(index)
                elif first & 0x40:
                    header, at = self._literal(block, at, 6)
                    self._add(header)
                    changed = True
                elif first & 0x20:
                    limit, at = _integer(block, at, 5)
                    if headers or limit > TABLE_BYTES:
                        raise HpackError("the size of the table cannot be changed so")
                    self._limit, changed = limit, True
                    self._evict()
                    continue
                else:
                    header, at = self._literal(block, at, 4)
                size += len(header[0]) + len(header[1]) + _ENTRY_BYTES
                if size > LIST_BYTES:
                    raise HpackError("the headers are too large")
                headers.append(header)
        except IndexError:
            raise HpackError("a header block ends too early") from None
        return headers, changed

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[Header, int]:
        index, at = _integer(block, at, bits)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _text(block, at)
        value, at = _text(block, at)
        return (name, value), at

    def _entry(self, index: int) -> Header:
        if 0 < index <= len(STATIC):
            return STATIC[index - 1]
        back = index - len(STATIC)
        if not 0 < back <= len(self._table):
            raise HpackError("a header that is not in the table")
        return self._table[-back]

    def _add(self, header: Header) -> None:
        self._table.append(header)
        self._bytes += len(header[0]) + len(header[1]) + _ENTRY_BYTES
        self._evict()

    def _evict(self) -> None:
        while self._bytes > self._limit:
            name, value = self._table.pop(0)
            self._bytes -= len(name) + len(value) + _ENTRY_BYTES


def encode(headers: Iterable[Header]) -> bytes:
    """A block that changes no table, so that parts of it can be put together and kept."""
    return b"".join(
        [b"\0" + _sized(name) + name + _sized(value) + value for name, value in headers]
    )


def _sized(text: bytes) -> bytes:
    """The length of a text that is not packed, as an integer with a prefix of 7 bits (§5.1)."""
    size = len(text)
    if size < 127:
        return bytes((size,))
    rest, found = size - 127, bytearray(b"\x7f")
    while rest >= 128:
        found.append(rest & 127 | 128)
        rest >>= 7
    found.append(rest)
    return bytes(found)


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits (§5.1), and where it ends."""
    mask = (1 << bits) - 1
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, at
        if shift > 28:
            raise HpackError("an integer is too large")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    packed = block[at] & 0x80
    size, at = _integer(block, at, 7)
    end = at + size
    if end > len(block):
        raise HpackError("a header block ends too early")
    raw = block[at:end]
    return (_unpacked(raw) if packed else raw), end


def _unpacked(raw: bytes) -> bytes:
    """A text that is packed by the code of Appendix B. What is left is less than a byte of ones."""
    steps, complete = _steps()
    found, row = bytearray(), 0
    for byte in raw:
        for nibble in (byte >> 4, byte & 15):
            row, symbol = steps[row + nibble]
            if symbol >= 0:
                if symbol == _END:
                    raise HpackError("the end of a text stands inside it")
                found.append(symbol)
    if row not in complete:
        raise HpackError("a packed text ends with something else than ones")
    return bytes(found)


@cache
def _steps() -> tuple[list[tuple[int, int]], frozenset[int]]:
    """For each beginning of a code, 16 places in a row: where the next four bits lead (the first
    place of a row), and the symbol that they end, or -1; and the rows at which a text may end.

    No code is shorter than five bits, so four end one at most.
    """
    rows, steps = {(0, 0): 0}, list[tuple[int, int]]()
    for length, code in sorted({(n, code >> m - n) for m, code in _SYMBOLS for n in range(1, m)}):
        rows[length, code] = len(rows) * 16
    for state in rows:
        for nibble in range(16):
            (length, code), ended = state, -1
            for shift in (3, 2, 1, 0):
                length, code = length + 1, code << 1 | (nibble >> shift & 1)
                symbol = _SYMBOLS.get((length, code))
                if symbol is not None:
                    ended, length, code = symbol, 0, 0
            steps.append((rows[length, code], ended))
    ones = {rows[length, (1 << length) - 1] for length in range(8)}
    return steps, frozenset(ones)


def _codes() -> dict[tuple[int, int], int]:
    """(Bits, code) → symbol. Codes of one length follow the order of their symbols, and the first
    of a length the last of a shorter one, so the lengths say everything.
    """
    lengths: list[int] = []
    for part in _LENGTHS.split():
        bits, _, times = part.partition("*")
        lengths += [int(bits)] * int(times or 1)
    found, code, before = {}, -1, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
        code = (code + 1) << (length - before)
        found[length, code] = symbol
        before = length
    return found


_LENGTHS = """
13 23 28*7 24 30 28*2 30 28*8 30 28*9 6 10*2 12 13 6 8 11 10*2 8 11 8 6*3 5*3 6*7 7 8 15 6 12 10 13
6 7*22 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6*3 5 7*2 6*3 5 6 7 6 5*2 6 7*5 15 11 14 13 28 20 22 20*2
22*3 23 22 23*5 24 23 24*2 22 23 24 23*4 21 22 23 22 23*2 24 22 21 20 22*2 23*2 21 23 22*2 24 21 22
23*2 21*2 22 21 23 22 23*2 20 22*3 23 22*2 23 26*2 20 19 22 23 22 25 26*3 27*2 26 24 25 19 21 26
27*2 26 27 24 21*2 26*2 28 27*3 20 24 20 21 22 21*2 23 22*2 25*2 24*2 26 23 26 27 26*2 27*5 28 27*5
26 30
"""
"""Bits of the code of each byte, and of the end, in their order (times how often in a row)."""
_SYMBOLS = _codes()
assert len(_SYMBOLS) == 257, "a byte each, and the end"
_NAMED = """
:authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https
:status 200|:status 204|:status 206|:status 304|:status 400|:status 404|:status 500
accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept
access-control-allow-origin|age|allow|authorization|cache-control|content-disposition
content-encoding|content-language|content-length|content-location|content-range|content-type
cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range
if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate
proxy-authorization|range|referer|refresh|retry-after|server|set-cookie
strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate
"""


def _static() -> tuple[Header, ...]:
    entries = _NAMED.encode().strip().replace(b"\n", b"|").split(b"|")
    parts = (entry.partition(b" ") for entry in entries)
    return tuple((name, value) for name, _, value in parts)


STATIC = _static()
"""Headers that every connection knows (Appendix A), the first with index 1."""
assert len(STATIC) == 61, "as many as the appendix has"
STATUS_200 = b"\x88"
"""``:status 200``, by its place among them."""
