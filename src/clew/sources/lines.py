"""Messages as JSON lines, and when a batch of them ends.

Knows no queue.
"""

from __future__ import annotations

import base64

import msgspec

from clew.sources.definitions import Feed


class Batch:
    """Messages that become one commit. ``items`` are pairs of a name and a line."""

    def __init__(self, feed: Feed) -> None:
        self._count = feed.batch_count
        self._bytes = feed.batch_bytes
        self._span_s = feed.batch_s
        self._size = 0
        self._end: float | None = None
        self.items: list[tuple[str, bytes]] = []

    @property
    def full(self) -> bool:
        """Whether nothing more goes in."""
        return len(self.items) >= self._count or self._size >= self._bytes

    @property
    def room(self) -> int:
        """How many more messages may go in."""
        return max(1, self._count - len(self.items))

    def add(self, name: str, text: bytes, now_s: float) -> None:
        """One more message; the first one starts the time."""
        if self._end is None:
            self._end = now_s + self._span_s
        self.items.append((name, text))
        self._size += len(text)

    def over(self, now_s: float) -> bool:
        """Whether it is full, or its time is."""
        return self.full or (self._end is not None and now_s >= self._end)


def line(value: object) -> bytes:
    """One value as a line of JSON."""
    return msgspec.json.encode(value) + b"\n"


def text_or_base64(value: bytes) -> str:
    """Bytes as text where they are UTF-8, else ``base64:…``."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def json_or_text(value: bytes | None) -> object:
    """What a message says: its JSON, else its text, else ``base64:…``; None where it is empty."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text_or_base64(value)
