"""Routes that keep a workspace in order: collecting garbage, checking, what takes how much.

Thin over the verbs; knows no storage. A rebuild has no route: it is for a workspace that has lost
its database, and such a one cannot be served.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.responses import Response

from clew.base.records.keeping import Checkup, Collected, Usage
from clew.server.call import Asked
from clew.server.shapes import Routes

router = Routes(tags=["keeping"])


@dataclass(frozen=True, kw_only=True)
class Collection:
    """How to collect garbage."""

    dry_run: bool = False
    thorough: bool = False
    wait_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """How to check."""

    repair: bool = False


@router.post("/gc", response_model=Collected)
def gc(call: Asked, how: Collection) -> Response:
    """Free what nothing refers to; with `dry_run` say how much that would be."""
    found = call.verbs.gc(dry_run=how.dry_run, thorough=how.thorough, wait_s=how.wait_s)
    return call.reply(found)


@router.post("/fsck", response_model=Checkup)
def fsck(call: Asked, how: Check) -> Response:
    """Verify every byte, tree, commit and ref; `repair` mends what loses nothing."""
    return call.reply(call.verbs.fsck(repair=how.repair))


@router.get("/usage", response_model=list[Usage])
def du(call: Asked, address: str = "") -> Response:
    """What every repo takes, or what one repo, branch or commit does."""
    return call.reply(call.verbs.du(address))
