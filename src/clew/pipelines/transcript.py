"""What datums print, told while they run: a worker reads back the file that its output goes to.

Runs in worker processes only. Where output is no file (a pipe, say), nothing is told here: the end
of what was printed comes with the end of the call.
"""

from __future__ import annotations

import os
import stat
import sys

PIECE_BYTES = 1 << 20
"""At most so much is told at a time; of more, the end."""


class Transcript:
    """Which datum of a batch printed what. Not thread-safe."""

    def __init__(self) -> None:
        self._starts: list[tuple[int, int]] = []
        self._told = 0
        self._works = stat.S_ISREG(os.fstat(1).st_mode)
        self._descriptor = sys.stdout.fileno() if self._works else 1

    @property
    def told(self) -> int:
        """How many bytes of the output have been told."""
        return self._told

    def begin(self, at: int) -> None:
        """Datum ``at`` of the batch begins: what is printed from now on is its."""
        self._mend()
        if self._works:
            size = _size()
            if self._starts and self._starts[-1][0] == size:
                self._starts.pop()  # the one before printed nothing
            self._starts.append((size, at))

    def _mend(self) -> None:
        """What a datum has closed of the standard streams is open again for the next."""
        for number in (1, 2):
            try:
                os.fstat(number)
            except OSError:
                try:
                    os.dup2(self._descriptor, number)
                except OSError:  # it has closed that too: the end of the call tells what was said
                    self._works = False
                    return

    def take(self) -> list[tuple[int, str]]:
        """What was printed since the last time, by datum; whole lines while they are written."""
        self._mend()
        end = _size() if self._works else 0
        if not self._works or end == self._told:
            return []
        self._told = min(self._told, end)  # its owner cut it short
        begin = max(self._told, end - PIECE_BYTES)
        try:
            data = os.pread(1, end - begin, begin)
        except OSError:  # output that cannot be read back
            self._works = False
            return []
        left_out = begin - self._told
        self._told = begin + len(data)
        pieces = self._cut(data, begin)
        if left_out and pieces:
            note = f"[{left_out} bytes before this are not kept]\n"
            pieces[0] = (pieces[0][0], note + pieces[0][1])
        return pieces

    def _cut(self, data: bytes, begin: int) -> list[tuple[int, str]]:
        end = begin + len(data)
        while len(self._starts) > 1 and self._starts[1][0] <= begin:
            self._starts.pop(0)
        pieces = list[tuple[int, str]]()
        for number, (start, at) in enumerate(self._starts):
            until = self._starts[number + 1][0] if number + 1 < len(self._starts) else end
            text = data[max(0, start - begin) : max(0, until - begin)]
            if text:
                pieces.append((at, text.decode(errors="replace")))
        return pieces


def _size() -> int:
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    return os.fstat(1).st_size
