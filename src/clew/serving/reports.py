"""What serving did, by endpoint, model version and arm, as rows tell it; and as v2 statistics.

Knows no transport. Counts are those that serving processes have written: each does so twice a
second, so they never go back, whichever process is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import select

from clew.db import Tx
from clew.serving import accounts, tables
from clew.serving.stats import Counts, Executions

TOLD_US = 3_600_000_000
"""A revision is told of for an hour after it ended: what made it end must still be seen."""


class Arm(Struct, frozen=True, kw_only=True):
    """A revision and what it did. ``arm``: its state; ``loaded``: processes that have it."""

    endpoint: str
    model: str
    version: str
    revision: str
    arm: str
    traffic: int
    loaded: int
    counts: Counts


def arms(tx: Tx) -> list[Arm]:
    """Revisions that serve, could serve again at once, or ended within the hour."""
    table = tables.revisions
    recent = select(table).where(table.c.since_us > accounts.now_us() - TOLD_US)
    rows = {
        row.id: row for query in (tables.OPEN, tables.FORMERS, recent) for row in tx.execute(query)
    }
    models = {row.name: row.model for row in tx.execute(select(tables.endpoints))}
    totals = accounts.all_totals(tx)
    held = accounts.held(tx)
    return [
        Arm(
            endpoint=row.endpoint,
            model=models.get(row.endpoint, ""),
            version=row.version,
            revision=row.id,
            arm=row.state,
            traffic=row.traffic,
            loaded=held.get(row.id, 0),
            counts=totals.get((row.endpoint, row.id), Counts()),
        )
        for row in sorted(rows.values(), key=lambda row: (row.endpoint, row.number))
    ]


def statistics(found: Sequence[Arm]) -> list[dict[str, object]]:
    """Triton's statistics extension: one object for each endpoint and version, times in ns.

    ``success`` and ``fail`` are answers; the other durations count a batch for each request in it,
    ``batch_stats`` once. Batches of more than 64 rows stand under the next power of two.
    """
    sums: dict[tuple[str, str], Counts] = {}
    for arm in found:
        key = arm.endpoint, arm.version
        sums[key] = sums.get(key, Counts()) + arm.counts
    return [_stats(name, version, counts) for (name, version), counts in sums.items()]


def _stats(name: str, version: str, counts: Counts) -> dict[str, object]:
    work = counts.work
    answered = counts.requests - work.failed
    return {
        "name": name,
        "version": version,
        "last_inference": work.last_us // 1000,
        "inference_count": work.rows,
        "execution_count": work.executions,
        "inference_stats": {
            "success": _took(answered, counts.latency_s - work.failed_s),
            "fail": _took(work.failed, work.failed_s),
            "queue": _took(answered, work.queue_s),
            "compute_input": _took(answered, work.input_s),
            "compute_infer": _took(answered, work.infer_s),
            "compute_output": _took(answered, work.output_s),
            "cache_hit": _took(0, 0.0),
            "cache_miss": _took(0, 0.0),
        },
        "response_stats": {},
        "batch_stats": [_batch(size, each) for size, each in sorted(work.batches.items())],
        "memory_usage": [],
    }


def _batch(size: int, each: Executions) -> dict[str, object]:
    return {
        "batch_size": size,
        "compute_input": _took(each.count, each.input_s),
        "compute_infer": _took(each.count, each.infer_s),
        "compute_output": _took(each.count, each.output_s),
    }


def _took(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": max(0, int(seconds * 1e9))}
