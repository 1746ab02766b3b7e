"""Resource pools on a cluster: limits on what runs at once, and machines that nobody may have.

Knows machines and demands; which machine a call goes to is the cluster's choice, so a slot here is
a whole machine. A pool that settings name holds so many processes and GPUs at a time; the default
one holds what the cluster does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from clew.base.errors import Unavailable
from clew.base.pools import DEFAULT, PoolSize
from clew.base.records.pools import PoolInfo, SlotInfo, Waiting
from clew.compute.call import Call
from clew.compute.demands import Demand, Machine, room_for, shown_one
from clew.compute.slots import MOST_SHOWN, amounts, excluded_all, too_small, unknown_pool

NODE_LABEL = "ray.io/node-id"


class Runs(Struct, frozen=True, kw_only=True):
    """A call that runs, on which machine, since when."""

    call: Call
    node: str
    since: datetime


class ClusterPools:
    """The pools of a cluster. Thread-safe: what changes is replaced whole."""

    def __init__(self, sizes: Sequence[PoolSize]) -> None:
        self._sizes = {one.name: one for one in sizes}
        self._excluded: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """Of all pools, the default one first."""
        return list(dict.fromkeys([DEFAULT, *self._sizes]))

    def check(self, pool: str, resources: Mapping[str, float]) -> None:
        """Refuse what a limit forbids for ever. Raises Invalid."""
        size = self._size(pool)
        cpus, gpus = amounts(resources)
        if size is not None and (cpus > size.cpus or gpus > len(size.gpus)):
            raise too_small(size.name, size.cpus, len(size.gpus), resources)

    def room(
        self,
        pool: str,
        resources: Mapping[str, float],
        machines: Sequence[Machine],
        size: int,
        ranks: int = 1,
    ) -> int:
        """How many such calls a pool holds at a time; by cores alone where no machine is known."""
        limit = self._size(pool)
        cpus, gpus = amounts(resources)
        demand = Demand(tuple(sorted(of_one(resources, ranks).items())))
        known = room_for(demand, self.allowed(machines)) // ranks
        room = known if machines else size // cpus * (not gpus)
        if limit is not None:
            room = min(room, limit.cpus // cpus, *([len(limit.gpus) // gpus] if gpus else []))
        return min(room, max(1, size // ranks))

    def allowed(self, machines: Iterable[Machine]) -> list[Machine]:
        """Those that nobody has excluded."""
        return [one for one in machines if node_slot(one.id) not in self._excluded]

    def may_have(self, node: str) -> bool:
        """Whether calls may go to a machine."""
        return not self._excluded or node_slot(node) not in self._excluded

    def on_allowed(self, demand: Demand, machines: Iterable[Machine]) -> Demand:
        """The demand that its machine is none that is excluded."""
        out = [one.id for one in machines if not self.may_have(one.id)]
        if not out:
            return demand
        beside = dict(demand.placement) | {NODE_LABEL: f"!in({', '.join(out)})"}
        return Demand(demand.resources, tuple(sorted(beside.items())))

    def refusal(self, demand: Demand, machines: Sequence[Machine]) -> Unavailable | None:
        """Why a demand finds nothing, where that is because of machines that are excluded."""
        if not self._excluded or not room_for(demand, machines):
            return None
        out = {
            node_slot(one.id): self._excluded[node_slot(one.id)]
            for one in machines
            if not self.may_have(one.id)
        }
        return excluded_all(DEFAULT, out) if out else None

    def holds_back(self, call: Call, running: Iterable[Call]) -> bool:
        """Whether a call has to wait because its pool is full. Raises Invalid ``pool.unknown``."""
        size = self._size(call.pool)
        if size is None:
            return False
        cpus, gpus = amounts(call.beside or call.resources)
        for other in running:
            if (other.pool or DEFAULT) == size.name:
                more = amounts(other.beside or other.resources)
                cpus, gpus = cpus + more[0], gpus + more[1]
        return cpus > size.cpus or gpus > len(size.gpus)

    def exclude(self, slots: Mapping[str, str]) -> bool:
        """Give these machines to nobody, and all others again; whether that is new."""
        is_new = self._excluded != slots
        self._excluded = dict(slots)
        return is_new

    def look(
        self, machines: Sequence[Machine], running: Collection[Runs], waiting: Iterable[Call]
    ) -> list[PoolInfo]:
        """All pools as they are; machines are slots of the default one."""
        waits: dict[str, list[Waiting]] = {}
        for call in waiting:
            cpus, gpus = amounts(call.beside or call.resources)
            one = Waiting(label=call.label, priority=call.priority, cpus=cpus, gpus=gpus)
            waits.setdefault(call.pool or DEFAULT, []).append(one)
        return [self._info(name, machines, running, waits.get(name, [])) for name in self.names]

    def _info(
        self, name: str, machines: Sequence[Machine], running: Iterable[Runs], waits: list[Waiting]
    ) -> PoolInfo:
        here = [one for one in running if (one.call.pool or DEFAULT) == name]
        used = [amounts(one.call.beside or one.call.resources) for one in here]
        size = self._sizes.get(name)
        cpus = sum(int(one.resources.get("CPU", 0)) for one in machines)
        gpus = sum(int(one.resources.get("GPU", 0)) for one in machines)
        slots = () if name != DEFAULT else tuple(_slot(one, running, self) for one in machines)
        return PoolInfo(
            name=name,
            cpus=size.cpus if size else cpus,
            used_cpus=sum(one[0] for one in used),
            gpus=len(size.gpus) if size else gpus,
            used_gpus=sum(one[1] for one in used),
            slots=slots,
            waiting=tuple(waits[:MOST_SHOWN]),
            waits=len(waits),
        )

    def reason(self, slot: str) -> str:
        """Why a machine is excluded; '' where it is not."""
        return self._excluded.get(slot, "")

    def _size(self, pool: str) -> PoolSize | None:
        name = pool or DEFAULT
        if name != DEFAULT and name not in self._sizes:
            raise unknown_pool(name, self.names)
        return self._sizes.get(name)


def of_one(resources: Mapping[str, float], ranks: int) -> dict[str, float]:
    """What one of so many ranks needs, of what they need together."""
    given = {"CPU": float(ranks), **resources}
    return {name: n / ranks if name in {"CPU", "GPU"} else n for name, n in given.items()}


def node_slot(id: str) -> str:
    """What people call a machine of a cluster."""
    return f"{DEFAULT}/node:{id[:12]}"


def _slot(machine: Machine, running: Iterable[Runs], pools: ClusterPools) -> SlotInfo:
    name = node_slot(machine.id)
    here = [one for one in running if one.node == machine.id]
    reason = pools.reason(name)
    return SlotInfo(
        name=name,
        kind="node",
        state="excluded" if reason else "used" if here else "free",
        by=", ".join(one.call.label for one in here),
        about=shown_one(machine),
        reason=reason,
        since=min((one.since for one in here), default=None),
    )
