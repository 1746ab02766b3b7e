"""Live figures of an endpoint: of what it was asked since somebody last looked.

Knows counts; who looks, how often, and what follows is a trigger's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clew.db import Tx
from clew.serving import accounts
from clew.serving.revisions import base_of, open_rows
from clew.serving.stats import Counts, quantile_s

LEAST = 20
"""Requests from which on a share or a latency says something."""


def reading(
    tx: Tx, endpoint: str, name: str, since: Mapping[str, Any] | None
) -> tuple[float | None, Mapping[str, Any]]:
    """A figure of the answers since the last look, and what to give to the next one.

    Requests that expired (504) are requests, and errors. A share or a latency (``error_rate``,
    ``p50_ms``, ``p99_ms``) of fewer than ``LEAST`` requests is None, and these count again at
    the next look. Of the first look (``since`` None) there is nothing to tell.
    """
    rows = open_rows(tx, endpoint)
    here = {
        "counts": base_of(tx, *(row.id for row in rows)),
        "copies": [row.id for row in rows if row.state == "shadow"],
    }
    if since is None:
        return None, here
    answered = _answered(tx, here, since)
    if name in ("requests", "errors"):
        return getattr(answered, name), here
    if name == "overloads":
        return answered.work.overloads, here
    if answered.requests < LEAST:
        return None, since
    if name == "error_rate":
        return round(answered.rate(answered.errors), 4), here
    seconds = quantile_s(answered.buckets, 0.5 if name == "p50_ms" else 0.99)
    return None if seconds is None else round(seconds * 1e3, 3), here


def _answered(tx: Tx, here: Mapping[str, Any], since: Mapping[str, Any]) -> Counts:
    """What revisions that answer somebody have answered in between, those that left included."""
    gone = since["counts"].keys() - here["counts"].keys() - set(since["copies"])
    total = Counts()
    for revision in sorted((here["counts"].keys() - set(here["copies"])) | gone):
        total += accounts.totals(tx, revision)
        if base := since["counts"].get(revision):
            total -= accounts.from_base(base)
    return total.with_expired()
