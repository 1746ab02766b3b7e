"""Content-defined cutting of large files: the same bytes are cut at the same places.

Knows numpy (imported at the first large file) and nothing of objects. A gear hash over the last
32 bytes (Xia et al., "FastCDC", USENIX ATC 2016) is computed for many positions at once by
doubling: H2k(i) = Hk(i) + (Hk(i-k) << k).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import blake3

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALLEST = 512 * 1024
LARGEST = 4 * 1024 * 1024
_WINDOW = 32
_THRESHOLD = 1 << 13  # of 32 bits: one position in 2**19, so 512 KiB + 512 KiB on average
_STRIDE = 128 * 1024


def cut(data: bytes | bytearray | memoryview) -> int:
    """Where the first chunk of ``data`` ends: between SMALLEST and LARGEST, or the end.

    Depends on the bytes of the chunk alone. ``data`` must hold LARGEST bytes or all that is left.
    """
    end = min(len(data), LARGEST)
    for start in range(SMALLEST, end, _STRIDE):
        found = _first_boundary(data, start, min(start + _STRIDE, end))
        if found:
            return found
    return end


def cut_stream(read: Callable[[int], bytes], first: bytes = b"") -> Iterator[bytes]:
    """The chunks of a stream: ``first``, then what ``read`` gives until it gives nothing."""
    buffer = bytearray(first)
    start = 0
    ended = False
    while True:
        while not ended and len(buffer) - start < LARGEST:
            block = read(LARGEST)
            ended = not block
            if start:
                del buffer[:start]
                start = 0
            buffer += block
        if start == len(buffer):
            return
        with memoryview(buffer) as view, view[start : start + LARGEST] as window:
            size = cut(window)
            chunk = bytes(window[:size])
        yield chunk
        start += size


def _first_boundary(data: bytes | bytearray | memoryview, start: int, stop: int) -> int:
    import numpy as np  # noqa: PLC0415 (80 ms that only large files should cost)

    block = np.frombuffer(data, np.uint8, stop - start + _WINDOW - 1, start - _WINDOW + 1)
    hashes: NDArray[np.uint32] = _gear().take(block)
    width = 1
    while width < _WINDOW:
        hashes = hashes[width:] + (hashes[:-width] << np.uint32(width))
        width *= 2
    hits = np.flatnonzero(hashes < np.uint32(_THRESHOLD))
    return start + int(hits[0]) + 1 if hits.size else 0


@cache
def _gear() -> NDArray[np.uint32]:
    import numpy as np  # noqa: PLC0415 (as above)

    table = blake3.blake3(b"clew gear 1").digest(length=256 * 4)
    return np.frombuffer(table, "<u4").astype(np.uint32)
