"""A large file: the list of its chunks, and reading it from any place.

Knows the canonical chunk list; knows nothing of how a file is cut or where chunks are kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

import msgspec
from msgspec import Struct

from clew.base.errors import Corrupt
from clew.base.streams import SeekableRaw
from clew.store.digests import KEY_BYTES, canonical

FILE = "file"
CHUNK = "chunk"
CHUNKS = "chunks"
WHOLE_BELOW = 1024 * 1024
"""Files of fewer bytes are one object (``file:``); others are a chunk list (``chunks:``)."""

_FORM = 1


class ChunkList(Struct, frozen=True, kw_only=True):
    """The chunks of a file in order: 32 bytes of key and the size of each."""

    keys: tuple[bytes, ...]
    sizes: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return sum(self.sizes)


def encode_chunks(keys: Sequence[bytes], sizes: Sequence[int]) -> bytes:
    """The canonical bytes of a chunk list."""
    return canonical([_FORM, sum(sizes), list(sizes), b"".join(keys)])


def decode_chunks(digest: str, payload: bytes) -> ChunkList:
    """The chunk list again.

    Raises:
        Corrupt: ``object.corrupt`` where the payload is no chunk list of this version.
    """
    try:
        form, total, sizes, keys = msgspec.msgpack.decode(
            payload, type=tuple[int, int, list[int], bytes]
        )
    except msgspec.MsgspecError as error:
        raise _not_a_list(digest) from error
    if form != _FORM or sum(sizes) != total or len(keys) != KEY_BYTES * len(sizes):
        raise _not_a_list(digest)
    parts = tuple(keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES))
    return ChunkList(keys=parts, sizes=tuple(sizes))


class ChunkReader(SeekableRaw):
    """A large file as a seekable raw stream. One thread at a time; keeps the last chunk."""

    def __init__(self, chunks: ChunkList, fetch: Callable[[bytes], bytes]) -> None:
        super().__init__(sum(chunks.sizes))
        self._chunks = chunks
        self._fetch = fetch
        self._ends = list(accumulate(chunks.sizes))
        self._number = -1
        self._chunk = b""

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a part of what may be written to
        """Fill ``buffer`` from the chunk that holds the next byte; 0 at the end."""
        if self._at >= self._size:
            return 0
        number = bisect_right(self._ends, self._at)
        if number != self._number:
            self._chunk = self._fetch(self._chunks.keys[number])
            self._number = number
        start = self._at - (self._ends[number] - self._chunks.sizes[number])
        piece = self._chunk[start : start + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _not_a_list(digest: str) -> Corrupt:
    return Corrupt(
        "object.corrupt",
        f"{digest} is not a chunk list that this version of Clew can read.",
        hint="Upgrade Clew if it is older than this workspace; else restore from a backup.",
    )
