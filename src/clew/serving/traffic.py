"""How an endpoint's requests are shared, as people see it: arms, the test, what was decided lately.

Knows how to read rows; changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import select

from clew.base.clock import from_us
from clew.base.records.traffic import Rollout, Traffic, TrafficArm, TrafficChange
from clew.db import Tx
from clew.serving import accounts, steps, tables
from clew.serving.revisions import definition_of, open_rows, rollout_of, tidy
from clew.serving.stats import quantile_s

CHANGES = 20
_ORDER = {"live": 0, "canary": 1, "arm": 1, "shadow": 2, "loading": 3}


def traffic_of(tx: Tx, endpoint: str) -> Traffic:
    """The traffic of an endpoint.

    Raises:
        NotFound: ``endpoint.unknown``.
    """
    definition = definition_of(tx, endpoint)
    rows = sorted(
        (row for row in open_rows(tx, endpoint) if row.state in _ORDER),
        key=lambda row: (_ORDER[row.state], row.number),
    )
    test = tx.execute(tables.RUNNING, {"endpoint": endpoint}).first()
    canary = next((row for row in rows if steps.look(tx, row) is not None), None)
    rollout = msgspec.convert(definition.rollout, Rollout)
    plan, since_us, evidence, said = "immediate", None, {}, ""
    if test is not None:
        rollout = msgspec.convert(test.rollout, Rollout)
        plan, since_us, evidence = rollout.kind, test.begun_us, dict(test.evidence)
        evidence["reason"] = test.reason
        if rollout.kind == "ab_test" and len(test.base) > 2:
            said = f"A/B test of {rollout.metric}, {len(test.arms)} of {len(test.base)} arms"
    elif canary is not None:
        rollout = rollout_of(tx, canary)
        decision = steps.look(tx, canary)
        plan, since_us = "canary", canary.since_us
        evidence = {"reason": decision.reason, **decision.evidence} if decision else {}
    elif any(row.state == "arm" for row in rows):
        plan = "split"
    return Traffic(
        endpoint=endpoint,
        plan=plan,
        rollout=said or str(rollout),
        state="running" if test is not None or canary is not None else "steady",
        since=None if since_us is None else from_us(since_us),
        arms=tuple(_arm(tx, row, evidence.get("arms", {})) for row in rows),
        evidence=evidence,
        changes=_changes(tx, endpoint),
    )


def _arm(tx: Tx, row: Any, seen: Mapping[str, Mapping[str, Any]]) -> TrafficArm:
    counts = accounts.totals(tx, row.id)
    p90 = quantile_s(counts.buckets, 0.9)
    told = seen.get(row.id, {})
    weight = row.traffic
    if row.state == "shadow":
        weight = rollout_of(tx, row).weight or 100
    return TrafficArm(
        revision=row.id,
        number=row.number,
        model_version=row.model_version,
        state=row.state,
        weight=tidy(weight),
        requests=counts.requests,
        errors=counts.errors,
        nans=counts.nans,
        p90_ms=None if p90 is None else round(p90 * 1e3, 3),
        compared=counts.compared,
        disagreed=counts.disagreed,
        dropped=counts.dropped,
        overloads=counts.work.overloads,
        expired=counts.work.expired,
        assigned=counts.assigned,
        outcomes=int(told.get("outcomes") or 0),
        mean=told.get("mean"),
        low=told.get("low"),
        high=told.get("high"),
        best=told.get("best"),
    )


def _changes(tx: Tx, endpoint: str) -> tuple[TrafficChange, ...]:
    table = tables.traffic_changes
    query = select(table).where(table.c.endpoint == endpoint).order_by(table.c.seq.desc())
    return tuple(
        TrafficChange(
            at=from_us(row.at_us),
            reason=row.reason,
            split={revision: tidy(share) for revision, share in row.split.items()},
            evidence=row.evidence or {},
        )
        for row in tx.execute(query.limit(CHANGES)).all()
    )
