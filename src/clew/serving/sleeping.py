"""Which models a serving process holds in memory, where it is not to hold all of them.

Knows no rows and no loading: values in, names out.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

RESTLESS = frozenset({"loading", "canary", "arm", "shadow"})
"""States of revisions that are watched: their endpoint stays in memory with all that it has."""


class Wake(Struct, frozen=True):
    """Somebody asks for what sleeps: a version of an endpoint, or '' for what has its traffic.

    ``done`` is set when it is in memory, or cannot come.
    """

    endpoint: str
    version: str
    done: threading.Event | None = None


class Holding(Struct, frozen=True, kw_only=True):
    """How many models a process holds. ``most`` 0: all of them; ``idle_s`` 0: for ever.

    ``most`` counts revisions. What is beyond it goes, the one that was asked longest ago first;
    so does what nobody has asked for ``idle_s``. Both come back when they are asked for.
    """

    most: int = 0
    idle_s: float = 0.0

    @property
    def all(self) -> bool:
        """Whether everything is held, always."""
        return not self.most and not self.idle_s


class Asked(Protocol):
    """A model in memory, as far as it matters here."""

    waiting: int
    """Requests that are not answered yet."""

    @property
    def asked_us(self) -> int:
        """When it was last asked for, or loaded; in microseconds since the Unix epoch."""
        ...


def sleepers(
    held: Mapping[str, Asked], holding: Holding, now_us: int, others: int = 0
) -> list[str]:
    """Names of those that go to sleep now; ``others`` take places too, and stay.

    Those that have something to answer stay.
    """
    may = [name for name, each in held.items() if not each.waiting]
    may.sort(key=lambda name: held[name].asked_us)
    going = []
    if holding.idle_s:
        since_us = now_us - int(holding.idle_s * 1e6)
        going = [name for name in may if held[name].asked_us < since_us]
    if holding.most:
        beyond = len(held) - len(going) + others - holding.most
        going += [name for name in may if name not in going][: max(0, beyond)]
    return going
