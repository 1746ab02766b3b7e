"""Raw streams that know their size and can be read from any place.

Knows nothing of where the bytes are: who inherits fills a buffer.
"""

from __future__ import annotations

import io


class SeekableRaw(io.RawIOBase):
    """``size_bytes`` bytes and a place in them, ``_at``, from which ``readinto`` reads on.

    One thread at a time.
    """

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self._size = size_bytes
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place; beyond the end there is nothing to read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at
