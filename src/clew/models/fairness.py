"""How differently groups of people are treated: rates and metrics by group, and their differences.

Knows no gate. Definitions as fairlearn has them (Weerts et al. 2023): the difference is that of the
highest and lowest group, equalized odds take the larger of that of the true and the false positive
rate.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from clew.base.errors import Invalid
from clew.models.bootstrap import bounds, draws_for, weights_of
from clew.models.metrics import Floats, Metric, Scored, Weighted
from clew.models.slicing import Labels, groups_of

CONFIDENCE = 0.95


class GroupRates(Struct, frozen=True, kw_only=True):
    """A group: how many rows, and its rate or metric by name; None where it is undefined."""

    value: str
    rows: int
    rates: dict[str, float | None]


class Fairness(Struct, frozen=True, kw_only=True):
    """How far groups are apart. ``ratio``: lowest over highest; ``low`` and ``high`` bound the
    difference with 95 % (bootstrap).
    """

    difference: float
    ratio: float
    low: float
    high: float
    resamples: int
    groups: tuple[GroupRates, ...]
    left_out_rows: int


def _rate(said: bool, among: int | None) -> Metric:
    """The share of rows (of those whose truth is ``among``) that are called favourable."""

    def prepare(scored: Scored) -> Weighted:
        hit = (scored.labels == 1).astype(np.float64)
        there = np.ones(scored.rows) if among is None else (scored.truth == among).astype(float)

        def weighted(weights: Floats) -> Floats:
            total = weights @ there
            caught = weights @ (hit * there)
            return np.where(total > 0, caught / np.where(total > 0, total, 1.0), np.nan)

        return weighted

    names = {None: "selection_rate", 1: "true_positive_rate", 0: "false_positive_rate"}
    return Metric(name=names[among], greater_is_better=said, needs_scores=False, prepare=prepare)


MEASURES: dict[str, tuple[Metric, ...]] = {
    "demographic_parity": (_rate(True, None),),
    "equal_opportunity": (_rate(True, 1),),
    "equalized_odds": (_rate(True, 1), _rate(True, 0)),
}


def yes_or_no(scored: Scored, name: str) -> Scored:
    """The answers as yes or no to one class.

    Raises:
        Invalid: ``gate.class`` where there is no such class, or it must be named.
    """
    if not scored.classes or (not name and scored.task != "binary"):
        raise Invalid(
            "gate.class",
            f"Of a {scored.task} model it must be said which answer is the favourable one.",
            hint=f'Name it: favourable="{scored.classes[0]}"'
            if scored.classes
            else "Compare a metric by group, such as mae.",
        )
    if name and name not in scored.classes:
        raise Invalid(
            "gate.class",
            f"The model has no class {name!r}.",
            hint=f"Use one of {', '.join(scored.classes)}.",
        )
    at = scored.classes.index(name) if name else 1
    return Scored(
        task="binary",
        classes=("other", name or scored.classes[1]),
        truth=(scored.truth == at).astype(np.float64),
        labels=(scored.labels == at).astype(np.float64),
    )


def fairness(
    scored: Scored, labels: Labels, metrics: tuple[Metric, ...], min_rows: int
) -> Fairness:
    """How far the groups of at least ``min_rows`` rows are apart in each metric; the largest."""
    kept = [(name, rows) for name, rows in groups_of(labels) if len(rows) >= min_rows]
    parts = [(rows, [metric.prepare(scored.take(rows)) for metric in metrics]) for _, rows in kept]
    whole = np.ones((1, scored.rows))
    values = _values(parts, whole, len(metrics))  # [metrics, groups, 1]
    draws = [
        _difference(_values(parts, weights, len(metrics)))
        for weights in weights_of(scored, draws_for(scored.rows))
    ]
    found = np.concatenate(draws)
    low, high = bounds(found, CONFIDENCE)
    return Fairness(
        difference=float(_difference(values)[0]),
        ratio=_ratio(values),
        low=low,
        high=high,
        resamples=int(np.isfinite(found).sum()),
        groups=tuple(
            GroupRates(
                value=name,
                rows=len(rows),
                rates={
                    metric.name: float(value) if np.isfinite(value) else None
                    for metric, value in zip(metrics, values[:, at, 0], strict=True)
                },
            )
            for at, (name, rows) in enumerate(kept)
        ),
        left_out_rows=scored.rows - sum(len(rows) for _, rows in kept),
    )


def _values(
    parts: list[tuple[np.ndarray, list[Weighted]]], weights: Floats, metrics: int
) -> Floats:
    found = np.empty((metrics, len(parts), len(weights)))
    for at, (rows, weighted) in enumerate(parts):
        mine = np.take(weights, rows, axis=1)
        for number, one in enumerate(weighted):
            found[number, at] = one(mine)
    return found


def _difference(values: Floats) -> Floats:
    """[draws]: the largest difference over the metrics; NaN where fewer than two are defined."""
    there = np.isfinite(values)
    high = np.where(there, values, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(there, values, np.inf).min(axis=1, initial=np.inf)
    apart = np.where(there.sum(axis=1) > 1, high - low, np.nan)
    known = np.where(np.isfinite(apart), apart, -np.inf).max(axis=0)
    return np.where(np.isfinite(known), known, np.nan)


def _ratio(values: Floats) -> float:
    """The smallest ratio of the lowest to the highest group over the metrics."""
    ratios = []
    for one in values[:, :, 0]:
        there = one[np.isfinite(one)]
        if len(there) > 1 and there.max() > 0:
            ratios.append(float(there.min() / there.max()))
    return min(ratios, default=float("nan"))
