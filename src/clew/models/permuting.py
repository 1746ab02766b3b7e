"""What a model makes of each feature: how much worse it gets where one is shuffled.

Knows models and metrics; no file. Bounded: at most so many rows and about so many seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from clew.base.records.reports import Weight
from clew.models.loading import LoadedModel
from clew.models.metrics import Metric, available
from clew.models.targets import score

ROWS = 1000
REPEATS = 3
BUDGET_S = 1.5
LEAST_ROWS = 100
_SEED = 20201


class Permuted:
    """What was found, and with how much work."""

    def __init__(self, metric: str, rows: int, repeats: int) -> None:
        self.metric = metric
        self.rows = rows
        self.repeats = repeats
        self.weights: list[Weight] = []
        self.notes: list[str] = []


def permuted(
    model: LoadedModel,
    features: pl.DataFrame,
    truth: pl.Series,
    order: Sequence[str],
    *,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Permuted:
    """How much worse the first metric of the task gets, by feature, the most first.

    Args:
        model: The packaged model.
        features: Test rows as it takes them.
        truth: Their target, without nulls.
        order: The columns, in the order in which they are tried while there is time.
        budget_s: About how long it may take.
        clock: Seconds that only go forward.
    """
    rows = np.unique(np.linspace(0, features.height - 1, min(ROWS, features.height)).astype(int))
    begun = clock()
    features, truth = features[rows], truth[rows]
    metric, base = _metric(model, features, truth)
    once_s = max(clock() - begun, 1e-6)
    repeats = max(1, min(REPEATS, int(budget_s / (once_s * max(1, len(order))))))
    fewer = _fewer_rows(len(truth), once_s * len(order), budget_s) if repeats == 1 else len(truth)
    if fewer < len(truth):
        picked = np.unique(np.linspace(0, len(truth) - 1, fewer).astype(int))
        features, truth = features[picked], truth[picked]
        metric, base = _metric(model, features, truth)
    found = Permuted(metric.name, len(truth), repeats)
    chance = np.random.default_rng(_SEED)
    for done, name in enumerate(order):
        if clock() - begun > 2 * budget_s:
            found.notes.append(
                f"Permutation importances are of {done} of {len(order)} features: each prediction "
                f"of {len(truth)} rows takes {once_s * 1e3:.0f} ms, and {budget_s:g} s are spent "
                "on all."
            )
            break
        found.weights.append(_weight(model, features, truth, name, metric, base, repeats, chance))
    found.weights.sort(key=lambda one: (-one.value, one.feature))
    return found


def _weight(
    model: LoadedModel,
    features: pl.DataFrame,
    truth: pl.Series,
    name: str,
    metric: Metric,
    base: float,
    repeats: int,
    chance: np.random.Generator,
) -> Weight:
    worse = []
    for _ in range(repeats):
        shuffled = features[name].gather(chance.permutation(features.height))
        value = _value(model, features.with_columns(shuffled.alias(name)), truth, metric)
        worse.append(metric.better_by(base, value))
    finite = [one for one in worse if math.isfinite(one)] or [0.0]
    spread = float(np.std(finite)) if repeats > 1 else None
    return Weight(feature=name, value=float(np.mean(finite)), spread=spread)


def _metric(model: LoadedModel, rows: pl.DataFrame, truth: pl.Series) -> tuple[Metric, float]:
    """The first metric of the task that is defined here, and its value."""
    scored = score(model.signature, truth.to_list(), model.predict(rows))
    values = [(one, one.of(scored)) for one in available(scored)]
    return next((pair for pair in values if math.isfinite(pair[1])), values[0])


def _value(model: LoadedModel, rows: pl.DataFrame, truth: pl.Series, metric: Metric) -> float:
    return metric.of(score(model.signature, truth.to_list(), model.predict(rows)))


def _fewer_rows(rows: int, all_s: float, budget_s: float) -> int:
    if all_s <= budget_s:
        return rows
    return max(min(LEAST_ROWS, rows), int(rows * budget_s / all_s))
