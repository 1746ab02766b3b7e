"""An A/B test or a bandit of an endpoint, as rows: it begins, is looked at, ends.

Knows no statistics (``comparing``, ``thompson``) and no processes. What it rests on are rows of
feedback and of counts, so any process may look, and a kill loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import update

from clew.base.arms import MOST_ARMS
from clew.base.ids import new_id
from clew.base.records.traffic import Rollout
from clew.db import Tx
from clew.serving import keyed, late, outcomes, tables
from clew.serving.accounts import now_us
from clew.serving.analysis import E_BACK
from clew.serving.comparing import compare
from clew.serving.revisions import (
    base_of,
    give_rest,
    make_live,
    move,
    note_traffic,
    open_rows,
    percents,
    rollout_of,
    row_of,
    tidy,
)
from clew.serving.sequential import Sums, beyond, more_often
from clew.serving.stats import Counts

LOOK_S = 2.0
SETTLE_S = 1.0
"""Outcomes of predictions made so soon after a change of arms are left out: processes follow."""
LEAST_REQUESTS = 20
"""An arm that fails is taken off after so many requests at the earliest."""
_MOVED = 0.005
"""A bandit's shares change from so much on: each change is an event."""
_NOT_BINARY = (
    "The shares stay as they are: outcomes ({}) are not all from 0 to 1, and a Beta posterior "
    "knows no others. Deploy with reward='gaussian'."
)


def begin(tx: Tx, rows: Sequence[Any], live: Any, rollout: Rollout, reason: str) -> None:
    """Loaded revisions become arms: of the bandit that runs, or of a new test."""
    first = rows[0]
    running = tx.execute(tables.RUNNING, {"endpoint": first.endpoint}).first()
    if running is not None and rollout.kind == "bandit":
        for row in rows:
            _join(tx, _running(tx, running), row, reason)
        return
    if rollout.kind == "bandit":
        arms = [live.id, *(row.id for row in rows)]
        weights = percents(late.allocate(rollout, arms, {}).shares)
    else:
        asked = {row.id: rollout_of(tx, row).weight for row in rows}
        weights = {live.id: tidy(100 - sum(asked.values()))}
        weights |= {id: tidy(weight) for id, weight in asked.items()}
    test = {
        "id": new_id(),
        "endpoint": first.endpoint,
        "rollout": msgspec.to_builtins(rollout),
        "state": "running",
        "arms": list(weights.items()),
        "base": base_of(tx, *weights),
        "evidence": {},
        "reason": reason,
        "global_id": first.global_id,
        "begun_us": now_us(),
        "looked_us": now_us(),
        "ended_us": None,
    }
    tx.execute(tables.traffic_tests.insert(), test)
    tx.emit(
        "test.begun",
        subject=test["id"],
        global_id=first.global_id,
        data={"endpoint": first.endpoint, "rollout": str(rollout), "arms": weights},
    )
    for row in rows:
        move(tx, row, "arm", weights[row.id], reason)
    give_rest(tx, first.endpoint)
    note_traffic(tx, first.endpoint, reason)


def _running(tx: Tx, test: Any) -> Any:
    """The row of a test as it is now."""
    return tx.execute(tables.RUNNING, {"endpoint": test.endpoint}).first() or test


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
    """Decide what is due: who leaves, a winner, an end, other shares."""
    current = tx.execute(tables.RUNNING, {"endpoint": test.endpoint}).first()
    if current is None or current.id != test.id or not is_due(current):
        return
    kept = _without_lost(tx, current)
    if kept is None:
        return
    if _rollout(kept).kind == "bandit":
        _look_at_bandit(tx, kept)
    else:
        _look_at_test(tx, kept)


def _without_lost(tx: Tx, test: Any) -> Any | None:
    """The test without arms that fail or are served no more; None where it is over with them."""
    rollout, arms = _rollout(test), _arms(test)
    control, *others = arms
    rows = {row.id: row for row in open_rows(tx, test.endpoint)}
    if control not in rows or rows[control].state != "live":
        _end(tx, test, "stopped", "The control is not live any more.", _evidence(test))
        return None
    counts = outcomes.answered(tx, list(arms), test.base)
    gone = {}
    for arm in others:
        if arm not in rows or rows[arm].state != "arm":
            gone[arm] = "It is not served any more."
        elif why := _fails(rollout, counts[arm], counts[control]):
            gone[arm] = why
    if not gone:
        return test
    reason = " ".join(dict.fromkeys(gone.values()))
    if len(gone) == len(others):
        evidence = _evidence(test) | {"left": {**_left(test), **_told(gone, counts)}}
        _end(tx, test, "stopped", f"No challenger is left: {reason}", evidence)
        _give_to(tx, test, control, reason, evidence)
        return None
    _leave(tx, test, gone, _told(gone, counts))
    return _running(tx, test)


def _fails(rollout: Rollout, mine: Counts, theirs: Counts) -> str:
    """Why an arm is taken off at once, whatever its outcomes: requests that fail have none."""
    if rollout.metric == "errors" or mine.requests < LEAST_REQUESTS:
        return ""
    if theirs.requests:
        share = mine.requests / (mine.requests + theirs.requests)
        e = more_often(mine.errors, theirs.errors, share)
    else:
        e = beyond(mine.errors, mine.requests, max(rollout.max_error_rate, 1e-3))
    rate, usual = mine.rate(mine.errors), theirs.rate(theirs.errors)
    if e < E_BACK or rate - usual <= rollout.max_error_rate:
        return ""
    return f"{rate:.1%} of its requests failed against {usual:.1%} of the control's."


def _told(gone: Mapping[str, str], counts: Mapping[str, Counts]) -> dict[str, dict[str, object]]:
    return {
        arm: {"why": why, "requests": counts[arm].requests, "errors": counts[arm].errors}
        for arm, why in gone.items()
    }


def _leave(
    tx: Tx, test: Any, gone: Mapping[str, str], told: Mapping[str, Mapping[str, object]]
) -> None:
    """Take arms off a test that goes on. The others share what was theirs in proportion, so that
    what they were asked until now can still be compared.
    """
    arms = {arm: weight for arm, weight in _arms(test).items() if arm not in gone}
    whole = sum(arms.values())
    weights = percents({arm: weight / whole for arm, weight in arms.items()})
    evidence = _evidence(test) | {"left": {**_left(test), **told}}
    for arm, why in gone.items():
        row = row_of(tx, arm)
        if row.state == "arm":
            move(tx, row, "retired", 0, why, evidence=told[arm])
        tx.emit(
            "test.arm_left",
            subject=test.id,
            global_id=test.global_id,
            data={"endpoint": test.endpoint, "arm": arm, "reason": why, "evidence": told[arm]},
        )
    reason = " ".join(dict.fromkeys(gone.values()))
    _write(tx, test, arms=list(weights.items()), evidence=evidence, looked_us=test.looked_us)
    _share_out(tx, test, weights, reason, evidence)


def _evidence(test: Any) -> dict[str, Any]:
    return dict(test.evidence or {})


def _left(test: Any) -> dict[str, Any]:
    """Arms that have left, with why."""
    return dict(_evidence(test).get("left", {}))


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
    control, left = next(iter(arms)), _left(test)
    lost = sum(bool(one.get("worse")) for one in left.values())
    begun = len(test.base) - 1
    found = compare(rollout, control, arms, sums, assigned, begun=begun, lost=lost)
    evidence = found.evidence | ({"left": left} if left else {})
    if found.action == "go on":
        _write(tx, test, evidence=evidence, reason=found.reason)
        if found.worse and rollout.promote:  # else it only tells, and weights stay
            shown: Any = found.evidence["arms"]
            gone = dict.fromkeys(found.worse, found.reason)
            told = {arm: {"why": why, "worse": True, **shown[arm]} for arm, why in gone.items()}
            _leave(tx, _running(tx, test), gone, told)
        return
    _end(tx, test, "won" if found.winner else "stopped", found.reason, evidence, found.winner)
    if found.winner and not rollout.promote:
        return  # told, and left as it is
    _give_to(tx, test, found.winner or control, found.reason, evidence)


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
    known = _sums(tx, test, rollout, list(arms))
    if rollout.reward == "binary" and not all(one.binary for one in known.values()):
        _write(tx, test, reason=_NOT_BINARY.format(rollout.metric))
        return
    found = late.allocate(rollout, list(arms), known)
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
    if left := _left(test):
        evidence["left"] = left
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
    changed = {"looked_us": now_us(), **values}
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
