"""The metrics that are usual for a task, to report them in one go.

The one file of this room that knows scikit-learn.
"""

from __future__ import annotations

from typing import Any

from clew.base.errors import Invalid

TASKS = ("binary", "multiclass", "regression")


def scores(task: str, truth: Any, predicted: Any, probabilities: Any = None) -> dict[str, float]:
    """Metrics by name, to report: ``trial.report(step, **scores("binary", y, model.predict(x)))``.

    - ``binary``: accuracy, precision, recall, f1; with probabilities (of the positive class, or of
      both) roc_auc, average_precision and log_loss.
    - ``multiclass``: accuracy, balanced_accuracy, f1_macro; with probabilities (rows, classes)
      roc_auc_ovr and log_loss.
    - ``regression``: rmse, mae, r2.

    Raises:
        Invalid: ``trial.task`` for another task.
    """
    from sklearn import metrics as m  # noqa: PLC0415 - heavy, and only its users have it

    if task not in TASKS:
        raise Invalid(
            "trial.task", f"{task!r} is no task.", hint=f"Give one of {', '.join(TASKS)}."
        )
    if task == "regression":
        return {
            "rmse": float(m.root_mean_squared_error(truth, predicted)),
            "mae": float(m.mean_absolute_error(truth, predicted)),
            "r2": float(m.r2_score(truth, predicted)),
        }
    found = {"accuracy": float(m.accuracy_score(truth, predicted))}
    if task == "multiclass":
        found["balanced_accuracy"] = float(m.balanced_accuracy_score(truth, predicted))
        found["f1_macro"] = float(m.f1_score(truth, predicted, average="macro", zero_division=0))
        if probabilities is not None:
            found["roc_auc_ovr"] = float(m.roc_auc_score(truth, probabilities, multi_class="ovr"))
            found["log_loss"] = float(m.log_loss(truth, probabilities))
        return found
    positive = sorted(set(truth))[-1]
    for name, of in (("precision", m.precision_score), ("recall", m.recall_score)):
        found[name] = float(of(truth, predicted, pos_label=positive, zero_division=0))
    found["f1"] = float(m.f1_score(truth, predicted, pos_label=positive, zero_division=0))
    if probabilities is not None:
        both = getattr(probabilities, "ndim", 1) == 2
        chance = probabilities[:, -1] if both else probabilities
        found["roc_auc"] = float(m.roc_auc_score(truth, chance))
        found["average_precision"] = float(
            m.average_precision_score(truth, chance, pos_label=positive)
        )
        found["log_loss"] = float(m.log_loss(truth, chance))
    return found
