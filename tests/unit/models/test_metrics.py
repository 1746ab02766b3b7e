"""Metrics and the bootstrap, against scikit-learn and scipy on the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from clew.models.bootstrap import paired_difference
from clew.models.curves import calibration, charts, precision_recall, roc
from clew.models.metrics import METRICS, Scored, metrics_of


def binary(rows: int = 400, seed: int = 0, skill: float = 1.0) -> Scored:
    random = np.random.default_rng(seed)
    truth = (random.random(rows) < 0.3).astype(float)
    raw = skill * (truth - 0.5) + random.normal(size=rows)
    scores = np.round(1 / (1 + np.exp(-raw)), 2)  # rounded: ties are the hard part
    return Scored(
        task="binary",
        classes=("no", "yes"),
        truth=truth,
        labels=(scores >= 0.5).astype(float),
        scores=scores,
    )


def multiclass(rows: int = 300, seed: int = 1) -> Scored:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, rows)
    raw = random.random((rows, 4)) + np.eye(4)[truth] * 0.6
    scores = raw / raw.sum(axis=1, keepdims=True)
    return Scored(
        task="multiclass",
        classes=("a", "b", "c", "d"),
        truth=truth.astype(float),
        labels=scores.argmax(axis=1).astype(float),
        scores=scores,
    )


def regression(rows: int = 250, seed: int = 2) -> Scored:
    random = np.random.default_rng(seed)
    truth = random.normal(50, 10, rows)
    said = truth + random.normal(0, 3, rows)
    return Scored(task="regression", classes=(), truth=truth, labels=said)


def by_name(task: str, name: str):
    return next(metric for metric in METRICS[task] if metric.name == name)


def weights_of(rows: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 4, rows).astype(float)


def test_binary_metrics_are_those_of_scikit_learn():
    s = binary()
    for weights in (None, weights_of(s.rows)):
        w = np.ones(s.rows) if weights is None else weights
        expected = {
            "roc_auc": sk.roc_auc_score(s.truth, s.scores, sample_weight=w),
            "pr_auc": sk.average_precision_score(s.truth, s.scores, sample_weight=w),
            "log_loss": sk.log_loss(s.truth, s.scores, sample_weight=w),
            "brier": sk.brier_score_loss(s.truth, s.scores, sample_weight=w),
            "accuracy": sk.accuracy_score(s.truth, s.labels, sample_weight=w),
            "f1": sk.f1_score(s.truth, s.labels, sample_weight=w),
        }
        for name, value in expected.items():
            found = by_name("binary", name).prepare(s)(w[None])[0]
            assert found == pytest.approx(value, rel=1e-12), name


def test_multiclass_metrics_are_those_of_scikit_learn():
    s = multiclass()
    found = metrics_of(s)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(s.truth, s.labels))
    assert found["log_loss"] == pytest.approx(sk.log_loss(s.truth, s.scores))
    assert found["f1_macro"] == pytest.approx(sk.f1_score(s.truth, s.labels, average="macro"))
    expected = sk.roc_auc_score(s.truth, s.scores, multi_class="ovr", average="macro")
    assert found["roc_auc_ovr"] == pytest.approx(expected)


def test_regression_metrics_are_those_of_scikit_learn():
    s = regression()
    for w in (np.ones(s.rows), weights_of(s.rows)):
        expected = {
            "rmse": sk.root_mean_squared_error(s.truth, s.labels, sample_weight=w),
            "mae": sk.mean_absolute_error(s.truth, s.labels, sample_weight=w),
            "r2": sk.r2_score(s.truth, s.labels, sample_weight=w),
            "mape": sk.mean_absolute_percentage_error(s.truth, s.labels, sample_weight=w),
        }
        for name, value in expected.items():
            assert by_name("regression", name).prepare(s)(w[None])[0] == pytest.approx(value), name


def test_calibration_error_is_the_weighted_gap_of_ten_equal_bins():
    s = binary()
    edges = np.linspace(0, 1, 11)
    bins = np.clip(np.digitize(s.scores, edges[1:-1]), 0, 9)
    expected = sum(
        (bins == b).mean() * abs(s.scores[bins == b].mean() - s.truth[bins == b].mean())
        for b in range(10)
        if (bins == b).any()
    )
    assert metrics_of(s)["ece"] == pytest.approx(expected)


def test_a_metric_that_is_undefined_is_left_out_and_not_made_up():
    s = binary().take(binary().truth == 1)
    found = metrics_of(s)
    assert "roc_auc" not in found
    assert "accuracy" in found


def test_a_model_without_probabilities_has_only_the_metrics_of_labels():
    s = binary()
    bare = Scored(task="binary", classes=s.classes, truth=s.truth, labels=s.labels)
    assert set(metrics_of(bare)) == {"accuracy", "f1", "precision", "recall"}


@pytest.mark.parametrize("name", ["roc_auc", "log_loss", "f1"])
def test_the_paired_bootstrap_agrees_with_scipy(name: str):
    good, bad = binary(skill=2.0), binary(skill=1.0)
    metric = by_name("binary", name)
    found = paired_difference(metric, good, bad, resamples=2000)

    def statistic(rows: np.ndarray) -> float:
        return metric.better_by(metric.of(good.take(rows)), metric.of(bad.take(rows)))

    expected = stats.bootstrap(
        (np.arange(good.rows),),
        statistic,
        n_resamples=1000,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(5),
    )
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.1 * width)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.1 * width)
    assert found.value == pytest.approx(statistic(np.arange(good.rows)))


def test_the_bootstrap_gives_the_same_answer_every_time():
    pair = binary(skill=2.0), binary(skill=1.0)
    metric = by_name("binary", "roc_auc")
    assert paired_difference(metric, *pair) == paired_difference(metric, *pair)


def test_a_model_against_itself_differs_by_exactly_nothing():
    found = paired_difference(by_name("regression", "rmse"), regression(), regression())
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_curves_are_those_of_scikit_learn_thinned_to_a_hundred_points():
    s = binary(rows=3000)
    fine = Scored(
        task="binary",
        classes=s.classes,
        truth=s.truth,
        labels=s.labels,
        scores=np.clip(s.scores + np.random.default_rng(3).random(3000) / 1000, 0, 1),
    )
    curve = roc(fine.truth, fine.scores)
    assert len(curve["true_positive_rate"]) <= 100
    fpr, tpr, _ = sk.roc_curve(fine.truth, fine.scores, drop_intermediate=False)
    known = set(zip(fpr.round(9), tpr.round(9), strict=True))
    mine = zip(curve["false_positive_rate"], curve["true_positive_rate"], strict=True)
    assert {(round(x, 9), round(y, 9)) for x, y in mine} <= known
    precision, recall, _ = sk.precision_recall_curve(s.truth, s.scores)
    curve = precision_recall(s.truth, s.scores)
    known = set(zip(recall.round(9), precision.round(9), strict=True))
    points = zip(curve["recall"], curve["precision"], strict=True)
    assert {(round(x, 9), round(y, 9)) for x, y in points} <= known


def test_the_confusion_matrix_and_calibration_count_every_row():
    s = binary()
    found = charts(s)
    counts = np.array(found["confusion"]["counts"])
    assert (counts == sk.confusion_matrix(s.truth, s.labels)).all()
    assert sum(calibration(s.truth, s.scores)["rows"]) == s.rows
