"""Slots that no trial gets any more because of what was seen on them, and pools as they were.

Knows rows; who gives slots to calls is for ``compute``, which is told what is excluded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Select, Table, Text, bindparam, select, update

from clew.base.clock import from_us, now, to_us
from clew.base.errors import NotFound
from clew.base.records.pools import Exclusion, PoolInfo
from clew.compute import Compute
from clew.db import Database, Json, Tx, metadata

Rows = Select[*tuple[Any, ...]]

# What was excluded stays as history; it counts as long as nobody has given it back.
excluded = Table(
    "excluded_slots",
    metadata,
    Column("id", Text, primary_key=True),
    Column("slot", Text, nullable=False, index=True),
    Column("pattern", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("trial", Text, nullable=False),
    Column("experiment", Text, nullable=False, index=True),
    Column("global_id", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("restored_us", BigInteger),  # null: still excluded
)

# The pools of the engine as it saw them last, for other processes.
looks = Table(
    "pool_looks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("pools", Json, nullable=False),
)

EXCLUDED: Rows = (
    select(excluded).where(excluded.c.restored_us.is_(None)).order_by(excluded.c.since_us)
)
OF_EXPERIMENT: Rows = select(excluded).where(excluded.c.experiment == bindparam("experiment"))
ENGINE = "engine"


class Slots:
    """The part of the door that keeps what is excluded. Each act is one transaction."""

    _db: Database
    _compute: Compute
    _looked: list[PoolInfo]

    def excluded_slots(self) -> list[Exclusion]:
        """Slots that nobody has given back yet, the oldest first."""
        with self._db.read() as tx:
            return [_exclusion(row) for row in tx.execute(EXCLUDED)]

    def restore_slot(self, slot: str) -> None:
        """Give a slot back to trials.

        Raises:
            NotFound: ``slot.not_excluded``.
        """
        with self._db.begin() as tx:
            rows = [row for row in tx.execute(EXCLUDED) if row.slot == slot]
            if not rows:
                raise NotFound(
                    "slot.not_excluded",
                    f"{slot!r} is no slot that is excluded.",
                    hint="See which are: clew pools",
                )
            open_ = (excluded.c.slot == slot) & excluded.c.restored_us.is_(None)
            tx.execute(update(excluded).where(open_).values(restored_us=to_us(now())))
            data = {"slot": slot, "reason": rows[0].reason}
            tx.emit("slot.restored", subject=slot, global_id=rows[0].global_id, data=data)
        self.tell_excluded()

    def tell_excluded(self) -> None:
        """Have compute keep to what rows say; who else shares the rows may have changed them."""
        self._compute.exclude({one.slot: one.reason for one in self.excluded_slots()})

    def note_pools(self) -> None:
        """Keep the pools of this process as they are, where they are not as they were last."""
        pools = self._compute.pools()
        if pools == self._looked:
            return
        row = {"name": ENGINE, "at_us": to_us(now()), "pools": msgspec.to_builtins(pools)}
        with self._db.begin() as tx:
            tx.upsert(looks, [row], key=["name"], refresh=["at_us", "pools"])
        self._looked = pools

    def noted_pools(self) -> list[PoolInfo]:
        """The pools as whoever worked last saw them; none where nobody has."""
        with self._db.read() as tx:
            row = tx.execute(select(looks).where(looks.c.name == ENGINE)).first()
        return [] if row is None else msgspec.convert(row.pools, list[PoolInfo])


def exclude(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Keep exclusions."""
    tx.execute(excluded.insert(), list(rows))


def excluded_by(tx: Tx, experiment: str) -> dict[str, list[str]]:
    """By trial the slots that are or were excluded because of it."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in tx.execute(OF_EXPERIMENT, {"experiment": experiment}):
        found[row.trial].append(row.slot)
    return found


def _exclusion(row: Any) -> Exclusion:
    return Exclusion(
        slot=row.slot,
        reason=row.reason,
        pattern=row.pattern,
        trial=row.trial,
        experiment=row.experiment,
        global_id=row.global_id,
        since=from_us(row.since_us),
    )
