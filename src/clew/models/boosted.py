"""Trees of XGBoost and LightGBM, read from what their models say of themselves.

Knows neither library: it asks the fitted object for its own description.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from msgspec import Struct

from clew.models.tree_nodes import LEQ, LESS, Tree, constant

_TINY = float(np.float32(1e-35))
"""LightGBM takes numbers up to this for zero (its ``kZeroThreshold``)."""


class Boosted(Struct, frozen=True, kw_only=True):
    """Trees whose sum is the raw score. ``mode``: how they compare; ``float32``: what they add in.

    ``link``: identity, sigmoid, softmax or exp: what makes an answer of a raw score.
    """

    trees: list[Tree]
    targets: int
    mode: int
    float32: bool
    link: str


def of_xgboost(model: Any) -> Boosted:
    """The trees of an estimator of XGBoost (its booster's own JSON).

    Raises:
        NotImplementedError: it is not made of trees of numbers, or has an objective of another
            kind than regression, binary or multiclass classification.
    """
    learner = json.loads(bytes(model.get_booster().save_raw("json")))["learner"]
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree" or "model" not in booster:
        raise NotImplementedError(f"its booster is {booster['name']!r}")
    objective = learner["objective"]["name"]
    link = _XGBOOST_LINKS.get(objective)
    if link is None:
        raise NotImplementedError(f"its objective is {objective!r}")
    targets = max(1, int(learner["learner_model_param"]["num_class"]))
    base = json.loads(learner["learner_model_param"]["base_score"])
    bases = base if isinstance(base, list) else [base]
    margins = [_margin(float(value), link) for value in bases] * (targets // len(bases))
    owners = booster["model"]["tree_info"]
    trees = [constant(value, at) for at, value in enumerate(margins)]
    best = _best_iteration(model)
    kept = len(owners) if best is None else best * max(1, targets)
    trees += [
        _xgboost_tree(tree, owner)
        for tree, owner in zip(booster["model"]["trees"][:kept], owners[:kept], strict=True)
    ]
    return Boosted(trees=trees, targets=targets, mode=LESS, float32=True, link=link)


_XGBOOST_LINKS = {
    "reg:squarederror": "identity", "reg:absoluteerror": "identity",
    "reg:quantileerror": "identity", "reg:pseudohubererror": "identity",
    "reg:squaredlogerror": "identity",
    "binary:logistic": "sigmoid", "reg:logistic": "sigmoid", "multi:softprob": "softmax",
    "multi:softmax": "softmax", "count:poisson": "exp", "reg:gamma": "exp", "reg:tweedie": "exp",
}  # fmt: skip


def _best_iteration(model: Any) -> int | None:
    try:
        return int(model.best_iteration) + 1
    except AttributeError:
        return None


def _margin(base: float, link: str) -> float:
    """The base score as a raw score, as XGBoost makes it, in float32."""
    if link == "sigmoid":
        return float(-np.log(np.float32(1.0) / np.float32(base) - np.float32(1.0)))
    return float(np.log(np.float32(base))) if link == "exp" else base


def _xgboost_tree(tree: dict[str, Any], target: int) -> Tree:
    if any(tree.get("split_type") or ()):
        raise NotImplementedError("a tree splits by categories")
    left = np.array(tree["left_children"], dtype=np.int64)
    conditions = np.array(tree["split_conditions"], dtype=np.float32).astype(np.float64)
    return Tree(
        feature=np.array(tree["split_indices"], dtype=np.int64),
        threshold=conditions,
        left=left,
        right=np.array(tree["right_children"], dtype=np.int64),
        leaf=left == -1,
        values=conditions,
        missing_left=np.array(tree["default_left"]).astype(bool),
        target=target,
    )


def of_lightgbm(model: Any) -> Boosted:
    """The trees of an estimator of LightGBM (its booster's own description).

    Raises:
        NotImplementedError: as for XGBoost; or zero means missing and goes another way.
    """
    best = getattr(model, "best_iteration_", None)
    said = model.booster_.dump_model(num_iteration=best if best else -1)
    objective = str(said.get("objective", "")).split()
    link = _LIGHTGBM_LINKS.get(objective[0] if objective else "")
    if link is None or (link == "sigmoid" and "sigmoid:1" not in objective):
        raise NotImplementedError(f"its objective is {' '.join(objective)!r}")
    if said.get("average_output"):
        raise NotImplementedError("it averages its trees")
    targets = int(said["num_tree_per_iteration"])
    trees = [
        _lightgbm_tree(tree["tree_structure"], at % targets)
        for at, tree in enumerate(said["tree_info"])
    ]
    return Boosted(trees=trees, targets=targets, mode=LEQ, float32=False, link=link)


_LIGHTGBM_LINKS = {
    "regression": "identity", "regression_l1": "identity", "huber": "identity", "fair": "identity",
    "quantile": "identity", "mape": "identity", "binary": "sigmoid", "multiclass": "softmax",
    "poisson": "exp", "gamma": "exp", "tweedie": "exp",
}  # fmt: skip


def _lightgbm_tree(root: dict[str, Any], target: int) -> Tree:
    rows: list[tuple[int, float, int, int, bool, float, bool]] = []

    def add(node: dict[str, Any]) -> int:
        at = len(rows)
        if "split_index" not in node:
            rows.append((0, 0.0, 0, 0, True, float(node["leaf_value"]), False))
            return at
        rows.append((0, 0.0, 0, 0, False, 0.0, False))
        left, right = add(node["left_child"]), add(node["right_child"])
        threshold, feature = _split(node), int(node["split_feature"])
        rows[at] = (feature, threshold, left, right, False, 0.0, _left_if_missing(node, threshold))
        return at

    add(root)
    feature, threshold, left, right, leaf, values, missing = zip(*rows, strict=True)
    return Tree(
        feature=np.array(feature, dtype=np.int64),
        threshold=np.array(threshold),
        left=np.array(left, dtype=np.int64),
        right=np.array(right, dtype=np.int64),
        leaf=np.array(leaf),
        values=np.array(values),
        missing_left=np.array(missing),
        target=target,
    )


def _split(node: dict[str, Any]) -> float:
    """The threshold; one among the numbers that are taken for zero goes to their end."""
    if node["decision_type"] != "<=":
        raise NotImplementedError("a tree splits by categories")
    threshold = float(node["threshold"])
    if abs(threshold) > _TINY:
        return threshold
    return _TINY if threshold >= 0 else float(np.nextafter(-_TINY, -np.inf))


def _left_if_missing(node: dict[str, Any], threshold: float) -> bool:
    """Where NaN goes: by default, or as the zero that it is taken for."""
    kind, zero_left = node["missing_type"], threshold >= 0
    if kind == "None":
        return zero_left
    default = bool(node["default_left"])
    if kind == "Zero" and default != zero_left:
        raise NotImplementedError("zero means missing in a tree, and goes another way")
    return default
