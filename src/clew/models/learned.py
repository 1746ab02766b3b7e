"""What a trained object has learned, in short: coefficients, splits of trees, layers, arrays.

Knows the shapes of scikit-learn, XGBoost, LightGBM, Keras and PyTorch by what their objects have,
and imports none of them; of any other object it looks at the attributes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np

from clew.base.records.cards import Coefficient, FeatureSplits, Learned, Tensor

MOST = 100
"""So many tensors, coefficients and features are named one by one."""

_DEPTH = 6
_TREES = 5000
_PIECE = 1 << 22
_LEAF = -1


def learned_by(model: Any, features: Sequence[str]) -> Learned:
    """A summary of what ``model`` learned; ``features`` are its inputs, in order.

    It looks at attributes alone: nothing is asked of the model, and nothing is changed.
    """
    return _Look(features).of(model)


class _Look:
    """One walk over an object."""

    def __init__(self, features: Sequence[str]) -> None:
        self._features = list(features)
        self._seen: set[int] = set()
        self._facts: dict[str, float] = {}
        self._tensors: list[Tensor] = []
        self._coefficients: list[Coefficient] = []
        self._splits: dict[str, tuple[int, float | None]] = {}
        self._count = 0
        self._network = False

    def of(self, model: Any) -> Learned:
        """The summary."""
        self._walk(model, "", 0)
        coefficients = sorted(self._coefficients, key=lambda one: -abs(one.value))
        splits = sorted(self._splits.items(), key=lambda one: (-one[1][0], one[0]))
        rest = (len(self._tensors), len(coefficients), len(splits))
        by = (
            "linear" if coefficients
            else "trees" if splits or "trees" in self._facts
            else "network" if self._network
            else "arrays" if self._tensors
            else "nothing"
        )  # fmt: skip
        return Learned(
            kind=_name_of(model),
            by=by,
            count=self._count,
            facts={name: value for name, value in self._facts.items() if math.isfinite(value)},
            tensors=tuple(self._tensors[:MOST]),
            coefficients=tuple(coefficients[:MOST]),
            splits=tuple(
                FeatureSplits(feature=name, splits=n, gain=gain)
                for name, (n, gain) in splits[:MOST]
            ),
            left_out=sum(max(0, number - MOST) for number in rest),
        )

    def _walk(self, one: Any, path: str, depth: int) -> None:
        if id(one) in self._seen or depth > _DEPTH or isinstance(one, type):
            return
        self._seen.add(id(one))
        if callable(getattr(one, "get_weights", None)) and hasattr(one, "layers"):
            self._keras(one, path)  # which may be a module of PyTorch too
        elif callable(getattr(one, "state_dict", None)) and _is(one, "torch"):
            self._module(one, path)
        elif _is(one, "xgboost") and hasattr(one, "get_score"):
            self._xgboost(one)
        elif _is(one, "lightgbm") and hasattr(one, "feature_importance"):
            self._lightgbm(one)
        elif hasattr(one, "tree_") and hasattr(one.tree_, "children_left"):
            self._tree(one.tree_)
        elif hasattr(one, "get_params"):
            self._estimator(one, path, depth)
        elif hasattr(one, "__dict__"):
            self._parts(vars(one), path, depth)

    # kinds ----------------------------------------------------------------------------------

    def _estimator(self, one: Any, path: str, depth: int) -> None:
        """What scikit-learn's way of writing says: learned attributes end in ``_``."""
        if hasattr(one, "get_booster"):  # XGBoost
            self._walk(one.get_booster(), path, depth + 1)
            return
        if hasattr(one, "booster_"):  # LightGBM
            self._walk(one.booster_, path, depth + 1)
            return
        if hasattr(one, "steps"):
            self._pipeline(one, path, depth)
            return
        self._network |= isinstance(getattr(one, "coefs_", None), list)  # of a perceptron
        if hasattr(one, "_predictors"):
            self._histograms(one._predictors)
        found = {
            name: value
            for name, value in vars(one).items()
            if name.endswith("_") and not name.startswith("_") and name not in _NOT_LEARNED
        }
        if getattr(one, "coef_", None) is not None and not isinstance(one.coef_, list):
            self._linear(one)
        self._parts(found, path, depth)

    def _pipeline(self, one: Any, path: str, depth: int) -> None:
        outer = self._features
        for number, (name, step) in enumerate(one.steps):
            if number:
                self._features = _names_after(one, number, outer)
            self._walk(step, _join(path, name), depth + 1)
        self._features = outer

    def _parts(self, found: Mapping[str, Any], path: str, depth: int) -> None:
        for name, value in found.items():
            self._part(_join(path, str(name)), value, depth)

    def _part(self, path: str, value: Any, depth: int) -> None:
        if isinstance(value, bool | str | bytes) or value is None:
            return
        if isinstance(value, int | float | np.number):
            self._facts[path] = float(value)
        elif isinstance(value, np.ndarray) and value.dtype == object:
            self._several(path, value.ravel(), depth)
        elif _is_array(value):
            self._array(path, value)
        elif isinstance(value, Mapping):
            self._parts(dict(islice(value.items(), _TREES)), path, depth + 1)
        elif isinstance(value, list | tuple):
            self._several(path, value, depth)
        elif hasattr(value, "__dict__"):
            self._walk(value, path, depth + 1)

    def _several(self, path: str, values: Any, depth: int) -> None:
        values = list(islice(values, _TREES))
        if values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            self._array(path, np.asarray(values, dtype=np.float64))
            return
        for number, one in enumerate(values):
            self._part(f"{path}[{number}]", one, depth + 1)

    def _linear(self, one: Any) -> None:
        weights = np.atleast_2d(_numbers(one.coef_))
        if weights.ndim != 2 or weights.shape[1] != len(self._features):
            return
        classes = [str(label) for label in getattr(one, "classes_", ())]
        outputs = classes if len(classes) == len(weights) else [""] * len(weights)
        if len(weights) > 1 and not any(outputs):
            outputs = [str(number) for number in range(len(weights))]
        self._coefficients += [
            Coefficient(feature=name, value=float(value), output=output)
            for output, row in zip(outputs, weights, strict=True)
            for name, value in zip(self._features, row, strict=True)
            if math.isfinite(value)
        ]

    def _tree(self, tree: Any) -> None:
        inner = tree.feature[tree.children_left != _LEAF]
        self._grow(len(tree.feature), len(inner), int(tree.max_depth))
        for feature, count in enumerate(np.bincount(inner)) if len(inner) else ():
            self._split(self._feature(feature), int(count))

    def _histograms(self, predictors: Any) -> None:
        """The trees of scikit-learn's histogram boosting."""
        for tree in (tree for stage in predictors for tree in stage):
            nodes = tree.nodes
            inner = nodes[nodes["is_leaf"] == 0]
            self._grow(len(nodes), len(inner), int(nodes["depth"].max(initial=0)))
            for feature in np.unique(inner["feature_idx"]):
                mine = inner[inner["feature_idx"] == feature]
                self._split(self._feature(int(feature)), len(mine), float(mine["gain"].sum()))

    def _xgboost(self, booster: Any) -> None:
        self._facts["rounds"] = float(booster.num_boosted_rounds())
        weights = booster.get_score(importance_type="weight")
        if not _has_trees(booster):
            for name, given in weights.items():
                values = given if isinstance(given, list) else [given]
                self._coefficients += [
                    Coefficient(feature=self._named(name), value=float(value)) for value in values
                ]
                self._count += len(values)
            return
        if _is_small(booster):
            self._facts["trees"] = float(len(booster.get_dump()))
        gains = booster.get_score(importance_type="total_gain")
        for name, count in weights.items():
            self._split(self._named(name), int(count), float(gains.get(name, 0.0)))
            self._count += int(count)

    def _lightgbm(self, booster: Any) -> None:
        self._facts["trees"] = float(booster.num_trees())
        self._facts["rounds"] = float(booster.current_iteration())
        gains = booster.feature_importance("gain")
        splits = booster.feature_importance("split")
        for at, (count, gain) in enumerate(zip(splits, gains, strict=True)):
            if count:
                self._split(self._feature(at), int(count), float(gain))
        self._count += int(np.sum(splits))

    def _keras(self, model: Any, path: str) -> None:
        self._network = True
        for weight in model.weights:
            self._array(_join(path, str(getattr(weight, "path", weight.name))), weight)
        self._facts[_join(path, "layers")] = float(len(model.layers))

    def _module(self, module: Any, path: str) -> None:
        self._network = True
        layers = 0
        for name, value in module.state_dict().items():
            self._array(_join(path, name), value)
            layers += name.endswith("weight")
        self._facts[_join(path, "layers")] = float(layers)

    # noting ---------------------------------------------------------------------------------

    def _array(self, path: str, value: Any) -> None:
        numbers = _numbers(value)
        if numbers.dtype.kind not in "fiu" or not numbers.size:
            return
        self._count += numbers.size
        norm, mean, std, low, high = _looks(numbers)
        self._tensors.append(
            Tensor(
                name=path, shape=tuple(map(int, numbers.shape)),
                norm=norm, mean=mean, std=std, low=low, high=high,
            )
        )  # fmt: skip

    def _grow(self, nodes: int, inner: int, depth: int) -> None:
        self._count += nodes
        facts = self._facts
        facts["trees"] = facts.get("trees", 0.0) + 1
        facts["nodes"] = facts.get("nodes", 0.0) + nodes
        facts["leaves"] = facts.get("leaves", 0.0) + nodes - inner
        facts["deepest"] = max(facts.get("deepest", 0.0), depth)

    def _split(self, feature: str, count: int, gain: float | None = None) -> None:
        splits, before = self._splits.get(feature, (0, None))
        total = before if gain is None else (before or 0.0) + gain
        self._splits[feature] = (splits + count, total)

    def _feature(self, number: int) -> str:
        return self._features[number] if number < len(self._features) else f"feature {number}"

    def _named(self, name: str) -> str:
        """A booster that was fitted without names calls its features f0, f1, …"""
        known = name in self._features
        numbered = name[:1] == "f" and name[1:].isdigit()
        return self._feature(int(name[1:])) if numbered and not known else name


_NOT_LEARNED = {"n_features_in_", "feature_names_in_", "classes_", "n_outputs_", "n_classes_"}


def _names_after(pipeline: Any, number: int, before: Sequence[str]) -> list[str]:
    """Features as they come to a step of a pipeline; none where the steps do not say."""
    for given in ((list(before),), ()):
        with suppress(Exception):  # a transformer of the user's need not know them
            return [str(name) for name in pipeline[:number].get_feature_names_out(*given)]
    return []


def own_importances(
    model: Any, features: Sequence[str], deviations: Mapping[str, float]
) -> tuple[str, dict[str, float]]:
    """What a model itself says of its features: by what, and value by name; ('', {}) for nothing.

    Linear models: the size of each coefficient times ``deviations`` (standard deviation of the
    feature in the training rows; 1 where it is not known), the largest of all outputs.
    """
    last, names = _last(model, list(features))
    own = getattr(last, "feature_importances_", None)
    if own is not None and len(own) == len(names):
        return "feature_importances_", dict(zip(names, map(float, own), strict=True))
    found = learned_by(last, names)
    if found.by == "linear":
        sizes: dict[str, float] = {}
        for one in found.coefficients:
            size = abs(one.value) * deviations.get(one.feature, 1.0)
            sizes[one.feature] = max(size, sizes.get(one.feature, 0.0))
        return "coefficient x standard deviation", sizes
    gains = {one.feature: one.gain for one in found.splits if one.gain is not None}
    if gains:
        return "gain", gains
    return ("splits", {one.feature: float(one.splits) for one in found.splits}) if (
        found.splits
    ) else ("", {})  # fmt: skip


def _last(model: Any, names: list[str]) -> tuple[Any, list[str]]:
    """The estimator at the end of a pipeline, and what its features are called there."""
    while hasattr(model, "steps") and len(model.steps) > 1:
        names = _names_after(model, len(model.steps) - 1, names)
        model = model.steps[-1][1]
    return model, names


def settings_of(model: Any) -> dict[str, str]:
    """What an estimator says of its settings, as text; nothing where it says nothing."""
    if not callable(getattr(model, "get_params", None)) or isinstance(model, type):
        return {}
    return {str(name): _short(value) for name, value in sorted(model.get_params().items())}


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:199]}…"


def _name_of(model: Any) -> str:
    kind = type(model)
    steps = getattr(model, "steps", None)
    inner = f" of {' → '.join(type(step).__name__ for _, step in steps)}" if steps else ""
    return f"{kind.__module__}.{kind.__qualname__}{inner}"


def _is(one: Any, library: str) -> bool:
    return any(base.__module__.partition(".")[0] == library for base in type(one).__mro__)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_small(booster: Any) -> bool:
    return int(booster.num_boosted_rounds()) <= _TREES // 10


def _has_trees(booster: Any) -> bool:
    return '"gblinear"' not in str(booster.save_config())


def _numbers(value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """An array of any library as NumPy's; empty where it is none of plain numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    if hasattr(value, "toarray"):
        value = value.data  # sparse: what is there
    try:
        return np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except (TypeError, ValueError, RuntimeError):
        return np.empty(0)


def _looks(numbers: np.ndarray[Any, np.dtype[Any]]) -> tuple[float | None, ...]:
    """Norm, mean, deviation, least and most of the finite numbers; piece by piece, as an array may
    be as large as the memory allows.
    """
    flat = numbers.reshape(-1)
    count, total, squares, low, high = 0, 0.0, 0.0, math.inf, -math.inf
    for start in range(0, len(flat), _PIECE):
        piece = flat[start : start + _PIECE].astype(np.float64)
        piece = piece[np.isfinite(piece)]
        if len(piece):
            count, total = count + len(piece), total + float(piece.sum())
            squares += float(piece @ piece)
            low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    if not count:
        return (None,) * 5
    mean = total / count
    deviation = math.sqrt(max(0.0, squares / count - mean * mean))
    return tuple(_finite(one) for one in (math.sqrt(squares), mean, deviation, low, high))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def deviations_of(profile: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The standard deviation of each numeric column of a profile."""
    for name, column in profile.get("columns", {}).items():
        if column.get("std") is not None:
            yield name, float(column["std"])
