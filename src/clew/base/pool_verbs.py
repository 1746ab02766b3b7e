"""The verbs for resource pools: what they hold, and slots that were excluded.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records.pools import PoolInfo


class PoolVerbs(Protocol):
    """What people ask of the pools that user code runs in."""

    def pools(self) -> list[PoolInfo]:
        """The resource pools with their slots: who has them, which are excluded, what waits.

        Where another process works on the workspace, as it saw them a second ago.
        """
        ...

    def restore_slot(self, slot: str) -> list[PoolInfo]:
        """Give a slot back that a rule over logs has excluded; the pools then.

        Raises NotFound ``slot.not_excluded``.
        """
        ...
