"""Routes for resource pools: what they hold, and slots that were excluded.

Thin over the verbs; knows nothing of how slots are given out.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.responses import Response

from clew.base.records.pools import PoolInfo
from clew.server.call import Asked
from clew.server.shapes import Routes

router = Routes(tags=["work"])


@dataclass(frozen=True, kw_only=True)
class SlotWish:
    """A slot, as `clew pools` names it."""

    slot: str


@router.get("/pools", response_model=list[PoolInfo])
def pools(call: Asked) -> Response:
    """The resource pools with their slots: who has them, which are excluded, what waits."""
    return call.reply(call.verbs.pools())


@router.post("/pools/restore", response_model=list[PoolInfo])
def restore_slot(call: Asked, wish: SlotWish) -> Response:
    """Give a slot back that a rule over logs has excluded; the pools then."""
    return call.reply(call.verbs.restore_slot(wish.slot))
