"""Resource pools of a workspace: what may be asked of them, and what they hold now.

Knows the doors of compute and experiments; slots are given out there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from clew.authoring import Manifest
from clew.base.errors import Conflict, Invalid
from clew.base.ranks import ranks_of
from clew.base.records.pools import Exclusion, PoolInfo, SlotInfo
from clew.db import ENGINE_LOCK
from clew.experiments import Distribution
from clew.pipelines import StepDefinition
from clew.workspace.rooms import Rooms


class Pools:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms
    serves: bool

    def pools(self) -> list[PoolInfo]:
        """The resource pools, who has their slots, and what waits."""
        rooms = self.rooms
        found = [] if self._works_here() else rooms.experiments.noted_pools()
        excluded = {one.slot: one for one in rooms.experiments.excluded_slots()}
        return [_marked(pool, excluded) for pool in found or rooms.compute.pools()]

    def restore_slot(self, slot: str) -> list[PoolInfo]:
        """Give an excluded slot back; the pools then."""
        self.rooms.experiments.restore_slot(slot)
        return self.pools()

    def _works_here(self) -> bool:
        """Whether no other process works on this workspace now."""
        if self.serves:
            return True
        try:
            self.rooms.db.lock(ENGINE_LOCK, "clew").release()
        except Conflict:
            return False
        return True


def check_pools(rooms: Rooms, manifests: Sequence[Manifest]) -> list[Manifest]:
    """The same, none of whose steps asks for what its pool could never hold.

    Raises:
        Invalid: ``pool.unknown``, ``pool.too_small``.
    """
    for manifest in manifests:
        for step in manifest.pipeline.steps:
            try:
                _check(rooms, step)
            except Invalid as error:
                raise Invalid(
                    error.code, f"{step.name}: {error.message}", hint=error.hint
                ) from error
    return list(manifests)


def _check(rooms: Rooms, step: StepDefinition) -> None:
    resources = dict(step.policy.resources)
    if step.kind == "train":
        space = msgspec.convert(step.options["space"], dict[str, Distribution])
        ranks = ranks_of(step.options)
        rooms.experiments.check_pool(step.policy.pool, resources, ranks, space)
    else:
        rooms.compute.check(step.policy.pool, resources)


def _marked(pool: PoolInfo, excluded: Mapping[str, Exclusion]) -> PoolInfo:
    """A pool with what rows say of its slots, which an engine may not have heard yet."""
    return replace(pool, slots=tuple(_told(slot, excluded.get(slot.name)) for slot in pool.slots))


def _told(slot: SlotInfo, out: Exclusion | None) -> SlotInfo:
    if out is None and slot.state == "excluded":
        return replace(slot, state="used" if slot.by else "free", reason="")
    if out is None:
        return slot
    why = f"trial {out.trial[:8]} printed {out.pattern!r}: {out.reason}"
    return replace(slot, state="excluded", reason=why, since=out.since)
