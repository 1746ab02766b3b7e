"""What the datums of a job read undeclared, taken together: bounded, kept with the job and in the
lineage.

Knows what workers put into evidence; how it is heard is for ``compute``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clew.base.records import Node, UndeclaredRead
from clew.db import Tx
from clew.lineage import Lineage
from clew.store import digest_of

MOST = 50
"""So many different reads of a job are kept."""

_NAME = "undeclared"


class Undeclared:
    """Reads of a job, each thing once with the number of datums that did it."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[str, int]] = {}

    def add(self, evidence: Mapping[str, Any]) -> None:
        """Take what one datum's evidence tells."""
        for kind, name, where in evidence.get(_NAME, ()):
            before = self._found.get((kind, name))
            if before is not None:
                self._found[kind, name] = (before[0], before[1] + 1)
            elif len(self._found) < MOST:
                self._found[kind, name] = (where, 1)

    def take(self, extra: Mapping[str, Any]) -> None:
        """Go on from what is kept with a job."""
        for kind, name, where, datums in extra.get(_NAME, ()):
            self._found[kind, name] = (where, datums)

    def extra(self) -> dict[str, Any]:
        """What is kept with the job; nothing where there is nothing to tell."""
        found = [[kind, name, *rest] for (kind, name), rest in sorted(self._found.items())]
        return {_NAME: found} if found else {}


def records_of(extra: Mapping[str, Any]) -> tuple[UndeclaredRead, ...]:
    """The reads that are kept with a job."""
    return tuple(
        UndeclaredRead(kind=kind, name=name, where=where, datums=datums)
        for kind, name, where, datums in extra.get(_NAME, ())
    )


def tell(tx: Tx, lineage: Lineage, job: Node, reads: Sequence[UndeclaredRead]) -> None:
    """Have the lineage know what a job read besides its inputs."""
    for one in reads:
        node = Node(
            kind="undeclared",
            id=digest_of("undeclared", [one.kind, one.name]),
            title=f"{one.kind} {one.name}",
            global_id=job.global_id,
            detail={"where": one.where, "datums": one.datums},
        )
        lineage.add(tx, node)
        lineage.add(tx, job, [(node.id, "read undeclared")])
