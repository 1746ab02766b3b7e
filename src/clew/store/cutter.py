"""Content-defined cutting of large files: the same bytes are cut at the same places.

Knows numpy (imported at the first large file) and nothing of objects. A sum over the last 16 words
of 16 bits, computed for many positions at once by doubling (design/0003-on-disk-format.md), finds
candidates; BLAKE3 of the 32 bytes that end there decides. 16-bit arithmetic without a table: numpy
does it at nearly three times the speed of a gear hash.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

import blake3

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALLEST = 512 * 1024
LARGEST = 4 * 1024 * 1024
_WINDOW = 32
_FACTOR = 0x9E35
_MARK = 0x5BD1  # one position in 2**16 is a candidate ...
_DECIDES = 32  # ... and one candidate in 8 is a cut: 512 KiB + 512 KiB on average
_MIXED_AT, _MIX = 4, 7  # a step that is not linear: else counters have no candidates at all
_STRIDE = 128 * 1024
_Bytes: TypeAlias = bytes | bytearray | memoryview

_local = threading.local()


def cut(data: _Bytes) -> int:
    """Where the first chunk of ``data`` ends: between SMALLEST and LARGEST, or the end.

    Depends on the bytes of the chunk alone. ``data`` must hold LARGEST bytes or all that is left.
    """
    end = min(len(data), LARGEST)
    for start in range(SMALLEST, end, _STRIDE):
        found = _first_boundary(data, start, min(start + _STRIDE, end))
        if found:
            return found
    return end


def _first_boundary(data: _Bytes, start: int, stop: int) -> int:
    """One more than the first place from ``start`` up to ``stop`` behind which a chunk ends; or 0.

    ``start`` is _WINDOW or more.
    """
    scratch: _Scratch | None = getattr(_local, "scratch", None)
    if scratch is None:
        scratch = _local.scratch = _Scratch()
    places = [*scratch.candidates(data, start, stop), *scratch.candidates(data, start + 1, stop)]
    seen: dict[bytes, bool] = {}  # repetitive data: the same window at ten thousand places
    for place in sorted(places):
        window = bytes(data[place + 1 - _WINDOW : place + 1])
        verdict = seen.get(window)
        if verdict is None:
            verdict = seen[window] = blake3.blake3(window).digest(length=1)[0] < _DECIDES
        if verdict:
            return place + 1
    return 0


class _Scratch:
    """Memory for the sums of one thread: fresh pages for every stride would cost as much again."""

    def __init__(self) -> None:
        import numpy as np  # noqa: PLC0415 - 80 ms that only large files should cost

        self._library = np
        words = _STRIDE // 2 + _WINDOW
        self._sums: NDArray[np.uint16] = np.empty(words, np.uint16)
        self._terms: NDArray[np.uint16] = np.empty(words, np.uint16)
        self._hits: NDArray[np.bool_] = np.empty(words, np.bool_)
        self._factors = [np.uint16(pow(_FACTOR, power, 1 << 16)) for power in (1, 2, 4, 8)]

    def candidates(self, data: _Bytes, start: int, stop: int) -> list[int]:
        """Of the places start, start + 2, ... below ``stop``: those whose sum is the mark."""
        library = self._library
        places = (stop - start + 1) // 2
        if places <= 0:
            return []
        left = places + _WINDOW // 2 - 1
        sums: NDArray[np.uint16] = library.frombuffer(data, "<u2", left, start + 1 - _WINDOW)
        width = 1
        for factor in self._factors:
            left -= width
            terms = self._terms[:left]
            library.multiply(sums[:left], factor, out=terms)
            sums = library.add(sums[width : width + left], terms, out=self._sums[:left])
            if width == _MIXED_AT:
                library.right_shift(sums, _MIX, out=terms)
                sums = library.bitwise_xor(sums, terms, out=sums)
            width *= 2
        hits = library.equal(sums, _MARK, out=self._hits[:left])
        return [start + 2 * int(at) for at in library.flatnonzero(hits)]
