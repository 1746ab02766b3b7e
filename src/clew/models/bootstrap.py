"""How sure a difference between two models is: the paired bootstrap over the test rows.

Knows no gate and no rule. Percentile intervals as in Efron and Tibshirani (1993), chapter 13: each
draw takes as many rows as there are, with replacement, and the same rows for both models. Where
rows belong to queries, whole queries are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from clew.models.metrics import Floats, Ints, Metric, Scored
from clew.models.ranking import dense

RESAMPLES = 1_000
SEED = 20_130_101
LEAST_RESAMPLES = 50
MOST_CELLS = 10_000_000
"""Rows times draws of one interval of a report; a difference to the champion is never cut short."""

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


class Interval(Struct, frozen=True, kw_only=True):
    """A metric with bounds of ``confidence``; NaN where it is undefined."""

    value: float
    low: float
    high: float
    confidence: float
    resamples: int


def draws_for(rows: int) -> int:
    """How many draws an interval over so many rows is worth: 1,000, fewer above 10,000 rows."""
    return max(LEAST_RESAMPLES, min(RESAMPLES, MOST_CELLS // max(1, rows)))


def interval(
    metric: Metric,
    scored: Scored,
    *,
    confidence: float = 0.95,
    resamples: int | None = None,
    seed: int = SEED,
) -> Interval:
    """A metric and how sure it is; same seed, same answer."""
    weighted = metric.prepare(scored)
    resamples = resamples or draws_for(scored.rows)
    values = np.concatenate([weighted(some) for some in weights_of(scored, resamples, seed)])
    low, high = bounds(values, confidence)
    return Interval(
        value=metric.of(scored),
        low=low,
        high=high,
        confidence=confidence,
        resamples=int(np.isfinite(values).sum()),
    )


def weights_of(scored: Scored, resamples: int, seed: int = SEED) -> Iterator[Floats]:
    """How often each row is taken, [draws, rows], piece by piece."""
    random = np.random.default_rng(seed)
    groups = None if scored.groups is None else dense(scored.groups)[0]
    chunk = max(1, min(resamples, _CELLS // max(1, scored.rows)))
    for start in range(0, resamples, chunk):
        yield _draw(random, min(chunk, resamples - start), scored.rows, groups)


def bounds(values: Floats, confidence: float) -> tuple[float, float]:
    """The percentile interval of the draws in which a value is defined; NaN without any."""
    there = values[np.isfinite(values)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(there, [tail, 1 - tail]) if len(there) else (np.nan, np.nan)
    return float(low), float(high)


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
    differences = np.concatenate(
        [
            sign * (mine(weights) - theirs(weights))
            for weights in weights_of(candidate, resamples, seed)
        ]
    )
    low, high = bounds(differences, confidence)
    return Difference(
        value=metric.better_by(metric.of(candidate), metric.of(other)),
        low=low,
        high=high,
        confidence=confidence,
        resamples=int(np.isfinite(differences).sum()),
    )


def _draw(random: np.random.Generator, draws: int, rows: int, groups: Ints | None) -> Floats:
    """How often each row is taken, [draws, rows]; the rows of a query together."""
    units = rows if groups is None else int(groups.max()) + 1
    weights = np.empty((draws, units))
    for draw in range(draws):
        weights[draw] = np.bincount(random.integers(0, units, size=units), minlength=units)
    return weights if groups is None else np.take(weights, groups, axis=1)
