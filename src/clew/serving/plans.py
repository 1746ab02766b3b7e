"""What replicas on a cluster are told and tell, as plain values.

Knows neither Ray nor models.
"""

from __future__ import annotations

from msgspec import Struct

from clew.base.records import Signature
from clew.base.records.exports import ImageFile
from clew.serving.runtime import Identity


class PlannedArm(Struct, frozen=True, kw_only=True):
    """A revision that a replica holds. ``tree`` names its files, ``role`` is its state; ``copied``:
    of which share of the requests (from 0 to 1) it gets copies, where it is a shadow.
    """

    identity: Identity
    tree: str
    role: str
    weight: float
    watched: bool = False
    copied: float = 1.0


class Plan(Struct, frozen=True, kw_only=True):
    """An endpoint as its replicas serve it; ``shadows`` get copies.

    ``nodes``: of a graph, the endpoints that it asks: a replica of a graph holds them too, so that
    a request goes through it on one machine.
    """

    endpoint: str
    arms: tuple[PlannedArm, ...]
    shadows: tuple[PlannedArm, ...] = ()
    log: float = 1.0
    redact: tuple[str, ...] = ()
    max_queue: int = 1024
    nodes: tuple[Plan, ...] = ()

    @property
    def held(self) -> tuple[PlannedArm, ...]:
        """Every revision that is to be in memory."""
        of_nodes = (arm for node in self.nodes for arm in node.held)
        return (*self.arms, *self.shadows, *of_nodes)


class Contents(Struct, frozen=True, kw_only=True):
    """The files of a model version, with their digests, and their bytes by path."""

    files: tuple[ImageFile, ...]
    data: dict[str, bytes]


class Held(Struct, frozen=True, kw_only=True):
    """A revision in a replica: '' or why it cannot be loaded; what computes it, what it gives."""

    error: str = ""
    platform: str = ""
    outputs: tuple[dict[str, object], ...] = ()
    signature: Signature | None = None


class Report(Struct, frozen=True, kw_only=True):
    """What a replica tells twice a second: which revisions it holds, and its requests in flight.

    ``counts``: revision → what was answered since the last report (``stats.Counts``, as msgpack).
    """

    replica: str
    endpoint: str
    held: dict[str, Held]
    in_flight: int
    unlogged: int
    counts: dict[str, bytes]
