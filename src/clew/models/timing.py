"""How long models take to answer, measured side by side in one process.

Knows no gate. Where there are several models they are asked in turn, so that a busy machine slows
all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import polars as pl
from msgspec import Struct

CALLS = 200
BUDGET_S = 2.0
_WARM = 10
_ROWS = 50


class Asked(Protocol):
    """A model that answers rows."""

    def predict(self, data: Any, /) -> Any:
        """Answers to rows."""
        ...


class Timed(Struct, frozen=True, kw_only=True):
    """How long one call took: quantiles in milliseconds over ``calls`` of ``rows`` rows each."""

    rows: int
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


def timed(models: Sequence[Asked], features: pl.DataFrame, rows: int = 1) -> list[Timed]:
    """Each model's times for requests of ``rows`` rows, asked in turn for about two seconds."""
    rows = max(1, min(rows, features.height))
    starts = range(0, max(1, features.height - rows + 1), rows)
    requests = [features[at : at + rows] for at in list(starts)[:_ROWS]]
    for model in models:
        for request in requests[:_WARM]:
            model.predict(request)
    spent: list[list[float]] = [[] for _ in models]
    end_s = time.perf_counter() + BUDGET_S * len(models)
    while len(spent[-1]) < CALLS and (not spent[-1] or time.perf_counter() < end_s):
        request = requests[len(spent[-1]) % len(requests)]
        for model, mine in zip(models, spent, strict=True):
            begun_s = time.perf_counter()
            model.predict(request)
            mine.append((time.perf_counter() - begun_s) * 1e3)
    return [_of(one, rows) for one in spent]


def _of(spent_ms: Sequence[float], rows: int) -> Timed:
    middle, high, last = np.quantile(spent_ms, [0.5, 0.95, 0.99])
    return Timed(
        rows=rows,
        calls=len(spent_ms),
        p50_ms=float(middle),
        p95_ms=float(high),
        p99_ms=float(last),
    )
