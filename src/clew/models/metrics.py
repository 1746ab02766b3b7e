"""Metrics of predictions against the truth, each over many weightings of the rows at once.

Knows no model, no file and no gate. Formulas are those of scikit-learn 1.9 (the tests compare);
weights make the bootstrap cheap, because what has to be sorted is sorted once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from clew.models import ranking

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Weighted = Callable[[Floats], Floats]
"""Weights of shape [draws, rows] → the metric of each draw, NaN where it is undefined."""

CALIBRATION_BINS = 10


class Scored(Struct, frozen=True, kw_only=True):
    """What is true of each test row and what a model said of it.

    Classification: ``truth`` and ``labels`` are positions in ``classes``; ``scores`` are
    probabilities, [rows] of the second class (binary) or [rows, classes], or None where the model
    gives none. Regression: ``truth`` and ``labels`` are values, ``scores`` is None. ``groups``: the
    query of each row, where rows are ranked within queries; then draws take whole queries.
    """

    task: str
    classes: tuple[str, ...]
    truth: Floats
    labels: Floats
    scores: Floats | None = None
    groups: Ints | None = None

    @property
    def rows(self) -> int:
        """How many rows were judged."""
        return len(self.truth)

    def take(self, rows: Ints | npt.NDArray[np.bool_]) -> Scored:
        """The same for some of the rows."""
        return Scored(
            task=self.task,
            classes=self.classes,
            truth=self.truth[rows],
            labels=self.labels[rows],
            scores=None if self.scores is None else self.scores[rows],
            groups=None if self.groups is None else self.groups[rows],
        )


class Metric(Struct, frozen=True, kw_only=True):
    """How well a model does. ``prepare`` does what does not depend on the weights."""

    name: str
    greater_is_better: bool
    needs_scores: bool
    prepare: Callable[[Scored], Weighted]

    def of(self, scored: Scored) -> float:
        """The metric with every row counted once; NaN where it is undefined."""
        return float(self.prepare(scored)(np.ones((1, scored.rows)))[0])

    def better_by(self, value: float, other: float) -> float:
        """How much better ``value`` is than ``other``: above 0 is better."""
        return value - other if self.greater_is_better else other - value


def metrics_of(scored: Scored) -> dict[str, float]:
    """All metrics of the task that can be computed and are defined, by name."""
    values = {metric.name: metric.of(scored) for metric in available(scored)}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def available(scored: Scored) -> list[Metric]:
    """The metrics that fit the task and what the model gives."""
    ranked = RANKING if scored.groups is not None and scored.task in _RANKED else ()
    return [
        metric
        for metric in (*METRICS[scored.task], *ranked)
        if scored.scores is not None or not metric.needs_scores
    ]


def _mean(loss: Floats) -> Weighted:
    return lambda weights: _divide(weights @ loss, weights.sum(axis=1))


def _divide(upper: Floats, lower: Floats, otherwise: float = np.nan) -> Floats:
    defined = lower != 0
    return np.where(defined, upper / np.where(defined, lower, 1.0), otherwise)


def _split(truth: Floats) -> tuple[Ints, Ints]:
    """Rows of positives and rows of negatives."""
    return np.flatnonzero(truth == 1), np.flatnonzero(truth != 1)


def _running(weights: Floats) -> Floats:
    """Sums of the first 0, 1, 2, … columns."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _take(values: Floats, columns: Ints) -> Floats:
    """Columns by position: ``values[:, columns]``, several times quicker."""
    return np.take(values, columns, axis=1)


def _area_under_roc(truth: Floats, scores: Floats) -> Weighted:
    """The share of pairs in which the positive has the higher score; an equal score is half."""
    positives, negatives = _split(truth)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    below = np.searchsorted(scores[negatives], scores[positives], side="left")
    up_to = np.searchsorted(scores[negatives], scores[positives], side="right")

    def weighted(weights: Floats) -> Floats:
        mine = _take(weights, positives)
        sums = _running(_take(weights, negatives))
        won = (mine * (_take(sums, below) + _take(sums, up_to))).sum(axis=1) / 2
        return _divide(won, mine.sum(axis=1) * sums[:, -1])

    return weighted


def _roc_auc(scored: Scored) -> Weighted:
    return _area_under_roc(scored.truth, _scores(scored))


def _roc_auc_ovr(scored: Scored) -> Weighted:
    scores = _scores(scored)
    each = [
        _area_under_roc((scored.truth == number).astype(np.float64), scores[:, number])
        for number in range(len(scored.classes))
    ]
    return lambda weights: np.mean([weighted(weights) for weighted in each], axis=0)


def _average_precision(scored: Scored) -> Weighted:
    """Mean over the positives of the precision at their own score."""
    scores = -_scores(scored)
    positives, negatives = (
        rows[np.argsort(scores[rows], kind="stable")] for rows in _split(scored.truth)
    )
    true = np.searchsorted(scores[positives], scores[positives], side="right")
    false = np.searchsorted(scores[negatives], scores[positives], side="right")

    def weighted(weights: Floats) -> Floats:
        mine = _take(weights, positives)
        caught = _take(_running(mine), true)
        precision = _divide(
            caught, caught + _take(_running(_take(weights, negatives)), false), otherwise=0.0
        )
        return _divide((mine * precision).sum(axis=1), mine.sum(axis=1))

    return weighted


def _log_loss(scored: Scored) -> Weighted:
    scores = _scores(scored)
    rows = np.arange(scored.rows)
    if scores.ndim == 1:
        scores = np.column_stack([1 - scores, scores])
    of_truth = scores[rows, scored.truth.astype(np.int64)] / scores.sum(axis=1)
    tiny = np.finfo(np.float64).eps
    return _mean(-np.log(np.clip(of_truth, tiny, 1 - tiny)))


def _brier(scored: Scored) -> Weighted:
    return _mean((_scores(scored) - scored.truth) ** 2)


def _brier_of_classes(scored: Scored) -> Weighted:
    """Squared distance to the true class over all classes, between 0 and 2 (Brier 1950)."""
    scores = _scores(scored)
    true = np.zeros_like(scores)
    true[np.arange(scored.rows), scored.truth.astype(np.int64)] = 1.0
    return _mean(((scores - true) ** 2).sum(axis=1))


def calibration_bin(probability: Floats) -> Ints:
    """The bin of each probability: ten of equal width, 1.0 in the last."""
    return np.minimum((probability * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def _calibration_error(scored: Scored) -> Weighted:
    """Expected calibration error (Naeini et al. 2015): |mean score - share| by bin, weighted."""
    scores, true = _scores(scored), scored.truth
    if scores.ndim == 2:  # of the class that is answered, as Guo et al. (2017) have it
        best = scores.argmax(axis=1)
        scores, true = scores[np.arange(scored.rows), best], (best == true).astype(np.float64)
    bins = calibration_bin(scores)
    gap = scores - true
    members = [np.flatnonzero(bins == number) for number in range(CALIBRATION_BINS)]

    def weighted(weights: Floats) -> Floats:
        total = sum(np.abs(weights[:, rows] @ gap[rows]) for rows in members)
        return _divide(np.asarray(total), weights.sum(axis=1))

    return weighted


def _accuracy(scored: Scored) -> Weighted:
    return _mean((scored.truth == scored.labels).astype(np.float64))


def _f1_of(truth: npt.NDArray[np.bool_], said: npt.NDArray[np.bool_]) -> Callable[[Floats], Floats]:
    """[2, draws]: the F1 of one class and whether the class occurs at all."""
    hit = (truth & said).astype(np.float64)
    size = truth.astype(np.float64) + said

    def weighted(weights: Floats) -> Floats:
        seen = weights @ size
        return np.stack([_divide(2 * (weights @ hit), seen, otherwise=0.0), seen > 0])

    return weighted


def _f1(scored: Scored) -> Weighted:
    one = _f1_of(scored.truth == 1, scored.labels == 1)
    return lambda weights: one(weights)[0]


def _precision(scored: Scored) -> Weighted:
    said = (scored.labels == 1).astype(np.float64)
    hit = said * (scored.truth == 1)
    return lambda weights: _divide(weights @ hit, weights @ said, otherwise=0.0)


def _recall(scored: Scored) -> Weighted:
    true = (scored.truth == 1).astype(np.float64)
    hit = true * (scored.labels == 1)
    return lambda weights: _divide(weights @ hit, weights @ true, otherwise=0.0)


def _f1_macro(scored: Scored) -> Weighted:
    each = [
        _f1_of(scored.truth == number, scored.labels == number)
        for number in range(len(scored.classes))
    ]

    def weighted(weights: Floats) -> Floats:
        values, seen = np.sum([one(weights) for one in each], axis=0)
        return _divide(values, seen)

    return weighted


def _root_mean_square(scored: Scored) -> Weighted:
    squares = _mean((scored.truth - scored.labels) ** 2)
    return lambda weights: np.sqrt(squares(weights))


def _mean_absolute(scored: Scored) -> Weighted:
    return _mean(np.abs(scored.truth - scored.labels))


def _mean_absolute_percentage(scored: Scored) -> Weighted:
    size = np.maximum(np.abs(scored.truth), np.finfo(np.float64).eps)
    return _mean(np.abs(scored.truth - scored.labels) / size)


def _r2(scored: Scored) -> Weighted:
    truth = scored.truth - scored.truth.mean()  # for the sums' sake; R² does not move with it
    residual = (scored.truth - scored.labels) ** 2

    def weighted(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        mean = _divide(weights @ truth, total)
        spread = weights @ truth**2 - total * mean**2
        return 1 - _divide(weights @ residual, spread)

    return weighted


def _by_query(values: Callable[[Floats, Floats, Ints], Floats]) -> Callable[[Scored], Weighted]:
    """The mean over the queries in which something is relevant."""

    def prepare(scored: Scored) -> Weighted:
        assert scored.groups is not None, "asked only where the metric is available"
        groups, first = ranking.dense(scored.groups)
        found = values(scored.truth, _order_of(scored), groups)
        there = np.flatnonzero(np.isfinite(found))

        def weighted(weights: Floats) -> Floats:
            mine = _take(weights, first[there])
            return _divide(mine @ found[there], mine.sum(axis=1))

        return weighted

    return prepare


def _order_of(scored: Scored) -> Floats:
    """What rows are ordered by: the probability, or the value itself."""
    return scored.labels if scored.scores is None else scored.scores


def _scores(scored: Scored) -> Floats:
    assert scored.scores is not None, "asked only where the metric is available"
    return scored.scores


def _metric(
    name: str, prepare: Callable[[Scored], Weighted], *, greater: bool, scores: bool
) -> Metric:
    return Metric(name=name, greater_is_better=greater, needs_scores=scores, prepare=prepare)


METRICS: dict[str, tuple[Metric, ...]] = {
    "binary": (
        _metric("roc_auc", _roc_auc, greater=True, scores=True),
        _metric("pr_auc", _average_precision, greater=True, scores=True),
        _metric("log_loss", _log_loss, greater=False, scores=True),
        _metric("brier", _brier, greater=False, scores=True),
        _metric("accuracy", _accuracy, greater=True, scores=False),
        _metric("f1", _f1, greater=True, scores=False),
        _metric("precision", _precision, greater=True, scores=False),
        _metric("recall", _recall, greater=True, scores=False),
        _metric("ece", _calibration_error, greater=False, scores=True),
    ),
    "multiclass": (
        _metric("accuracy", _accuracy, greater=True, scores=False),
        _metric("log_loss", _log_loss, greater=False, scores=True),
        _metric("f1_macro", _f1_macro, greater=True, scores=False),
        _metric("roc_auc_ovr", _roc_auc_ovr, greater=True, scores=True),
        _metric("brier", _brier_of_classes, greater=False, scores=True),
        _metric("ece", _calibration_error, greater=False, scores=True),
    ),
    "regression": (
        _metric("rmse", _root_mean_square, greater=False, scores=False),
        _metric("mae", _mean_absolute, greater=False, scores=False),
        _metric("r2", _r2, greater=True, scores=False),
        _metric("mape", _mean_absolute_percentage, greater=False, scores=False),
    ),
}

_RANKED = frozenset({"binary", "regression"})

RANKING: tuple[Metric, ...] = (
    _metric(
        "ndcg",
        _by_query(lambda truth, scores, groups: ranking.ndcg(truth, scores, groups, len(truth))),
        greater=True,
        scores=False,
    ),
    _metric(
        "ndcg_at_10",
        _by_query(lambda truth, scores, groups: ranking.ndcg(truth, scores, groups, 10)),
        greater=True,
        scores=False,
    ),
    _metric("map", _by_query(ranking.average_precision), greater=True, scores=False),
    _metric("mrr", _by_query(ranking.reciprocal_rank), greater=True, scores=False),
)
"""Of rows within their queries; where a gate names the column of queries."""
