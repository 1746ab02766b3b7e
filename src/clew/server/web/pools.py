"""The page of resource pools: slots, who has them, what waits; and the way back of one excluded.

Thin over the verbs; knows nothing of how slots are given out.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from clew.server.web.show import Shown

router = APIRouter(include_in_schema=False)


@router.get("/pools")
def pools(page: Shown) -> Response:
    """All pools with their slots."""
    return page.show("pools.html", pools=page.verbs.pools())


@router.post("/pools/restore")
def restore_slot(page: Shown, slot: Annotated[str, Form()]) -> Response:
    """Give an excluded slot back."""
    page.verbs.restore_slot(slot)
    return RedirectResponse("/pools", 303)
