"""What an evaluation report draws: confusion, ROC, precision and recall, calibration, residuals.

Knows no model and no file; gives builtins, thinned to at most 100 points a curve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from clew.models.metrics import CALIBRATION_BINS, Floats, Ints, Scored, calibration_bin

POINTS = 100
MOST_CLASSES = 10
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def charts(scored: Scored) -> dict[str, Any]:
    """All charts that fit the task, by name."""
    if scored.task == "regression":
        return {"residuals": residuals(scored), "predicted": predicted(scored)}
    found: dict[str, Any] = {"confusion": confusion(scored)}
    if scored.task == "multiclass" and scored.scores is not None:
        found |= {"roc_by_class": _by_class(scored, roc), "pr_by_class": _by_class(
            scored, precision_recall
        ), "calibration_by_class": _by_class(scored, calibration)}  # fmt: skip
    if scored.task == "binary" and scored.scores is not None:
        found |= {
            "roc": roc(scored.truth, scored.scores),
            "precision_recall": precision_recall(scored.truth, scored.scores),
            "calibration": calibration(scored.truth, scored.scores),
            "lift": lift(scored.truth, scored.scores),
        }
    return found


def _by_class(
    scored: Scored, curve: Callable[[Floats, Floats], dict[str, list[float]]]
) -> dict[str, dict[str, list[float]]]:
    """A curve of each class against all others; of the most frequent ones, where many are."""
    assert scored.scores is not None, "the caller has looked"
    counts = np.bincount(scored.truth.astype(np.int64), minlength=len(scored.classes))
    places = sorted(range(len(counts)), key=lambda at: (-counts[at], at))[:MOST_CLASSES]
    return {
        scored.classes[at]: curve((scored.truth == at).astype(np.float64), scored.scores[:, at])
        for at in sorted(places)
        if 0 < counts[at] < scored.rows
    }


def predicted(scored: Scored) -> dict[str, list[float]]:
    """True against predicted value, of rows spread evenly over the order of the truth."""
    order = np.argsort(scored.truth, kind="stable")
    points = order[_thin(len(order))]
    return {"truth": scored.truth[points].tolist(), "predicted": scored.labels[points].tolist()}


def confusion(scored: Scored) -> dict[str, Any]:
    """``counts[i][j]``: rows of class i that were called class j."""
    size = len(scored.classes)
    flat = (scored.truth * size + scored.labels).astype(np.int64)
    counts = np.bincount(flat, minlength=size * size).reshape(size, size)
    return {"classes": list(scored.classes), "counts": counts.tolist()}


def roc(truth: Floats, scores: Floats) -> dict[str, list[float]]:
    """False positive rate against true positive rate, from (0, 0) to (1, 1)."""
    caught, positives = _caught(truth, scores)
    negatives = caught - positives
    points = _thin(len(caught))
    return {
        "false_positive_rate": _rate(negatives, points),
        "true_positive_rate": _rate(positives, points),
    }


def precision_recall(truth: Floats, scores: Floats) -> dict[str, list[float]]:
    """Precision against recall, from the highest score down."""
    caught, positives = _caught(truth, scores)
    points = _thin(len(caught))[1:]
    return {
        "recall": _rate(positives, points),
        "precision": (positives[points] / caught[points]).tolist(),
    }


def lift(truth: Floats, scores: Floats) -> dict[str, list[float]]:
    """By tenths of the rows from the highest score down: the share of positives that are caught,
    and how many times as many that is as without a model. Equal scores share what they catch.
    """
    rows, positives = _caught(truth, scores)
    at = np.linspace(0.1, 1.0, 10)
    caught = np.interp(at * rows[-1], rows, positives) / max(positives[-1], 1.0)
    return {"share": at.tolist(), "caught": caught.tolist(), "lift": (caught / at).tolist()}


def calibration(truth: Floats, scores: Floats) -> dict[str, list[float]]:
    """Mean score against share of positives, by tenths of the score; empty tenths left out."""
    bins = calibration_bin(scores)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)
    kept = count > 0
    mean = np.bincount(bins, scores, CALIBRATION_BINS)[kept] / count[kept]
    share = np.bincount(bins, truth, CALIBRATION_BINS)[kept] / count[kept]
    return {"mean": mean.tolist(), "share": share.tolist(), "rows": count[kept].tolist()}


def residuals(scored: Scored) -> dict[str, Any]:
    """Quantiles of truth minus prediction, and their histogram."""
    residual = scored.truth - scored.labels
    counts, edges = np.histogram(residual, bins=30)
    return {
        "quantiles": {str(q): float(v) for q, v in zip(QUANTILES, _at(residual), strict=True)},
        "counts": counts.tolist(),
        "edges": edges.tolist(),
    }


def _at(values: Floats) -> Floats:
    return np.asarray(np.quantile(values, QUANTILES))


def _caught(truth: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Rows, and positive rows, at or above each distinct score, from none to all."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    positives = np.cumsum(truth[order])[ends]
    return np.r_[0.0, ends + 1.0], np.r_[0.0, positives]


def _thin(length: int) -> Ints:
    return np.unique(np.linspace(0, length - 1, min(length, POINTS)).round().astype(np.int64))


def _rate(counts: Floats, points: Ints) -> list[float]:
    """Shares of the last count; all 0 where there is none at all."""
    share: list[float] = (counts[points] / max(counts[-1], 1.0)).tolist()
    return share
