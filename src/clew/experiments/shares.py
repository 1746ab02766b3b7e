"""How searches that go on at once share the slots of a pool: by priority, then evenly.

Knows numbers; what a search does with its share is in ``search``.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from msgspec import Struct


class Claim(Struct, kw_only=True):
    """How many runs a search could use now, of so many slots each.

    Claims of one priority come in the order of their beginning.
    """

    priority: int
    wants: int
    each: int = 1


def allotments(slots: int, claims: Sequence[Claim]) -> list[int]:
    """How many runs each claim has: a higher priority has all that it wants before a lower one.

    Of equals each has as many slots as the others, or all that it wants; and each at least one
    run, also where there are more of them than slots: then their runs take turns.
    """
    found = [0] * len(claims)
    for priority in sorted({claim.priority for claim in claims}, reverse=True):
        if slots <= 0:
            break
        equals = [n for n, claim in enumerate(claims) if claim.priority == priority]
        highest = priority == max(claim.priority for claim in claims)
        hungry = [n for n in equals if claims[n].wants > 0 and (highest or claims[n].each <= slots)]
        for n in hungry:
            found[n] = 1
            slots -= claims[n].each
        while hungry := [
            n for n in hungry if found[n] < claims[n].wants and claims[n].each <= slots
        ]:
            poorest = min(hungry, key=lambda n: found[n] * claims[n].each)
            found[poorest] += 1
            slots -= claims[poorest].each
    return found


class Shares:
    """The claims of all searches that go on in this process, by pool and kind of slot.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._claims: dict[int, tuple[str, Claim]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def join(self, priority: int, wants: int, *, of: str = "", each: int = 1) -> Seat:
        """A search begins, with runs of ``each`` slots ``of`` a kind; it leaves when it ends."""
        with self._lock:
            number = next(self._numbers)
            self._claims[number] = of, Claim(priority=priority, wants=wants, each=each)
        return Seat(self, number)

    def ask(self, number: int, slots: int, wants: int) -> tuple[int, bool]:
        """The runs of a claim, of so many slots in all; and whether a higher priority is there."""
        with self._lock:
            of, own = self._claims[number]
            own.wants = wants
            numbers = [n for n, (kind, _) in self._claims.items() if kind == of]
            # what nobody else wants is its own
            most = Claim(priority=own.priority, wants=max(1, slots // own.each), each=own.each)
            others = [self._claims[n][1] for n in numbers]
            claims = [
                most if n == number else other for n, other in zip(numbers, others, strict=True)
            ]
            found = allotments(slots, claims)
            outranked = any(c.priority > own.priority and c.wants for c in others)
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
        """How many runs it may have of ``slots`` in all, and whether it must give up others."""
        return self._shares.ask(self._number, slots, wants)

    def leave(self) -> None:
        """Give it up."""
        self._shares.leave(self._number)
