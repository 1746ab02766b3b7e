"""How sure a difference between two models is: the paired bootstrap over the test rows.

Knows no gate and no rule. Percentile intervals as in Efron and Tibshirani (1993), chapter 13: each
draw takes as many rows as there are, with replacement, and the same rows for both models.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from clew.models.metrics import Floats, Metric, Scored

RESAMPLES = 1_000
SEED = 20_130_101
_CELLS = 250_000
"""Weights held at once: 2 MB, so that they stay in the cache."""


class Difference(Struct, frozen=True, kw_only=True):
    """How much better one model is than another: above 0 is better.

    ``low`` and ``high`` bound it with ``confidence``; ``resamples`` are those in which the metric
    is defined for both.
    """

    value: float
    low: float
    high: float
    confidence: float
    resamples: int


def paired_difference(
    metric: Metric,
    candidate: Scored,
    other: Scored,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    """By how much ``candidate`` is better than ``other`` on the same rows; same seed, same answer.

    Where the metric is undefined in all draws, the bounds are NaN.
    """
    sign = 1.0 if metric.greater_is_better else -1.0
    mine, theirs = metric.prepare(candidate), metric.prepare(other)
    random = np.random.default_rng(seed)
    chunk = max(1, min(resamples, _CELLS // max(1, candidate.rows)))
    draws: list[Floats] = []
    for start in range(0, resamples, chunk):
        weights = _draw(random, min(chunk, resamples - start), candidate.rows)
        draws.append(sign * (mine(weights) - theirs(weights)))
    differences = np.concatenate(draws)
    differences = differences[np.isfinite(differences)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail]) if len(differences) else (np.nan, np.nan)
    return Difference(
        value=metric.better_by(metric.of(candidate), metric.of(other)),
        low=float(low),
        high=float(high),
        confidence=confidence,
        resamples=len(differences),
    )


def _draw(random: np.random.Generator, draws: int, rows: int) -> Floats:
    """How often each row is taken, [draws, rows]."""
    weights = np.empty((draws, rows))
    for draw in range(draws):
        weights[draw] = np.bincount(random.integers(0, rows, size=rows), minlength=rows)
    return weights
