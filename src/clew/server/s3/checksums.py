"""The checksums that S3 clients send: CRC32, CRC32C, CRC64NVME, SHA1, SHA256, MD5.

Knows bytes only. CRC32C and CRC64NVME are computed in numpy over many lanes at once: a lane is a
run of bytes, two bytes of each lane a step, and lanes are joined by the linearity of CRCs
(crc(A B) = shift(crc(A), length of B) xor crc(B), for a CRC that starts from 0).
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
_LANE = 512
"""Bytes of a lane."""
_MOST_LANES = 1 << 13


class Checksum(Protocol):
    """What is told bytes and then asked."""

    def update(self, data: bytes, /) -> None:
        """Go on with these bytes."""
        ...

    def digest(self) -> bytes:
        """The checksum of all bytes so far, in network order."""
        ...


def new(algorithm: str) -> Checksum:
    """A checksum of no bytes, by its name in lower case. Raises KeyError for another name."""
    if algorithm in {"sha1", "sha256", "md5"}:
        return hashlib.new(algorithm, usedforsecurity=False)
    if algorithm == "crc32":
        return _Crc32()
    polynomial, bits = {"crc32c": (0x82F63B78, 32), "crc64nvme": (0x9A6C9329AC4BC9B5, 64)}[
        algorithm
    ]
    return _Lanes(polynomial, bits)


def encoded(digest: bytes) -> str:
    """As headers carry it."""
    return base64.b64encode(digest).decode()


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class _Lanes:
    """A reflected CRC with all ones at both ends (the form of CRC32C and CRC64NVME)."""

    def __init__(self, polynomial: int, bits: int) -> None:
        self._polynomial = polynomial
        self._bits = bits
        self._ones = (1 << bits) - 1
        self._state = self._ones

    def update(self, data: bytes, /) -> None:
        bulk = len(data) - len(data) % _LANE
        step = _LANE * _MOST_LANES
        for start in range(0, bulk, step):
            stop = min(start + step, bulk)
            crc = self._joined(data[start:stop])
            self._state = _shift(self._polynomial, self._bits, self._state, stop - start) ^ crc
        table, state = _bytes_table(self._polynomial), self._state
        for byte in data[bulk:]:
            state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
        self._state = state

    def digest(self) -> bytes:
        return (self._state ^ self._ones).to_bytes(self._bits // 8, "big")

    def _joined(self, data: bytes) -> int:
        """The CRC from 0 of whole lanes."""
        import numpy as np  # noqa: PLC0415 - only uploads with such a checksum need it

        words = np.frombuffer(data, "<u2").reshape(-1, _LANE // 2).T.astype(np.uint64, order="C")
        table = _words_table(self._polynomial)
        state = np.zeros(words.shape[1], np.uint64)
        mask, half = np.uint64(0xFFFF), np.uint64(16)
        for column in words:
            state = table[((state ^ column) & mask).astype(np.intp)] ^ (state >> half)
        return self._folded(state)

    def _folded(self, lanes: NDArray[np.uint64]) -> int:
        """One CRC of many, in order: pairs are joined until one is left."""
        import numpy as np  # noqa: PLC0415 - as above

        length = _LANE
        last: int | None = None  # what is behind an even number of lanes
        behind = 0
        while len(lanes) > 1 or last is None:
            if len(lanes) % 2:
                tail = int(lanes[-1])
                last = tail if last is None else self._behind(tail, behind) ^ last
                behind += length
                lanes = lanes[:-1]
                if not len(lanes):
                    return last
                continue
            if len(lanes) == 0:
                break
            lanes = _shifted(self._polynomial, self._bits, lanes[0::2], length) ^ lanes[1::2]
            length *= 2
            lanes = np.asarray(lanes, np.uint64)
        head = int(lanes[0]) if len(lanes) else 0
        return self._behind(head, behind) ^ (last or 0)

    def _behind(self, crc: int, length: int) -> int:
        return _shift(self._polynomial, self._bits, crc, length)


@cache
def _bytes_table(polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (polynomial if byte & 1 else 0)
        table.append(byte)
    return table


@cache
def _words_table(polynomial: int) -> NDArray[np.uint64]:
    """What two bytes do to a state."""
    import numpy as np  # noqa: PLC0415 - as above

    single = np.array(_bytes_table(polynomial), np.uint64)
    low = np.arange(1 << 16, dtype=np.uint64)
    first = single[(low & np.uint64(255)).astype(np.intp)] ^ (low >> np.uint64(8))
    second: NDArray[np.uint64] = single[(first & np.uint64(255)).astype(np.intp)] ^ (
        first >> np.uint64(8)
    )
    return second


@cache
def _matrix(polynomial: int, bits: int, length: int) -> tuple[int, ...]:
    """What ``length`` (a power of two) zero bytes do to each bit of a state."""
    if length == 1:
        table = _bytes_table(polynomial)
        return tuple(table[(1 << i) & 255] ^ (1 << i) >> 8 for i in range(bits))
    half = _matrix(polynomial, bits, length // 2)
    return tuple(_times(half, column) for column in half)


def _times(matrix: tuple[int, ...], value: int) -> int:
    found = at = 0
    while value:
        if value & 1:
            found ^= matrix[at]
        value >>= 1
        at += 1
    return found


def _shift(polynomial: int, bits: int, state: int, length: int) -> int:
    """A state after ``length`` zero bytes."""
    power = 1
    while length:
        if length & 1:
            state = _times(_matrix(polynomial, bits, power), state)
        length >>= 1
        power *= 2
    return state


@cache
def _tables(polynomial: int, bits: int, length: int) -> Any:
    """:func:`_matrix`, as a table for each byte of a state."""
    import numpy as np  # noqa: PLC0415 - as above

    matrix = _matrix(polynomial, bits, length)
    tables = [[_times(matrix, value << 8 * at) for value in range(256)] for at in range(bits // 8)]
    return np.array(tables, np.uint64)


def _shifted(
    polynomial: int, bits: int, states: NDArray[np.uint64], length: int
) -> NDArray[np.uint64]:
    """Many states after ``length`` (a power of two) zero bytes."""
    import numpy as np  # noqa: PLC0415 - as above

    tables = _tables(polynomial, bits, length)
    found = np.zeros(len(states), np.uint64)
    for at in range(bits // 8):
        found ^= tables[at][((states >> np.uint64(8 * at)) & np.uint64(255)).astype(np.intp)]
    return found
