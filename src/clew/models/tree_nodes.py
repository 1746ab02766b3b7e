"""Trees of an ensemble as ONNX has them, in float64, so that every sum is the original's own.

Knows numpy alone: attributes come out as plain arrays. The order of the trees is kept, since the
order of additions decides ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from clew.models.frames import Array

LEQ, LESS = 0, 1
"""How a node compares: the value goes left where it is at most, or below, the threshold."""


class Tree(Struct, frozen=True, kw_only=True):
    """One tree. Arrays have one entry a node; ``left`` and ``right`` name nodes by place.

    ``values``: [nodes] of a leaf, or [nodes, classes]. ``missing_left``: where NaN goes.
    ``target``: the output that the leaves add to (where there is one value a leaf).
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    leaf: Array
    values: Array
    missing_left: Array
    target: int = 0


def constant(value: float, target: int = 0) -> Tree:
    """A tree of one leaf. In front of others it makes the sum begin where the original's does."""
    zero = np.zeros(1, dtype=np.int64)
    return Tree(
        feature=zero,
        threshold=np.zeros(1),
        left=zero,
        right=zero,
        leaf=np.ones(1, dtype=bool),
        values=np.array([value]),
        missing_left=np.zeros(1, dtype=bool),
        target=target,
    )


def of_sklearn(tree: Any, scale: float = 1.0, target: int = 0, *, classes: bool = False) -> Tree:
    """A fitted ``tree_`` of scikit-learn; ``classes``: a leaf has a value for each class."""
    values = tree.value[:, 0, :] if classes else tree.value[:, 0, 0] * scale
    return Tree(
        feature=tree.feature.astype(np.int64),
        threshold=tree.threshold.astype(np.float64),
        left=tree.children_left.astype(np.int64),
        right=tree.children_right.astype(np.int64),
        leaf=tree.children_left == -1,
        values=values.astype(np.float64),
        missing_left=_missing_left(tree),
        target=target,
    )


def _missing_left(tree: Any) -> Array:
    found = tree.__getstate__()["nodes"]
    names = found.dtype.names or ()
    if "missing_go_to_left" not in names:
        return np.zeros(len(found), dtype=bool)
    return np.asarray(found["missing_go_to_left"]).astype(bool)


def of_histogram(nodes: Any, target: int = 0) -> Tree:
    """A predictor's nodes of scikit-learn's histogram gradient boosting.

    Raises:
        NotImplementedError: a node splits by categories.
    """
    if nodes["is_categorical"].any():
        raise NotImplementedError("a tree splits by categories")
    return Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        leaf=nodes["is_leaf"].astype(bool),
        values=nodes["value"].astype(np.float64),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        target=target,
    )


def ensemble(trees: Sequence[Tree], targets: int, *, mode: int = LEQ) -> dict[str, Any]:
    """Attributes of ``TreeEnsemble`` (ai.onnx.ml 5): each leaf adds one value to one target.

    ``nodes_splits`` and ``leaf_weights`` are arrays; who writes the node gives them their type.
    """
    parts: dict[str, list[Array]] = {name: [] for name in _NODES}
    weights: list[Array] = []
    owners: list[Array] = []
    roots: list[int] = []
    nodes = leaves = 0
    for tree in trees:
        roots.append(nodes)
        count = int(tree.leaf.sum())
        inner = ~tree.leaf
        for name, values in _inner(tree, nodes, leaves).items():
            parts[name].append(values)
        weights.append(tree.values[tree.leaf])
        owners.append(np.full(count, tree.target))
        nodes += max(1, int(inner.sum()))
        leaves += count
    found: dict[str, Any] = {name: np.concatenate(values) for name, values in parts.items()}
    modes = np.full(nodes, mode, dtype=np.uint8)
    return found | {
        "nodes_modes": modes,
        "leaf_weights": np.concatenate(weights),
        "leaf_targetids": np.concatenate(owners),
        "tree_roots": np.array(roots),
        "n_targets": targets,
        "aggregate_function": 1,
        "post_transform": 0,
    }


_NODES = (
    "nodes_featureids", "nodes_splits", "nodes_truenodeids", "nodes_falsenodeids",
    "nodes_trueleafs", "nodes_falseleafs", "nodes_missing_value_tracks_true",
)  # fmt: skip


def _inner(tree: Tree, nodes: int, leaves: int) -> dict[str, Array]:
    """The inner nodes of one tree, their children numbered among all nodes and leaves so far."""
    inner = ~tree.leaf
    if not inner.any():  # a single leaf: both branches of one node lead to it
        zero, one = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
        at = np.array([leaves])
        return dict(zip(_NODES, (zero, np.zeros(1), at, at, one, one, zero), strict=True))
    number = np.where(tree.leaf, np.cumsum(tree.leaf) - 1 + leaves, np.cumsum(inner) - 1 + nodes)
    left, right = tree.left[inner], tree.right[inner]
    values = (
        tree.feature[inner],
        tree.threshold[inner],
        number[left],
        number[right],
        tree.leaf[left].astype(np.int64),
        tree.leaf[right].astype(np.int64),
        tree.missing_left[inner].astype(np.int64),
    )
    return dict(zip(_NODES, values, strict=True))


def votes(trees: Sequence[Tree]) -> dict[str, Any]:
    """Attributes of ``TreeEnsembleClassifier`` (ai.onnx.ml 3) without labels: a leaf adds a value
    to each class. Its sums are of float64, and the label is the class of the largest.
    """
    numbers = [np.full(len(tree.leaf), at) for at, tree in enumerate(trees)]
    places = [np.arange(len(tree.leaf)) for tree in trees]
    leaf = np.concatenate([tree.leaf for tree in trees])
    branch = np.where(leaf, 0, 1)
    found: dict[str, Any] = {
        "nodes_treeids": np.concatenate(numbers),
        "nodes_nodeids": np.concatenate(places),
        "nodes_featureids": branch * np.concatenate([tree.feature for tree in trees]),
        "nodes_values_as_tensor": branch * np.concatenate([tree.threshold for tree in trees]),
        "nodes_truenodeids": branch * np.concatenate([tree.left for tree in trees]),
        "nodes_falsenodeids": branch * np.concatenate([tree.right for tree in trees]),
        "nodes_missing_value_tracks_true": branch
        * np.concatenate([tree.missing_left for tree in trees]).astype(np.int64),
        "nodes_modes": ["LEAF" if one else "BRANCH_LEQ" for one in leaf],
    }
    classes = trees[0].values.shape[1]
    owners = found["nodes_treeids"][leaf], found["nodes_nodeids"][leaf]
    weights = np.concatenate([tree.values[tree.leaf] for tree in trees])
    return found | {
        "class_treeids": np.repeat(owners[0], classes),
        "class_nodeids": np.repeat(owners[1], classes),
        "class_ids": np.tile(np.arange(classes), len(weights)),
        "class_weights_as_tensor": weights.ravel(),
        "post_transform": "NONE",
    }


def thresholds(trees: Sequence[Tree]) -> list[tuple[int, float]]:
    """Each pair of feature and threshold once, in order."""
    pairs = {
        (int(feature), float(value))
        for tree in trees
        for feature, value in zip(tree.feature[~tree.leaf], tree.threshold[~tree.leaf], strict=True)
    }
    return sorted(pairs)
