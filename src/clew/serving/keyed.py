"""Keys that an A/B test has assigned, each once, so that keyed traffic has a sample ratio too.

Requests of one key follow each other, so they are no sample; keys are. The collector, who reads the
whole log, notes the first MOST keys of a test, whoever answered them: a number that says nothing of
the arms. Where only a share is logged, an arm that is asked more often for each key would be seen
sooner: nothing is noted there.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import delete, func, select

from clew.base.records.traffic import Rollout
from clew.db import Tx
from clew.serving import tables
from clew.serving.outcomes import ASKED
from clew.serving.revisions import definition_of
from clew.serving.spool import Record

MOST = 10_000
SETTLE_US = 1_000_000
"""Serving processes follow a change of arms so soon; what was asked before is left out."""


def note(tx: Tx, records: Iterable[Record]) -> None:
    """Keep the keys of what was answered, for the tests that run. Doing so twice is harmless."""
    first: dict[str, dict[str, Record]] = {}
    for record in records:
        if record.unit and record.arm in ASKED:
            known = first.setdefault(record.endpoint, {})
            if record.unit not in known or record.at_us < known[record.unit].at_us:
                known[record.unit] = record
    for endpoint, keys in first.items():
        _note(tx, endpoint, keys)


def _note(tx: Tx, endpoint: str, keys: dict[str, Record]) -> None:
    test = tx.execute(tables.RUNNING, {"endpoint": endpoint}).first()
    if test is None or msgspec.convert(test.rollout, Rollout).kind != "ab_test":
        return
    room = MOST - sum(counts(tx, test.id).values())
    if room <= 0 or definition_of(tx, endpoint).log < 1:
        return
    since_us, arms = test.begun_us + SETTLE_US, {arm for arm, _ in test.arms}
    asked = [one for one in keys.values() if one.at_us >= since_us and one.revision in arms]
    asked.sort(key=lambda one: one.at_us)
    rows = [{"test": test.id, "unit": one.unit, "revision": one.revision} for one in asked]
    tx.upsert(tables.traffic_keys, rows[:room], key=["test", "unit"])


def counts(tx: Tx, test: str) -> dict[str, int]:
    """Revision → how many keys were assigned to it."""
    table = tables.traffic_keys
    query = select(table.c.revision, func.count().label("keys")).where(table.c.test == test)
    return {row.revision: row.keys for row in tx.execute(query.group_by(table.c.revision))}


def forget(tx: Tx, test: str) -> None:
    """A test has ended: what its check has found stands in its evidence."""
    tx.execute(delete(tables.traffic_keys).where(tables.traffic_keys.c.test == test))
