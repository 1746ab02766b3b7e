"""What waits for a model that sleeps: kept until its endpoint has it in memory, then done.

Knows no requests and no models. Belongs to one event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

_log = logging.getLogger("clew.serving")


class Sleeps(Protocol):
    """An endpoint, as far as it matters here."""

    asleep: Mapping[str, str]
    """Version ('': what has the traffic) → '', or why it cannot be loaded."""


class Parked:
    """Acts by endpoint and version. ``wake`` is asked to have a model loaded; None: nothing sleeps.

    New routes come of that, or the same with the reason why there are none.
    """

    def __init__(self) -> None:
        self.wake: Callable[[str, str], None] | None = None
        self._waiting: dict[
            tuple[str, str], list[tuple[Callable[[], None], Callable[[str], None]]]
        ] = {}

    def take(
        self,
        name: str,
        version: str,
        act: Callable[[], None],
        fail: Callable[[str], None],
        most: int,
    ) -> bool:
        """Do ``act`` when it is there, or ``fail`` with why it cannot be; False: too many wait."""
        waiting = self._waiting.setdefault((name, version), [])
        if len(waiting) >= most:
            return False
        waiting.append((act, fail))
        if len(waiting) == 1 and self.wake is not None:
            self.wake(name, version)
        return True

    def follow(self, routes: Mapping[str, Sleeps]) -> None:
        """Go on with what is not asleep any more."""
        for (name, version), waiting in list(self._waiting.items()):
            route = routes.get(name)
            why = None if route is None else route.asleep.get(version)
            if why == "" and self.wake is not None:
                self.wake(name, version)  # another one has the traffic now, or it is on its way
                continue
            del self._waiting[name, version]
            for act, fail in waiting:
                try:
                    if why:
                        fail(why)
                    else:
                        act()
                except Exception:  # noqa: BLE001 - a bug costs one request, not those behind it
                    _log.exception("a request that waited for %r could not go on", name)
