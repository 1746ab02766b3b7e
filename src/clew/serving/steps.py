"""The step that is due for one revision: loaded, onwards, back.

Knows no requests and no models; reads what processes have told and writes revisions.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import or_, select

from clew.base.records.traffic import Rollout
from clew.db import Tx
from clew.serving import accounts, arm_tests, tables
from clew.serving.accounts import now_us
from clew.serving.analysis import Decision, judge
from clew.serving.loading import LOAD_S
from clew.serving.revisions import (
    back,
    base_of,
    give_rest,
    live_row,
    make_live,
    move,
    note_traffic,
    open_rows,
    rollout_of,
    share,
    tidy,
)
from clew.serving.stats import Counts

DRAIN_S = 5.0
_TOGETHER = ("split", "ab_test", "bandit")
"""Rollouts whose revisions may come several at once, and begin when all are loaded."""
# Revisions for which a step may be due: what is live stays so unless it could not be loaded.
MOVING = tables.AWAKE.where(
    or_(
        tables.revisions.c.state != "live",
        tables.revisions.c.id.in_(
            select(tables.revision_loads.c.revision).where(
                tables.revision_loads.c.error.not_in(("", accounts.LOADING, accounts.ASLEEP))
            )
        ),
    )
)
_LOADED = "Loaded by every serving process."
_NOBODY = "No serving process runs: nobody is exposed."


def may_move(tx: Tx, row: Any) -> bool:
    """Whether a write transaction is worth it."""
    if row.state == "live":
        return any(accounts.loads(tx, row.id).values()) and not _anywhere(tx, row)
    if row.state == "draining":
        return _age_s(row) > DRAIN_S
    if row.state == "loading":
        return _load_state(tx, row)[0] != "waiting" and _together(tx, row) is not None
    return _is_analysed(tx, row) and _look(tx, row).action != "hold"


def step(tx: Tx, row: Any) -> None:
    """Take the step that is due for one revision."""
    if row.state == "loading":
        _step_loading(tx, row)
    elif row.state == "live":
        error = next(iter(filter(None, accounts.loads(tx, row.id).values())), "")
        if error and not _anywhere(tx, row):
            move(tx, row, "failed", 0, f"It cannot be loaded: {error}")
            note_traffic(tx, row.endpoint, "The only revision cannot be loaded.")
    elif row.state == "draining" and _age_s(row) > DRAIN_S:
        move(tx, row, "retired", 0, row.reason)
    elif _is_analysed(tx, row):
        _step_canary(tx, row)


def is_loading(tx: Tx, row: Any) -> bool:
    """Whether a revision is new, and nobody has said yet whether it can be loaded."""
    if _age_s(row) > LOAD_S:
        return False
    return bool(row.state == "loading" or (row.state == "live" and not _anywhere(tx, row)))


def look(tx: Tx, row: Any) -> Decision | None:
    """What the analysis of a canary says now; None where there is none."""
    return _look(tx, row) if _is_analysed(tx, row) else None


def _is_analysed(tx: Tx, row: Any) -> bool:
    return row.state == "canary" or (row.state == "shadow" and rollout_of(tx, row).is_canary)


def _anywhere(tx: Tx, row: Any) -> bool:
    """Whether a revision has been in memory, or another could be: then it stays as it is."""
    in_memory = any(not error for error in accounts.loads(tx, row.id).values())
    return in_memory or accounts.totals(tx, row.id).requests > 0


def _load_state(tx: Tx, row: Any) -> tuple[str, str]:
    """``waiting``, ``loaded``, ``nobody`` (no process serves) or ``failed`` with the error."""
    loads = accounts.loads(tx, row.id)
    error = next(iter(filter(None, loads.values())), "")
    if error:
        return "failed", error
    alive = accounts.alive(tx)
    if not alive:
        return "nobody", ""
    return ("loaded" if all(one.id in loads for one in alive) else "waiting"), ""


def _step_loading(tx: Tx, row: Any) -> None:
    state, error = _load_state(tx, row)
    if state == "waiting":
        return
    if state == "failed":
        move(tx, row, "failed", 0, f"It cannot be loaded: {error}")
        return
    rollout, live = rollout_of(tx, row), live_row(tx, row.endpoint)
    reason = _LOADED if state == "loaded" else _NOBODY
    if rollout.kind == "shadow" and live is not None:
        move(tx, row, "shadow", 0, reason)
    elif rollout.kind in _TOGETHER and live is not None:
        if rows := _together(tx, row):
            act = _take_in if rollout.kind == "split" else arm_tests.begin
            act(tx, rows, live, rollout, reason)
    elif live is None or not rollout.is_canary or state == "nobody":
        make_live(tx, row, reason)
    elif rollout.shadow:
        move(tx, row, "shadow", 0, reason, analysis=_begun(tx, row, live, {}))
    else:
        _take_share(tx, row, rollout, 0, reason, None)


def _together(tx: Tx, row: Any) -> list[Any] | None:
    """The revisions that were deployed with this one and are loaded, itself among them; None while
    one of them is awaited. One that cannot be loaded is not waited for.
    """
    kind = rollout_of(tx, row).kind
    if kind not in _TOGETHER:
        return [row]
    rows = [
        each
        for each in open_rows(tx, row.endpoint)
        if each.state == "loading"
        and each.global_id == row.global_id
        and rollout_of(tx, each).kind == kind
    ]
    states = {each.id: _load_state(tx, each)[0] for each in rows}
    if states[row.id] == "failed":
        return [row]
    if "waiting" in states.values():
        return None
    return [each for each in rows if states[each.id] != "failed"]


def _take_in(tx: Tx, rows: list[Any], _live: Any, _rollout: Rollout, reason: str) -> None:
    """More arms with shares of their own; those who were there keep their proportions."""
    weights = {row.id: rollout_of(tx, row).weight for row in rows}
    rest = 100 - sum(weights.values())
    for other in open_rows(tx, rows[0].endpoint):
        if other.state == "arm":
            share(tx, other, tidy(other.traffic * rest / 100))
    for row in rows:
        move(tx, row, "arm", tidy(weights[row.id]), reason)
    give_rest(tx, rows[0].endpoint)
    note_traffic(tx, rows[0].endpoint, reason)


def _look(tx: Tx, row: Any) -> Decision:
    counts, live = _counts(tx, row)
    carry = (row.analysis or {}).get("carry", {})
    rollout = rollout_of(tx, row)
    return judge(rollout, counts, live, _age_s(row), carry, shadowed=row.state == "shadow")


def _step_canary(tx: Tx, row: Any) -> None:
    decision = _look(tx, row)
    if decision.action == "back":
        back(tx, row, decision.reason, decision.evidence)
    elif decision.action == "advance":
        following = 0 if row.state == "shadow" else row.step + 1
        _take_share(tx, row, rollout_of(tx, row), following, decision.reason, decision)


def _take_share(
    tx: Tx, row: Any, rollout: Rollout, at: int, reason: str, decision: Decision | None
) -> None:
    evidence = decision.evidence if decision else None
    percent = rollout.steps[min(at, len(rollout.steps) - 1)]
    if percent >= 100:
        make_live(tx, row, reason, evidence)
        return
    begun = _begun(tx, row, live_row(tx, row.endpoint), decision.carry if decision else {})
    move(tx, row, "canary", percent, reason, step=at, evidence=evidence, analysis=begun)
    give_rest(tx, row.endpoint)
    note_traffic(tx, row.endpoint, reason, evidence)


def _begun(tx: Tx, row: Any, live: Any | None, carry: dict[str, float]) -> dict[str, object]:
    """What a step begins with: what both have answered before it."""
    return {"base": base_of(tx, row.id, *([live.id] if live else [])), "carry": carry}


def _counts(tx: Tx, row: Any) -> tuple[Counts, Counts]:
    """What a canary and the live revision have answered since the step began."""
    live = live_row(tx, row.endpoint)
    base = (row.analysis or {}).get("base", {})
    return _since(tx, row.id, base), _since(tx, live.id, base) if live else Counts()


def _since(tx: Tx, revision: str, base: dict[str, Any]) -> Counts:
    now = accounts.totals(tx, revision)
    since = now - accounts.from_base(base[revision]) if revision in base else now
    return since.with_expired()


def _age_s(row: Any) -> float:
    return (now_us() - int(row.since_us)) / 1e6
