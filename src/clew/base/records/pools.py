"""Resource pools as they are now: their slots, who has them, and what waits.

Plain values; they know nothing of workers.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class SlotInfo(Struct, frozen=True, kw_only=True):
    """A slot. ``kind``: ``cpu`` (a process), ``gpu`` or ``node`` (a machine of a cluster).

    ``state``: ``free``, ``used`` (``by`` says what), ``elsewhere`` (another workspace of this user
    has the GPU) or ``excluded`` (``reason`` says why, ``since`` since when).
    """

    name: str
    kind: str
    state: str = "free"
    by: str = ""
    about: str = ""
    """What it is: the model of a GPU with its memory, the address of a machine."""
    reason: str = ""
    since: datetime | None = None


class Waiting(Struct, frozen=True, kw_only=True):
    """What waits for slots: so many of each kind. Higher ``priority`` goes first."""

    label: str
    priority: int
    cpus: int
    gpus: int


class PoolInfo(Struct, frozen=True, kw_only=True):
    """A pool. ``waiting``: in the order in which it will begin, at most the first hundred.

    ``cpus`` counts processes at a time; ``used_cpus`` and ``used_gpus`` those that are in use.
    """

    name: str
    cpus: int
    used_cpus: int
    gpus: int
    used_gpus: int
    slots: tuple[SlotInfo, ...]
    waiting: tuple[Waiting, ...] = ()
    waits: int = 0
    """How many wait in all."""


class Exclusion(Struct, frozen=True, kw_only=True):
    """A slot that no trial gets, and why: which trial saw what in its log."""

    slot: str
    reason: str
    pattern: str
    trial: str
    experiment: str
    global_id: str
    since: datetime
