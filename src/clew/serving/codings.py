"""How the body of an answer is packed, as a client takes it (RFC 9110 §8.4.1).

Knows headers and bytes only.
"""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache


@lru_cache(maxsize=256)
def accepted(header: bytes) -> bytes:
    """The content encoding that a client takes, ``gzip`` before ``deflate``; b'' for neither."""
    weights: dict[bytes, bool] = {}
    for part in header.lower().split(b","):
        name, _, weight = part.partition(b";")
        zero = weight.replace(b" ", b"").rstrip(b"0").rstrip(b".") in {b"q=", b"q=0"}
        weights[name.strip()] = not zero
    rest = weights.get(b"*", False)
    return next((name for name in (b"gzip", b"deflate") if weights.get(name, rest)), b"")


def compress(body: bytes, encoding: bytes) -> bytes:
    """A body with its content encoding: gzip, or deflate (the zlib format, RFC 9110 §8.4.1.2)."""
    if encoding == b"gzip":
        return gzip.compress(body, compresslevel=1, mtime=0)
    return zlib.compress(body, level=1)
