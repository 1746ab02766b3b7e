"""What is refused before it is read: predictions of endpoints where too many wait already.

Knows paths and the data plane, no sockets. At several times the capacity most of the work is
refusals: each is to cost as little as can be, so that what was taken is answered as quickly.
"""

from __future__ import annotations

from functools import lru_cache

from clew.serving.dataplane import DataPlane, Route
from clew.serving.rest import target_of


class Shedding:
    """Looks at the queues of a data plane. ``route.max_queue`` says how many may wait."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def full(self, raw: bytes) -> bool:
        """Whether a request target is a prediction that would be refused whatever it says."""
        plane = self._plane
        if plane.in_flight < plane.least_queue:  # nothing is full, which is the rule
            return False
        route = self._asked(raw)
        if route is None:
            return False
        if route.only is not None:
            return route.only.value.waiting >= route.max_queue
        if not route.router.arms:
            return False
        return all(arm.value.waiting >= route.max_queue for arm in route.router.arms)

    def refused(self, raw: bytes) -> None:
        """Such a request was refused: it is counted, and no more."""
        route = self._asked(raw)
        runtime = None if route is None else route.peek("")
        if runtime is not None:
            runtime.account.overloads += 1

    def _asked(self, raw: bytes) -> Route | None:
        return self._plane.routes.get(_endpoint_of(raw))


@lru_cache(maxsize=1024)
def _endpoint_of(raw: bytes) -> str:
    """The endpoint that is asked for a prediction, of no version in particular; '' for all else."""
    target = target_of(raw)
    if target is None or target.version or target.what not in {"infer", "v1_predict"}:
        return ""
    return target.name
