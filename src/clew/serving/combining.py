"""Several answers to the same rows as one: mean, vote, or all of them.

Knows arrays by name; nothing of graphs or requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clew.serving.tensors import Array

Answers = Mapping[str, Mapping[str, Array]]
"""Step → output → array with one value a row."""


def mean(answers: Answers, weights: Sequence[float], classes: tuple[str, ...]) -> dict[str, Array]:
    """The weighted means of numbers that all have; of classes with it, the label of the largest.

    Raises:
        ValueError: they have no number in common.
    """
    parts = list(answers.values())
    shared = [
        name
        for name, first in parts[0].items()
        if name != "label"
        and first.dtype.kind in "biuf"
        and all(name in one and one[name].shape == first.shape for one in parts)
    ]
    if not shared:
        raise ValueError("the answers have no number in common")
    total = float(sum(weights))
    means = {
        name: sum(
            one[name].astype(np.float64) * (weight / total)
            for one, weight in zip(parts, weights, strict=True)
        )
        for name in shared
    }
    found: dict[str, Array] = {name: np.asarray(value) for name, value in means.items()}
    label = _label(found, parts[0].get("label"), classes)
    return found if label is None else {"label": label, **found}


def _label(
    means: Mapping[str, Array], like: Array | None, classes: tuple[str, ...]
) -> Array | None:
    """The class of the largest mean, typed as the labels of the steps."""
    if like is None or not classes:
        return None
    if "probabilities" in means:
        at = means["probabilities"].argmax(axis=1)
    elif "probability" in means and len(classes) == 2:
        at = np.greater(means["probability"], 0.5).astype(np.int64)
    else:
        return None
    return as_labels([classes[each] for each in at.tolist()], like)


def vote(answers: Answers, weights: Sequence[float], classes: tuple[str, ...]) -> dict[str, Array]:
    """The label with the most weight, and its share; a tie goes to the class that comes first.

    Raises:
        ValueError: an answer has no label.
    """
    parts = list(answers.values())
    if not all("label" in one for one in parts):
        raise ValueError("not all answers have a label")
    columns = [[_text(value) for value in one["label"].tolist()] for one in parts]
    order = {name: at for at, name in enumerate(classes)}
    labels, shares = [], []
    for row in zip(*columns, strict=True):
        sums: dict[str, float] = {}
        for label, weight in zip(row, weights, strict=True):
            sums[label] = sums.get(label, 0.0) + weight
        best = min(sums, key=lambda each: (-sums[each], order.get(each, len(order)), each))
        labels.append(best)
        shares.append(sums[best] / sum(weights))
    return {"label": as_labels(labels, parts[0]["label"]), "votes": np.array(shares)}


def together(answers: Answers) -> dict[str, Array]:
    """Every output of every answer, as ``step.output``."""
    return {f"{step}.{name}": one for step, each in answers.items() for name, one in each.items()}


def as_labels(labels: Sequence[str], like: Array) -> Array:
    """Classes (texts) in the type that models give them."""
    kind = like.dtype.kind
    if kind == "b":
        return np.array([each.lower() in {"true", "1"} for each in labels])
    if kind in "iuf":
        return np.array([float(each) for each in labels]).astype(like.dtype)
    return np.array(labels)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
