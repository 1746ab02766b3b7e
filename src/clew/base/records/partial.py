"""What a server has of a large body that comes in more than one piece.

Knows nothing of what the body holds.
"""

from __future__ import annotations

from msgspec import Struct


class Partial(Struct, frozen=True, kw_only=True):
    """``id`` is what the client chose; ``size_bytes`` is where it goes on."""

    id: str
    size_bytes: int
