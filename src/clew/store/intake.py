"""Large files on their way in: read, cut, named and squeezed by several threads at once.

Knows chunks and how they are kept small; knows nothing of packs. Blocks are read once and not
copied: a chunk is a view of the block that it lies in, unless it spans two.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from clew.store import cutter
from clew.store.chunks import CHUNK
from clew.store.digests import key_of
from clew.store.squeeze import Squeezer

BLOCK = 16 * 1024 * 1024
_HANDS = 2  # one reads and cuts, these name and squeeze
_AHEAD = 8  # chunks that are cut and wait for their name
_local = threading.local()


class Chunk(NamedTuple):
    """A chunk as it is kept; ``stored`` is None where it is kept already."""

    key: bytes
    size_bytes: int
    encoding: int
    stored: bytes | memoryview | None


Known = Callable[[bytes], bool]
"""Whether the object of a key is kept already. Called from several threads."""


def chunks(read: Callable[[int], bytes], first: bytes, known: Known) -> Iterator[Chunk]:
    """The chunks of a stream that begins with ``first``, in order."""
    with ThreadPoolExecutor(_HANDS, thread_name_prefix="clew-chunk") as hands:
        waiting: deque[Future[Chunk]] = deque()
        try:
            for view in views(read, first):
                waiting.append(hands.submit(_prepared, view, known))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def identify(read: Callable[[int], bytes], first: bytes) -> tuple[list[bytes], list[int]]:
    """Keys and sizes of the chunks of a stream, of which nothing is kept."""
    found = list(chunks(read, first, lambda _: True))
    return [one.key for one in found], [one.size_bytes for one in found]


def views(read: Callable[[int], bytes], first: bytes = b"") -> Iterator[memoryview]:
    """The chunks of a stream as views; ``read`` gives nothing at the end, and may give less."""
    rest = memoryview(first)
    while block := _block(read):
        view = memoryview(block)
        at = 0
        while rest:  # what spans the old block and the new one is copied
            need = cutter.LARGEST - len(rest)
            both = memoryview(b"".join([rest, view[:need]]))
            size = cutter.cut(both)
            if size == len(both) < cutter.LARGEST:
                rest = both
                at = len(view)
                break
            yield both[:size]
            if size >= len(rest):
                at = size - len(rest)
                rest = memoryview(b"")
            else:
                rest = rest[size:]
        while at < len(view):
            window = view[at : at + cutter.LARGEST]
            size = cutter.cut(window)
            if size == len(window) < cutter.LARGEST:
                rest = window  # the end of the block, and perhaps not of the chunk
                break
            yield window[:size]
            at += size
    while len(rest):
        size = cutter.cut(rest)
        yield rest[:size]
        rest = rest[size:]


def _block(read: Callable[[int], bytes]) -> bytes:
    data = read(BLOCK)
    if len(data) == BLOCK or not data:
        return data
    pieces = [data]
    left = BLOCK - len(data)
    while left and (data := read(left)):
        pieces.append(data)
        left -= len(data)
    return b"".join(pieces) if len(pieces) > 1 else pieces[0]


def _prepared(view: memoryview, known: Known) -> Chunk:
    key = key_of(CHUNK, view)
    if known(key):
        return Chunk(key, len(view), 0, None)
    squeezer: Squeezer | None = getattr(_local, "squeezer", None)
    if squeezer is None:
        squeezer = _local.squeezer = Squeezer()
    encoding, stored = squeezer.squeeze(view)
    return Chunk(key, len(view), encoding, stored)
