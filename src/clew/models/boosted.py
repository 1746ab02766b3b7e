"""Trees of XGBoost and LightGBM, read from what their models say of themselves.

Knows neither library: it asks the fitted estimator or booster for its own description.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from clew.models.tree_nodes import LEQ, LESS, Tree, constant

_MOST = 1e300
"""LightGBM writes this for a threshold that is infinite (its ``AvoidInf``)."""
_TINY = float(np.float32(1e-35))
"""LightGBM takes numbers up to this for zero (its ``kZeroThreshold``)."""


class Boosted(Struct, frozen=True, kw_only=True):
    """Trees whose sum is the raw score. ``mode``: how they compare; ``float32``: what they add in.

    ``link``: identity, sigmoid, sigmoid2 (of twice the score), softmax, exp, squares (with its
    sign) or above (zero): what makes an answer of a raw score. Before it the sum is divided by
    ``averaged`` and multiplied by ``slope``.
    """

    trees: list[Tree]
    targets: int
    mode: int
    float32: bool
    link: str
    averaged: int = 1
    slope: float = 1.0


def of_xgboost(model: Any) -> Boosted:
    """The trees of an estimator of XGBoost (its booster's own JSON).

    Raises:
        NotImplementedError: it is not made of trees of numbers, or has an objective that is not
            known here, or several outputs.
    """
    found = of_xgboost_booster(model.get_booster(), _best_iteration(model))
    if found.targets > 1 and found.link != "softmax":
        raise NotImplementedError("it has several outputs")
    return found


def of_xgboost_booster(raw: Any, rounds: int | None = None) -> Boosted:
    """The trees of a booster of XGBoost. ``rounds``: the first of them alone are asked.

    Raises:
        NotImplementedError: as for an estimator, but several outputs are known.
    """
    learner = json.loads(bytes(raw.save_raw("json")))["learner"]
    booster, drops = learner["gradient_booster"], None
    if booster["name"] == "dart":
        booster, drops = booster["gbtree"], booster["weight_drop"]
    elif booster["name"] != "gbtree":
        raise NotImplementedError(f"its booster is {booster['name']!r}")
    objective, about = learner["objective"]["name"], learner["learner_model_param"]
    link = _XGBOOST_LINKS.get(objective)
    if link is None:
        raise NotImplementedError(f"its objective is {objective!r}")
    targets = max(1, int(about["num_class"]), int(about.get("num_target", 1)))
    base = json.loads(about["base_score"])
    bases = base if isinstance(base, list) else [base]
    margins = [_margin(float(value), objective) for value in bases] * (targets // len(bases))
    model = booster["model"]
    kept = len(model["tree_info"])
    if rounds is not None:
        ends = model.get("iteration_indptr")
        kept = int(ends[rounds]) if ends else rounds * targets
    found = [
        _xgboost_tree(tree, owner)
        for tree, owner in zip(model["trees"][:kept], model["tree_info"][:kept], strict=True)
    ]
    if drops is not None:
        found = [
            _dropped(tree, margins[tree.target], weight)
            for tree, weight in zip(found, drops[:kept], strict=True)
        ]
    trees = [constant(value, at) for at, value in enumerate(margins)] + found
    return Boosted(trees=trees, targets=targets, mode=LESS, float32=True, link=link)


_XGBOOST_LINKS = {
    "reg:squarederror": "identity", "reg:absoluteerror": "identity",
    "reg:quantileerror": "identity", "reg:pseudohubererror": "identity",
    "reg:squaredlogerror": "identity", "rank:pairwise": "identity", "rank:ndcg": "identity",
    "rank:map": "identity", "binary:logitraw": "identity", "binary:hinge": "above",
    "binary:logistic": "sigmoid", "reg:logistic": "sigmoid", "multi:softprob": "softmax",
    "multi:softmax": "softmax", "count:poisson": "exp", "reg:gamma": "exp", "reg:tweedie": "exp",
    "survival:cox": "exp", "survival:aft": "exp",
}  # fmt: skip
_LOG_ODDS = {"binary:logistic", "reg:logistic"}


def _best_iteration(model: Any) -> int | None:
    try:
        return int(model.best_iteration) + 1
    except AttributeError:
        return None


def _margin(base: float, objective: str) -> float:
    """The base score as a raw score, as XGBoost makes it, in float32."""
    if objective in _LOG_ODDS:
        return float(-np.log(np.float32(1.0) / np.float32(base) - np.float32(1.0)))
    return float(np.log(np.float32(base))) if _XGBOOST_LINKS[objective] == "exp" else base


def _dropped(tree: Tree, margin: float, weight: float) -> Tree:
    """A tree of DART: what it answers beyond the base score, weighed, in float32."""
    base, leaves = np.float32(margin), tree.values.astype(np.float32)
    weighed = (leaves + base - base) * np.float32(weight)
    return replace(tree, values=weighed.astype(np.float64))


def _xgboost_tree(tree: dict[str, Any], target: int) -> Tree:
    if any(tree.get("split_type") or ()):
        raise NotImplementedError("a tree splits by categories")
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise NotImplementedError("a leaf of its trees holds several values")
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
    found = of_lightgbm_booster(model.booster_, getattr(model, "best_iteration_", None))
    if found.targets > 1 and found.link != "softmax":
        raise NotImplementedError("its classes are scored one by one")
    return found


def of_lightgbm_booster(raw: Any, rounds: int | None = None) -> Boosted:
    """The trees of a booster of LightGBM. ``rounds``: the first of them alone; else its best.

    Raises:
        NotImplementedError: as for an estimator, but classes scored one by one are known.
    """
    said = raw.dump_model(num_iteration=rounds or None)
    objective, *about = str(said.get("objective", "")).split() or [""]
    link = "squares" if "sqrt" in about else _LIGHTGBM_LINKS.get(objective)
    if link is None:
        raise NotImplementedError(f"its objective is {objective!r}")
    targets = int(said["num_tree_per_iteration"])
    trees = [
        _lightgbm_tree(tree["tree_structure"], at % targets)
        for at, tree in enumerate(said["tree_info"])
    ]
    slope = next((float(one[8:]) for one in about if one.startswith("sigmoid:")), 1.0)
    averaged = len(trees) // targets if said.get("average_output") else 1
    return Boosted(
        trees=trees, targets=targets, mode=LEQ, float32=False, link=link,
        averaged=max(1, averaged), slope=slope if link == "sigmoid" else 1.0,
    )  # fmt: skip


_LIGHTGBM_LINKS = {
    "": "identity",  # of the user's own objective raw scores are all that there is
    "regression": "identity", "regression_l1": "identity", "huber": "identity", "fair": "identity",
    "quantile": "identity", "mape": "identity", "lambdarank": "identity",
    "rank_xendcg": "identity", "binary": "sigmoid", "cross_entropy": "sigmoid",
    "multiclassova": "sigmoid", "multiclass": "softmax",
    "poisson": "exp", "gamma": "exp", "tweedie": "exp",
}  # fmt: skip


def _lightgbm_tree(root: dict[str, Any], target: int) -> Tree:
    rows: list[tuple[int, float, int, int, bool, float, bool]] = []

    def add(node: dict[str, Any]) -> int:
        at = len(rows)
        if node.get("leaf_coeff"):
            raise NotImplementedError("its leaves are linear models")
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
    if abs(threshold) >= _MOST:
        return float(np.copysign(np.inf, threshold))
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
