"""What a call demands of a machine, what machines have, and what fits where.

Knows numbers and labels; knows nothing of lanes and of who starts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from clew.compute.call import Call


class Demand(msgspec.Struct, frozen=True):
    """Resources (with at least ``CPU``) and labels, sorted: equal demands are equal values."""

    resources: tuple[tuple[str, float], ...]
    placement: tuple[tuple[str, str], ...] = ()

    @property
    def cpus(self) -> float:
        """How many cores."""
        return dict(self.resources)["CPU"]

    def words(self) -> str:
        """For people: ``CPU: 1, GPU: 1 on zone=eu``."""
        things = ", ".join(f"{name}: {amount:g}" for name, amount in self.resources)
        where = ", ".join(f"{label}={value}" for label, value in self.placement)
        return f"{things} on {where}" if where else things


class Machine(msgspec.Struct, frozen=True):
    """A machine of a cluster that is there: everything it has, in use or not."""

    id: str
    host: str
    resources: dict[str, float]
    labels: dict[str, str]


def demand_of(call: Call) -> Demand:
    """What a call demands; a core where it does not say."""
    resources = {"CPU": 1.0, **call.resources}
    return Demand(tuple(sorted(resources.items())), tuple(sorted(call.placement.items())))


def room_for(demand: Demand, machines: Iterable[Machine]) -> int:
    """How many calls of a demand the machines could hold at once, if they did nothing else."""
    return sum(_room(demand, machine) for machine in machines)


def _room(demand: Demand, machine: Machine) -> int:
    if not all(_matches(value, machine.labels.get(label)) for label, value in demand.placement):
        return 0
    amounts = [(machine.resources.get(name, 0.0), wanted) for name, wanted in demand.resources]
    shares = [have / wanted for have, wanted in amounts if wanted > 0]
    return math.floor(min(shares)) if shares else 1


def _matches(wanted: str, found: str | None) -> bool:
    """A value, ``in(a, b)``, or either with ``!`` in front: as Ray's label selectors."""
    if wanted.startswith("!"):
        return not _matches(wanted[1:], found)
    if wanted.startswith("in(") and wanted.endswith(")"):
        return found in {one.strip() for one in wanted[3:-1].split(",")}
    return found == wanted


def shown(machines: Iterable[Machine]) -> str:
    """What machines have, for people."""
    return "; ".join(shown_one(machine) for machine in machines) or "no machines"


def shown_one(machine: Machine) -> str:
    """What one has."""
    things = [
        f"{name}: {amount:g}"
        for name, amount in sorted(machine.resources.items())
        if not name.startswith("node:") and "memory" not in name
    ]
    labels = [f"{k}={v}" for k, v in sorted(machine.labels.items()) if not k.startswith("ray.io/")]
    return f"{machine.host} ({', '.join(things + labels)})"
