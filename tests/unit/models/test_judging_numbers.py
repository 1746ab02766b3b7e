"""The numbers of gates and reports are those of scikit-learn and scipy on the same rows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from clew.base.errors import Invalid
from clew.base.records import Signature
from clew.models.bootstrap import interval, paired_difference
from clew.models.curves import calibration, confusion, lift, precision_recall, residuals, roc
from clew.models.evaluation import judged
from clew.models.fairness import MEASURES, fairness, yes_or_no
from clew.models.metrics import METRICS, RANKING, Scored, metrics_of
from clew.models.slicing import groups_of, labels_of, slices, suggested


def named(name, task="binary"):
    return next(one for one in (*METRICS[task], *RANKING) if one.name == name)


def binary(rows=600, seed=3) -> Scored:
    random = np.random.default_rng(seed)
    scores = random.random(rows).round(2)
    truth = (random.random(rows) < scores).astype(float)
    return Scored(
        task="binary",
        classes=("0", "1"),
        truth=truth,
        labels=(scores > 0.5).astype(float),
        scores=scores,
    )


def multiclass(rows=500, seed=4) -> Scored:
    random = np.random.default_rng(seed)
    scores = random.dirichlet([1, 1, 1], rows)
    truth = np.array([random.choice(3, p=one) for one in scores]).astype(float)
    return Scored(
        task="multiclass",
        classes=("a", "b", "c"),
        truth=truth,
        labels=scores.argmax(axis=1).astype(float),
        scores=scores,
    )


def test_precision_recall_and_brier_are_those_of_scikit_learn():
    one, many = binary(), multiclass()
    found = metrics_of(one)
    assert found["precision"] == pytest.approx(sk.precision_score(one.truth, one.labels))
    assert found["recall"] == pytest.approx(sk.recall_score(one.truth, one.labels))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(one.truth, one.scores))
    of_classes = sk.brier_score_loss(many.truth, many.scores, scale_by_half=False)
    assert metrics_of(many)["brier"] == pytest.approx(of_classes)


def test_curves_are_those_of_scikit_learn():
    one = binary()
    mine = roc(one.truth, one.scores)
    rates = sk.roc_curve(one.truth, one.scores, drop_intermediate=False)
    points = {(round(a, 9), round(b, 9)) for a, b in zip(rates[0], rates[1], strict=True)}
    drawn = zip(mine["false_positive_rate"], mine["true_positive_rate"], strict=True)
    assert {(round(a, 9), round(b, 9)) for a, b in drawn} <= points
    area = np.trapezoid(mine["true_positive_rate"], mine["false_positive_rate"])
    assert area == pytest.approx(sk.roc_auc_score(one.truth, one.scores), abs=0.01)
    share, mean = calibration_curve(one.truth, one.scores, n_bins=10)
    curve = calibration(one.truth, one.scores)
    assert len(curve["mean"]) == len(mean)
    assert np.average(curve["share"], weights=curve["rows"]) == pytest.approx(one.truth.mean())
    assert confusion(one)["counts"] == sk.confusion_matrix(one.truth, one.labels).tolist()
    caught = precision_recall(one.truth, one.scores)
    precision, recall, _ = sk.precision_recall_curve(one.truth, one.scores)
    assert max(caught["recall"]) == recall.max() == 1
    assert caught["precision"][-1] == pytest.approx(precision[0])
    assert share.max() <= 1


def test_expected_calibration_error_is_the_weighted_gap_of_the_curve():
    for scored in (binary(), multiclass()):
        if scored.scores.ndim == 2:
            top = scored.scores.max(axis=1)
            truth = (scored.labels == scored.truth).astype(float)
        else:
            top, truth = scored.scores, scored.truth
        curve = calibration(truth, top)
        gaps = np.abs(np.array(curve["mean"]) - np.array(curve["share"]))
        assert metrics_of(scored)["ece"] == pytest.approx(np.average(gaps, weights=curve["rows"]))


def test_lift_of_a_perfect_order_catches_all_with_the_first_rows():
    truth = np.array([1.0] * 20 + [0.0] * 80)
    found = lift(truth, np.linspace(1, 0, 100))
    assert found["caught"][:2] == pytest.approx([0.5, 1.0])
    assert found["lift"][0] == pytest.approx(5.0)
    idle = lift(truth, np.zeros(100))
    assert idle["lift"] == pytest.approx([1.0] * 10)


def test_quantiles_of_residuals_are_those_of_scipy():
    random = np.random.default_rng(5)
    truth, said = random.normal(size=300), random.normal(size=300)
    scored = Scored(task="regression", classes=(), truth=truth, labels=said)
    found = residuals(scored)["quantiles"]
    wanted = stats.mstats.mquantiles(truth - said, [0.25, 0.5, 0.75], alphap=1, betap=1)
    assert [found["0.25"], found["0.5"], found["0.75"]] == pytest.approx(list(wanted))


def test_an_interval_is_that_of_scipy_s_bootstrap():
    scored = binary(400)
    right = (scored.truth == scored.labels).astype(float)
    wanted = stats.bootstrap(
        (right,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = interval(named("accuracy"), scored, resamples=4000)
    assert found.value == pytest.approx(right.mean())
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.006)


def test_a_paired_difference_is_that_of_scipy_s_paired_bootstrap():
    mine, theirs = binary(400), binary(400)
    worse = np.where(np.arange(400) % 5 == 0, 1 - theirs.labels, theirs.labels)
    other = Scored(task="binary", classes=theirs.classes, truth=theirs.truth, labels=worse)
    a = (mine.truth == mine.labels).astype(float)
    b = (other.truth == other.labels).astype(float)
    wanted = stats.bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), paired=True, vectorized=True,
        n_resamples=4000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    found = paired_difference(named("accuracy"), mine, other, resamples=4000)
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.008)


def ranked(seed=0):
    random = np.random.default_rng(seed)
    groups = np.sort(random.integers(0, 25, 400))
    truth = random.integers(0, 4, 400).astype(float)
    scores = random.integers(0, 9, 400).astype(float)  # many ties
    return Scored(task="regression", classes=(), truth=truth, labels=scores, groups=groups)


def test_ranking_is_scored_by_query_as_scikit_learn_does():
    one = ranked()
    found = metrics_of(one)
    parts = [np.flatnonzero(one.groups == q) for q in np.unique(one.groups)]
    at_10 = [sk.ndcg_score([one.truth[p]], [one.labels[p]], k=10) for p in parts]
    whole = [sk.ndcg_score([one.truth[p]], [one.labels[p]]) for p in parts]
    mean = [
        sk.label_ranking_average_precision_score([one.truth[p] > 0], [one.labels[p]]) for p in parts
    ]
    assert found["ndcg_at_10"] == pytest.approx(np.mean(at_10))
    assert found["ndcg"] == pytest.approx(np.mean(whole))
    assert found["map"] == pytest.approx(np.mean(mean))
    assert 0 < found["mrr"] <= 1


def test_a_query_without_anything_relevant_counts_for_nothing():
    one = ranked()
    truth = np.where(one.groups == 3, 0.0, one.truth)
    left = one.take(one.groups != 3)
    without = Scored(
        task="regression", classes=(), truth=truth, labels=one.labels, groups=one.groups
    )
    assert metrics_of(without)["ndcg"] == pytest.approx(metrics_of(left)["ndcg"])


def test_whole_queries_are_drawn_for_an_interval():
    one = ranked()
    twice = Scored(
        task="regression", classes=(), truth=np.tile(one.truth, 2),
        labels=np.tile(one.labels, 2), groups=np.tile(one.groups, 2),
    )  # fmt: skip
    rows = Scored(task="regression", classes=(), truth=twice.truth, labels=twice.labels)
    by_query = interval(named("mae", "regression"), twice, resamples=300)
    by_row = interval(named("mae", "regression"), rows, resamples=300)
    assert by_query.high - by_query.low > by_row.high - by_row.low


def test_fairness_is_the_difference_of_the_rates_of_groups():
    one = binary()
    group = np.where(np.arange(one.rows) % 3 == 0, "x", "y")
    found = fairness(yes_or_no(one, ""), group, MEASURES["equalized_odds"], 1)
    rates = {}
    for name in ("x", "y"):
        tn, fp, fn, tp = sk.confusion_matrix(
            one.truth[group == name], one.labels[group == name]
        ).ravel()
        rates[name] = (tp / (tp + fn), fp / (fp + tn))
    wanted = max(abs(rates["x"][i] - rates["y"][i]) for i in (0, 1))
    assert found.difference == pytest.approx(wanted)
    assert found.low <= found.difference <= found.high + 1e-9
    assert {g.value: g.rows for g in found.groups} == {"x": 200, "y": 400}


def test_the_favourable_class_of_several_must_be_named():
    many = multiclass()
    with pytest.raises(Invalid) as caught:
        yes_or_no(many, "")
    assert caught.value.code == "gate.class"
    assert yes_or_no(many, "b").labels.sum() == (many.labels == 1).sum()


def test_rows_are_grouped_by_columns_expressions_and_quartiles():
    frame = pl.DataFrame(
        {"who": ["a", "b", None, "a"] * 10, "size": list(range(40)), "flag": [True, False] * 20}
    )
    assert {name: len(rows) for name, rows in groups_of(labels_of(frame, "who"))} == {
        "a": 20, "b": 10, "missing": 10,
    }  # fmt: skip
    assert {n: len(r) for n, r in groups_of(labels_of(frame, "size > 29 AND flag"))} == {
        "false": 35, "true": 5,
    }  # fmt: skip
    assert [len(rows) for _, rows in groups_of(labels_of(frame, "size"))] == [10] * 4
    assert suggested(frame, ["flag"]) == ["who"]
    with pytest.raises(Invalid) as caught:
        labels_of(frame, "none > 3")
    assert caught.value.code == "gate.column"


def test_the_worst_group_comes_first_and_small_ones_are_counted_only():
    one = binary()
    group = np.array(["bad"] * 100 + ["good"] * 490 + ["few"] * 10)
    labels = np.where(group == "bad", 1 - one.truth, one.truth)
    scored = Scored(task="binary", classes=one.classes, truth=one.truth, labels=labels)
    found = slices(scored, group, named("accuracy"), 30, sure=True)
    assert [(s.value, s.metric) for s in found.judged] == [("bad", 0.0), ("good", 1.0)]
    assert (found.judged[1].low, found.judged[1].high) == (1.0, 1.0)
    assert found.left_out_rows == 10


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_answers_that_are_no_numbers_are_not_judged_and_the_first_is_named(task, bad):
    classes = {"regression": (), "binary": ("0", "1"), "multiclass": ("a", "b", "c")}[task]
    signature = Signature(frame="polars", inputs=(), width=1, task=task, classes=classes)
    truth = pl.Series([1.0, 2.0, 3.0] if task == "regression" else [*classes, classes[0]][:3])
    labels = np.array(truth.to_list())
    outputs = {
        "regression": {"prediction": np.array([1.0, bad, bad])},
        "binary": {"label": labels, "probability": np.array([0.5, bad, bad])},
        "multiclass": {
            "label": labels,
            "probabilities": np.array([[1, 0, 0], [bad] * 3, [bad] * 3]),
        },
    }[task]
    with pytest.raises(Invalid, match=r"2 of 3 test rows with NaN or infinity, the first .* row 1"):
        judged(SimpleNamespace(signature=signature), outputs, truth)
