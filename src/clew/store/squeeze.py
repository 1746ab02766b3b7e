"""Bytes made small where it pays, and back.

Knows zstandard (level 1) and nothing of objects.
"""

from __future__ import annotations

import threading

import zstandard

RAW = 0
ZSTD = 1
_WORTHWHILE = 128  # smaller payloads are not tried: a zstd frame costs as much as it saves


class Squeezer:
    """Compresses. What that takes is made once for each thread, when there is something to do."""

    def squeeze(self, data: bytes | memoryview) -> tuple[int, bytes | memoryview]:
        """Encoding and stored form: zstd where it saves a sixteenth or more, else as it is."""
        if len(data) < _WORTHWHILE:
            return RAW, data
        small = _compressor().compress(data)
        return (ZSTD, small) if len(small) <= len(data) - len(data) // 16 else (RAW, data)


_local = threading.local()


def expand(encoding: int, stored: bytes, size_bytes: int) -> bytes | None:
    """The payload of ``size_bytes`` again, or None where ``stored`` is no such thing."""
    if encoding == RAW:
        return stored if len(stored) == size_bytes else None
    if encoding != ZSTD:
        return None
    try:
        if zstandard.frame_content_size(stored) != size_bytes:
            return None  # asked first: a flipped bit must not ask for gigabytes of memory
        data = _decompressor().decompress(stored, max_output_size=size_bytes)
    except zstandard.ZstdError:
        return None
    return data if len(data) == size_bytes else None


def _compressor() -> zstandard.ZstdCompressor:
    known: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if known is None:
        known = zstandard.ZstdCompressor(level=1, write_content_size=True)
        _local.compressor = known
    return known


def _decompressor() -> zstandard.ZstdDecompressor:
    known: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if known is None:
        known = _local.decompressor = zstandard.ZstdDecompressor()
    return known
