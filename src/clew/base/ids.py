"""Identifiers: random ones for things, time-ordered ones for predictions.

Knows nothing of what an id names. Alphabet: Crockford's base 32 in lower case
(https://www.crockford.com/base32.html), so that an id can be read aloud and double-clicked.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 16
SHORT_LENGTH = 8
PREDICTION_ID_LENGTH = 17

_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
_EPOCH_US = 1_577_836_800_000_000  # 2020-01-01T00:00:00Z; 50 bits of microseconds last until 2055


def new_id() -> str:
    """A random id of 80 bits: 16 characters."""
    return _encode(secrets.randbits(80), pairs=8)


def derived_id(*parts: str) -> str:
    """An id that follows from ``parts``: the same for the same ones, 16 characters."""
    told = "\0".join(f"{len(part)}:{part}" for part in parts).encode()
    number = int.from_bytes(hashlib.blake2b(told, digest_size=10).digest())
    return _encode(number, pairs=8)


def short(identifier: str) -> str:
    """The form that people read and copy; every command takes it back."""
    return identifier[:SHORT_LENGTH]


def is_id(text: str, *, minimum: int = 4) -> bool:
    """Whether ``text`` could be an id or the beginning of one (at least ``minimum`` characters)."""
    return minimum <= len(text) <= PREDICTION_ID_LENGTH and all(c in ALPHABET for c in text)


def is_prediction_id(text: str) -> bool:
    """Whether ``text`` has the form of a whole prediction id."""
    return len(text) == PREDICTION_ID_LENGTH and text.startswith("p") and is_id(text)


class PredictionIds:
    """Prediction ids of one process: ``p``, 10 characters of microseconds, 6 of the process.

    Ids of one process are strictly increasing; over processes they sort by time, so that a log
    cut by time finds an id from the smallest and largest of each segment. Thread-safe.
    """

    def __init__(self) -> None:
        self._suffix = _encode(secrets.randbits(30), pairs=3)
        self._last_us = 0
        self._high, self._start = -1, ""
        self._lock = threading.Lock()

    def next(self) -> str:
        """The next id."""
        return self.take(1)[0]

    def take(self, count: int) -> list[str]:
        """The next ids, at once."""
        with self._lock:
            now_us = time.time_ns() // 1000 - _EPOCH_US
            first_us = max(self._last_us + 1, now_us)
            last_us = self._last_us = first_us + count - 1
            if last_us >> 20 != first_us >> 20:  # all but four characters last for a second
                return [self._id(at_us) for at_us in range(first_us, last_us + 1)]
            if first_us >> 20 != self._high:
                self._high = first_us >> 20
                self._start = "p" + _encode(self._high, pairs=3)
            start, suffix, pairs = self._start, self._suffix, _PAIRS
        return [
            start + pairs[at_us >> 10 & 1023] + pairs[at_us & 1023] + suffix
            for at_us in range(first_us, last_us + 1)
        ]

    def _id(self, at_us: int) -> str:
        return "p" + _encode(at_us, pairs=5) + self._suffix


def _encode(value: int, *, pairs: int) -> str:
    return "".join(_PAIRS[value >> shift & 1023] for shift in range(10 * (pairs - 1), -1, -10))
