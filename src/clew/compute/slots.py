"""The slots of all pools of a place to run calls: what a call needs, who has what, what is left.

Knows numbers, names and locks; queues and workers are for the places themselves.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct, field

from clew.base.clock import now
from clew.base.errors import Invalid, Unavailable
from clew.base.gpus import VISIBLE, Gpu, gpus
from clew.base.pools import DEFAULT, REST, PoolSize
from clew.base.records.pools import PoolInfo, SlotInfo, Waiting
from clew.compute.call import Call
from clew.compute.gpus import Lease, lease_now

GRANTED = "CLEW_GPUS"
"""Set for a call that was given GPUs: it need not take any itself."""
MOST_SHOWN = 100
_GIB = 1 << 30


class Need(Struct, frozen=True):
    """What a call takes of its pool while it runs."""

    pool: str
    cpus: int
    gpus: int


class Grant(Struct, frozen=True, kw_only=True):
    """The slots that a call has, until they are given back."""

    need: Need
    label: str
    cpus: tuple[int, ...]
    gpus: tuple[Gpu, ...]
    since: datetime
    lease: Lease

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of what it runs on: GPUs where it has some, else processes."""
        pool = self.need.pool
        return tuple(gpu_slot(pool, gpu) for gpu in self.gpus) or tuple(
            cpu_slot(pool, number) for number in self.cpus
        )

    @property
    def environment(self) -> dict[str, str]:
        """What the call sees: its GPUs alone."""
        if not self.gpus:
            return {}
        return {
            VISIBLE: self.devices,
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            GRANTED: self.devices,
        }

    @property
    def devices(self) -> str:
        """Its GPUs, as CUDA names them; '' for none."""
        return ",".join(_device(gpu) for gpu in self.gpus)


class _Pool(Struct):
    size: PoolSize
    gpus: list[Gpu]
    used_cpus: dict[int, Grant] = field(default_factory=dict)
    used_gpus: dict[str, Grant] = field(default_factory=dict)


class Ledger:
    """Who has which slot. Thread-safe; ``take``, ``give_back`` are for whoever starts calls.

    ``detect`` says which GPUs there are, the first time that anybody wants one.
    """

    def __init__(self, sizes: Sequence[PoolSize], detect: Callable[[], list[Gpu]] = gpus) -> None:
        self._sizes = tuple(sizes)
        self._detect = detect
        self._lock = threading.RLock()
        self._pools = {one.name: _Pool(one, []) for one in sizes}
        self._detected = False
        self._excluded: dict[str, str] = {}
        self._elsewhere: set[str] = set()

    @property
    def size(self) -> int:
        """How many calls run at a time in all pools together."""
        return sum(one.cpus for one in self._sizes)

    @property
    def contended(self) -> bool:
        """Whether a GPU was wanted that somebody else on this machine has."""
        return bool(self._elsewhere)

    # what could be --------------------------------------------------------------------------

    def check(self, pool: str, resources: Mapping[str, float]) -> None:
        """Refuse what this pool could never hold, whatever runs.

        Raises:
            Invalid: ``pool.unknown``, ``pool.too_small``.
        """
        found = self._pool(pool)
        cpus, gpus = amounts(resources)
        self._find_gpus(gpus)
        other = sorted(name for name, n in resources.items() if n and name not in _KNOWN)
        if other or cpus > found.size.cpus or gpus > len(found.gpus):
            raise too_small(found.size.name, found.size.cpus, len(found.gpus), resources)

    def room(self, pool: str, resources: Mapping[str, float]) -> int:
        """How many calls that need this the pool holds at a time; excluded slots do not count.

        Raises:
            Invalid: ``pool.unknown``.
        """
        found = self._pool(pool)
        cpus, gpus = amounts(resources)
        self._find_gpus(gpus)
        with self._lock:
            all_cpus, all_gpus = len(self._cpus(found)), len(self._gpus(found))
        by_cpus = all_cpus // min(cpus, max(1, all_cpus))
        return min(by_cpus, all_gpus // gpus) if gpus else by_cpus

    # taking ---------------------------------------------------------------------------------

    def need(self, call: Call) -> Need:
        """What a call takes: processes at most as many as its pool has, so that it can begin."""
        name = call.pool or DEFAULT
        cpus, gpus = amounts(call.resources)
        self._find_gpus(gpus)
        pool = self._pools.get(name)
        return Need(name, cpus if pool is None else min(cpus, pool.size.cpus), gpus)

    def lack(self, need: Need) -> str:
        """What the call has to wait for: ``cpu``, ``gpu``, or '' where it can begin.

        Raises:
            Invalid: ``pool.unknown``, ``pool.too_small``.
            Unavailable: ``pool.excluded`` where only slots are left that nobody may have.
        """
        pool = self._pool(need.pool)
        with self._lock:
            if need.gpus > len(pool.gpus):
                wanted = {"CPU": need.cpus, "GPU": need.gpus}
                raise too_small(need.pool, pool.size.cpus, len(pool.gpus), wanted)
            cpus, gpus = self._cpus(pool), self._gpus(pool)
            if not cpus or need.gpus > len(gpus):
                raise self._all_excluded(pool, need)
            if min(need.cpus, len(cpus)) > len(cpus) - sum(n in pool.used_cpus for n in cpus):
                return "cpu"
            free = sum(gpu.uuid not in pool.used_gpus for gpu in gpus)
            return "gpu" if need.gpus > free else ""

    def take(self, need: Need, label: str) -> Grant | None:
        """The slots for a call that lacks nothing; None where its GPUs are in use elsewhere."""
        pool = self._pool(need.pool)
        with self._lock:
            cpus = [n for n in self._cpus(pool) if n not in pool.used_cpus][: need.cpus]
            free = [gpu for gpu in self._gpus(pool) if gpu.uuid not in pool.used_gpus]
            lease = lease_now(need.gpus, free)
            if lease is None:
                self._elsewhere |= {gpu.uuid for gpu in free}
                return None
            self._elsewhere -= {gpu.uuid for gpu in lease.gpus}
            grant = Grant(
                need=need, label=label, cpus=tuple(cpus), gpus=tuple(lease.gpus), since=now(),
                lease=lease,
            )  # fmt: skip
            pool.used_cpus |= dict.fromkeys(cpus, grant)
            pool.used_gpus |= dict.fromkeys([gpu.uuid for gpu in grant.gpus], grant)
            return grant

    def give_back(self, grant: Grant) -> None:
        """The call has ended."""
        with self._lock:
            pool = self._pools[grant.need.pool]
            for number in grant.cpus:
                del pool.used_cpus[number]
            for gpu in grant.gpus:
                del pool.used_gpus[gpu.uuid]
            grant.lease.close()

    def exclude(self, slots: Mapping[str, str]) -> bool:
        """Give these slots to nobody from now on, and all others again; whether that is new.

        ``slots``: why, by name. What runs on one comes to its end.
        """
        with self._lock:
            is_new = self._excluded != slots
            self._excluded = dict(slots)
        return is_new

    # looking --------------------------------------------------------------------------------

    def look(self, waiting: Iterable[Call]) -> list[PoolInfo]:
        """All pools as they are, with what waits for them."""
        self._find_gpus(1)
        waits: dict[str, list[Waiting]] = {}
        for call in waiting:
            need = self.need(call)
            one = Waiting(label=call.label, priority=call.priority, cpus=need.cpus, gpus=need.gpus)
            waits.setdefault(need.pool, []).append(one)
        with self._lock:
            return [
                self._info(pool, waits.get(pool.size.name, [])) for pool in self._pools.values()
            ]

    def _info(self, pool: _Pool, waits: list[Waiting]) -> PoolInfo:
        name = pool.size.name
        cpus = [
            self._slot(cpu_slot(name, number), "cpu", pool.used_cpus.get(number))
            for number in range(pool.size.cpus)
        ]
        cards = [
            self._slot(gpu_slot(name, gpu), "gpu", pool.used_gpus.get(gpu.uuid), gpu)
            for gpu in pool.gpus
        ]
        return PoolInfo(
            name=name,
            cpus=pool.size.cpus,
            used_cpus=len(pool.used_cpus),
            gpus=len(pool.gpus),
            used_gpus=len(pool.used_gpus),
            slots=(*cpus, *cards),
            waiting=tuple(waits[:MOST_SHOWN]),
            waits=len(waits),
        )

    def _slot(self, name: str, kind: str, grant: Grant | None, gpu: Gpu | None = None) -> SlotInfo:
        about = f"{gpu.name}, {gpu.memory_bytes / _GIB:.0f} GiB" if gpu else ""
        by, since = (grant.label, grant.since) if grant else ("", None)
        state = "used" if grant else "free"
        if gpu is not None and grant is None and gpu.uuid in self._elsewhere:
            state = "elsewhere"
        reason = self._excluded.get(name, "")
        if reason:
            state = "excluded"
        return SlotInfo(
            name=name, kind=kind, state=state, by=by, about=about, reason=reason, since=since
        )

    # inside ---------------------------------------------------------------------------------

    def _pool(self, name: str) -> _Pool:
        try:
            return self._pools[name or DEFAULT]
        except KeyError:
            raise unknown_pool(name, self._pools) from None

    def _cpus(self, pool: _Pool) -> list[int]:
        """Those that may be given."""
        if not self._excluded:
            return list(range(pool.size.cpus))
        name = pool.size.name
        return [n for n in range(pool.size.cpus) if cpu_slot(name, n) not in self._excluded]

    def _gpus(self, pool: _Pool) -> list[Gpu]:
        name = pool.size.name
        return [gpu for gpu in pool.gpus if gpu_slot(name, gpu) not in self._excluded]

    def _find_gpus(self, wanted: int) -> None:
        """Share the GPUs of the machine among the pools, once, when one is wanted."""
        with self._lock:
            if self._detected or not wanted:
                return
            left = self._detect()
            for pool in sorted(self._pools.values(), key=lambda one: REST in one.size.gpus):
                pool.gpus = [gpu for gpu in left if _names(pool.size, gpu)]
                left = [gpu for gpu in left if gpu not in pool.gpus]
            self._detected = True

    def _all_excluded(self, pool: _Pool, need: Need) -> Unavailable:
        name = pool.size.name
        all_of_them = [cpu_slot(name, n) for n in range(pool.size.cpus)]
        if need.gpus:
            all_of_them = [gpu_slot(name, gpu) for gpu in pool.gpus]
        out = {slot: self._excluded[slot] for slot in all_of_them if slot in self._excluded}
        return excluded_all(name, out)


_KNOWN = frozenset({"CPU", "GPU", "memory"})


def cpu_slot(pool: str, number: int) -> str:
    """What people call the slot of a process."""
    return f"{pool}/cpu:{number}"


def gpu_slot(pool: str, gpu: Gpu) -> str:
    """What people call the slot of a GPU."""
    return f"{pool}/gpu:{_device(gpu)}"


def unknown_pool(name: str, known: Iterable[str]) -> Invalid:
    """A pool that no setting names."""
    return Invalid(
        "pool.unknown",
        f"There is no resource pool {name!r}: there are {', '.join(sorted(known))}.",
        hint="Name one of them, or set CLEW_POOLS where the engine runs.",
    )


def excluded_all(pool: str, slots: Mapping[str, str]) -> Unavailable:
    """Nothing of a pool is left that may be given. ``slots``: why, by name."""
    said = "; ".join(f"{slot} ({reason})" for slot, reason in slots.items())
    first = next(iter(slots), pool)
    return Unavailable(
        "pool.excluded",
        f"All slots of the pool {pool} that could hold this are excluded: {said}.",
        hint=f"Give one back when it is mended: clew pools --restore {first}",
    )


def too_small(pool: str, cpus: int, gpus: int, wanted: Mapping[str, float]) -> Invalid:
    """What a pool could never hold."""
    return Invalid(
        "pool.too_small",
        f"The pool {pool} can never hold {_words(wanted)}: it has CPU: {cpus}, GPU: {gpus}.",
        hint="Ask for less (resources=, workers=), or name a larger pool; see them: clew pools",
    )


def amounts(resources: Mapping[str, float]) -> tuple[int, int]:
    """Slots of processes and of GPUs, whole ones: a call needs a process, and a part of a GPU is
    one.
    """
    return max(1, math.ceil(resources.get("CPU", 1))), math.ceil(resources.get("GPU", 0))


def _words(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name}: {amount:g}" for name, amount in sorted(resources.items()) if amount)


def _device(gpu: Gpu) -> str:
    """How CUDA_VISIBLE_DEVICES names it."""
    return gpu.uuid if gpu.uuid.startswith("MIG-") else str(gpu.index)


def _names(size: PoolSize, gpu: Gpu) -> bool:
    return any(
        name in {REST, str(gpu.index)} or (not name.isdigit() and gpu.uuid.startswith(name))
        for name in size.gpus
    )
