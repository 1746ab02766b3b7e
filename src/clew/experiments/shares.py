"""How searches that go on at once share the slots of compute: by priority, then evenly.

Knows numbers; what a search does with its share is in ``search``.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from msgspec import Struct


class Claim(Struct, kw_only=True):
    """What a search could use now. Claims of one priority come in the order of their beginning."""

    priority: int
    wants: int


def allotments(slots: int, claims: Sequence[Claim]) -> list[int]:
    """How many slots each claim has: a higher priority has all that it wants before a lower one.

    Of equals each has as many as the others, or all that it wants; and each at least one, also
    where there are more of them than slots: then their runs take turns.
    """
    found = [0] * len(claims)
    for priority in sorted({claim.priority for claim in claims}, reverse=True):
        if slots <= 0:
            break
        equals = [n for n, claim in enumerate(claims) if claim.priority == priority]
        hungry = [n for n in equals if claims[n].wants > 0]
        for n in hungry:
            found[n] = 1
        slots -= len(hungry)
        while slots > 0 and (hungry := [n for n in equals if found[n] < claims[n].wants]):
            for n in hungry[:slots]:
                found[n] += 1
            slots -= len(hungry[:slots])
    return found


class Shares:
    """The claims of all searches that go on in this process. Thread-safe."""

    def __init__(self) -> None:
        self._claims: dict[int, Claim] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def join(self, priority: int, wants: int) -> Seat:
        """A search begins; it leaves its seat when it ends."""
        with self._lock:
            number = next(self._numbers)
            self._claims[number] = Claim(priority=priority, wants=wants)
        return Seat(self, number)

    def ask(self, number: int, slots: int, wants: int) -> tuple[int, bool]:
        """The slots of a claim, of so many in all; and whether a higher priority is there."""
        with self._lock:
            own = self._claims[number]
            own.wants = wants
            numbers = list(self._claims)
            most = Claim(priority=own.priority, wants=slots)  # what nobody else wants is its own
            claims = [most if n == number else self._claims[n] for n in numbers]
            found = allotments(slots, claims)
            outranked = any(c.priority > own.priority and c.wants for c in self._claims.values())
        return found[numbers.index(number)], outranked

    def leave(self, number: int) -> None:
        """A search has ended."""
        with self._lock:
            self._claims.pop(number, None)


class Seat:
    """One search's place among the others."""

    def __init__(self, shares: Shares, number: int) -> None:
        self._shares = shares
        self._number = number

    def ask(self, slots: int, wants: int) -> tuple[int, bool]:
        """How many of ``slots`` it has, and whether it must give up those that it uses beyond."""
        return self._shares.ask(self._number, slots, wants)

    def leave(self) -> None:
        """Give it up."""
        self._shares.leave(self._number)
