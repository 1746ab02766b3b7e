"""An A/B test or a bandit of an endpoint, as rows: it begins, is looked at, ends.

Knows no statistics (``comparing``, ``thompson``) and no processes. What it rests on are rows of
feedback and of counts, so any process may look, and a kill loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import update

from clew.base.ids import new_id
from clew.base.records.traffic import Rollout
from clew.db import Tx
from clew.serving import keyed, late, outcomes, tables
from clew.serving.accounts import now_us
from clew.serving.comparing import compare
from clew.serving.revisions import (
    base_of,
    give_rest,
    make_live,
    move,
    note_traffic,
    open_rows,
    percents,
    row_of,
    tidy,
)
from clew.serving.sequential import Sums

LOOK_S = 2.0
SETTLE_S = 1.0
"""Outcomes of predictions made so soon after a change of arms are left out: processes follow."""
MOST_ARMS = 8
_MOVED = 0.005
"""A bandit's shares change from so much on: each change is an event."""


def begin(tx: Tx, row: Any, live: Any, rollout: Rollout, reason: str) -> None:
    """A loaded revision becomes an arm: of the bandit that runs, or of a new test."""
    running = tx.execute(tables.RUNNING, {"endpoint": row.endpoint}).first()
    if running is not None and rollout.kind == "bandit":
        _join(tx, running, row, reason)
        return
    if rollout.kind == "bandit":
        weights = percents(late.allocate(rollout, [live.id, row.id], {}).shares)
    else:
        weights = {live.id: tidy(100 - rollout.weight), row.id: tidy(rollout.weight)}
    test = {
        "id": new_id(),
        "endpoint": row.endpoint,
        "rollout": msgspec.to_builtins(rollout),
        "state": "running",
        "arms": list(weights.items()),
        "base": base_of(tx, *weights),
        "evidence": {},
        "reason": reason,
        "global_id": row.global_id,
        "begun_us": now_us(),
        "looked_us": now_us(),
        "ended_us": None,
    }
    tx.execute(tables.traffic_tests.insert(), test)
    tx.emit(
        "test.begun",
        subject=test["id"],
        global_id=row.global_id,
        data={"endpoint": row.endpoint, "rollout": str(rollout), "arms": weights},
    )
    move(tx, row, "arm", weights[row.id], reason)
    give_rest(tx, row.endpoint)
    note_traffic(tx, row.endpoint, reason)


def _join(tx: Tx, test: Any, row: Any, reason: str) -> None:
    """One more arm of a bandit; beyond MOST_ARMS the one with least traffic leaves."""
    arms = _arms(test)
    if len(arms) >= MOST_ARMS:
        control = next(iter(arms))
        least = min((arm for arm in arms if arm != control), key=lambda arm: arms[arm])
        del arms[least]
        move(tx, row_of(tx, least), "retired", 0, f"Revision {row.number} took its place.")
    rollout = _rollout(test)
    known = _sums(tx, test, rollout, [*arms, row.id])
    weights = percents(late.allocate(rollout, [*arms, row.id], known).shares)
    base = {**test.base, **base_of(tx, row.id)}
    _write(tx, test, arms=list(weights.items()), base=base)
    move(tx, row, "arm", weights[row.id], reason)
    _share_out(tx, test, weights, reason, {})


def is_due(test: Any) -> bool:
    """Whether it is time to look at a test that runs."""
    rollout = _rollout(test)
    every_s = rollout.every_s if rollout.kind == "bandit" else LOOK_S
    return now_us() - int(test.looked_us) >= every_s * 1e6


def look(tx: Tx, test: Any) -> None:
    """Decide what is due: a winner, an end, other shares."""
    current = tx.execute(tables.RUNNING, {"endpoint": test.endpoint}).first()
    if current is None or current.id != test.id or not is_due(current):
        return
    if _rollout(current).kind == "bandit":
        _look_at_bandit(tx, current)
    else:
        _look_at_test(tx, current)


def end(tx: Tx, endpoint: str, state: str, reason: str, *, but: str = "") -> None:
    """End the test of an endpoint, where one runs that is not of the kind ``but``; its arms stay
    as they are, for the caller to say.
    """
    test = tx.execute(tables.RUNNING, {"endpoint": endpoint}).first()
    if test is not None and (not but or _rollout(test).kind != but):
        _end(tx, test, state, reason, dict(test.evidence))


def _rollout(test: Any) -> Rollout:
    return msgspec.convert(test.rollout, Rollout)


def _arms(test: Any) -> dict[str, float]:
    """Revision → percent, the control first."""
    return dict(test.arms)


def _sums(tx: Tx, test: Any, rollout: Rollout, arms: list[str]) -> dict[str, Sums]:
    since_us = int(test.begun_us + SETTLE_S * 1e6)
    return outcomes.sums(tx, test.endpoint, rollout.metric, arms, since_us)


def _look_at_test(tx: Tx, test: Any) -> None:
    rollout, arms = _rollout(test), _arms(test)
    counts = outcomes.answered(tx, list(arms), test.base)
    sums = (
        outcomes.failures(counts)
        if rollout.metric == "errors"
        else _sums(tx, test, rollout, list(arms))
    )
    keys = keyed.counts(tx, test.id)  # requests without a key, and keys: each is drawn once
    assigned = {arm: one.assigned + keys.get(arm, 0) for arm, one in counts.items()}
    control = next(iter(arms))
    found = compare(rollout, control, arms, sums, assigned)
    if found.action == "go on":
        _write(tx, test, evidence=found.evidence, reason=found.reason)
        return
    _end(tx, test, "won" if found.winner else "stopped", found.reason, found.evidence, found.winner)
    if found.winner and not rollout.promote:
        return  # told, and left as it is
    _give_to(tx, test, found.winner or control, found.reason, found.evidence)


def _give_to(tx: Tx, test: Any, winner: str, reason: str, evidence: Mapping[str, object]) -> None:
    row = row_of(tx, winner)
    if row.state == "live":
        for other in open_rows(tx, test.endpoint):
            if other.id in _arms(test) and other.state == "arm":
                move(tx, other, "retired", 0, reason, evidence=evidence)
        give_rest(tx, test.endpoint)
        note_traffic(tx, test.endpoint, reason, evidence)
    elif row.state == "arm":
        make_live(tx, row, reason, evidence)


def _look_at_bandit(tx: Tx, test: Any) -> None:
    rollout, arms = _rollout(test), _arms(test)
    found = late.allocate(rollout, list(arms), _sums(tx, test, rollout, list(arms)))
    weights = percents(found.shares)
    evidence: dict[str, object] = {
        "method": "Thompson sampling by the chance of being the best",
        "metric": rollout.metric,
        "floor": rollout.floor,
        "arms": {
            arm: {
                "weight": weights[arm],
                **{
                    name: round(value, 6) if isinstance(value, float) else value
                    for name, value in msgspec.to_builtins(one).items()
                },
            }
            for arm, one in found.posteriors.items()
        },
    }
    told = sum(one.outcomes for one in found.posteriors.values())
    reason = f"The posterior after {told:,} rewards."
    moved = max(abs(weights[arm] - arms[arm]) for arm in arms) / 100
    if moved < _MOVED:
        _write(tx, test, evidence=evidence, reason=reason)
        return
    _write(tx, test, arms=list(weights.items()), evidence=evidence, reason=reason)
    _share_out(tx, test, weights, reason, evidence)


def _share_out(
    tx: Tx, test: Any, weights: Mapping[str, float], reason: str, evidence: Mapping[str, object]
) -> None:
    """Give the arms their shares; one event for all of them."""
    table = tables.revisions
    for arm, weight in weights.items():
        tx.execute(update(table).where(table.c.id == arm).values(traffic=weight))
    note_traffic(tx, test.endpoint, reason, evidence)
    tx.emit(
        "traffic.changed",
        subject=test.id,
        global_id=test.global_id,
        data={
            "endpoint": test.endpoint,
            "weights": dict(weights),
            "reason": reason,
            "evidence": dict(evidence),
        },
    )


def _write(tx: Tx, test: Any, **values: object) -> None:
    table = tables.traffic_tests
    changed = {**values, "looked_us": now_us()}
    tx.execute(update(table).where(table.c.id == test.id).values(changed))


def _end(
    tx: Tx,
    test: Any,
    state: str,
    reason: str,
    evidence: Mapping[str, object],
    winner: str = "",
) -> None:
    _write(tx, test, state=state, reason=reason, evidence=dict(evidence), ended_us=now_us())
    keyed.forget(tx, test.id)
    tx.emit(
        "test.decided",
        subject=test.id,
        global_id=test.global_id,
        data={
            "endpoint": test.endpoint,
            "state": state,
            "winner": winner,
            "reason": reason,
            "evidence": dict(evidence),
        },
    )
