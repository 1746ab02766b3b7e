"""Models of other libraries behind one face: ``predict`` and ``predict_proba`` of rows.

Knows how each library is asked, by its name alone, and imports it where it is asked. What is here
is pickled whole with the model (never by the name of this file), so that it needs no Clew where it
is loaded.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, TypeAlias

import cloudpickle
import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Frame: TypeAlias = Any
"""A Polars frame."""

_LOOK_ROWS = 50


def matrix_of(rows: Any, kind: Any) -> Array:
    """Rows of a frame or an array as a matrix."""
    plain = rows.to_numpy() if hasattr(rows, "to_numpy") else rows
    return np.ascontiguousarray(np.asarray(plain), dtype=kind)


class TorchRaw:
    """A ``torch.nn.Module`` of float32 rows."""

    def __init__(self, module: Any) -> None:
        self.module = module.eval().cpu()
        self.names: tuple[str, ...] = ()

    def __call__(self, rows: Any) -> Array:
        """Its answers."""
        torch = importlib.import_module("torch")
        with torch.no_grad():
            found = self.module(torch.from_numpy(matrix_of(rows, np.float32)))
        return np.asarray(found.detach().numpy())


class KerasRaw:
    """A Keras model of one matrix."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.names: tuple[str, ...] = ()

    def __call__(self, rows: Any) -> Array:
        """Its answers."""
        return np.asarray(self.model.predict(matrix_of(rows, np.float32), verbose=0))


class XGBoostRaw:
    """A booster of XGBoost."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        self.names = tuple(booster.feature_names or ())

    def __call__(self, rows: Any) -> Array:
        """Its answers."""
        library = importlib.import_module("xgboost")
        names = list(self.names) or None
        data = library.DMatrix(matrix_of(rows, np.float32), feature_names=names)
        return np.asarray(self.booster.predict(data))


class LightGBMRaw:
    """A booster of LightGBM."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        names = tuple(booster.feature_name())
        self.names = () if names == tuple(f"Column_{n}" for n in range(len(names))) else names

    def __call__(self, rows: Any) -> Array:
        """Its answers."""
        return np.asarray(self.booster.predict(matrix_of(rows, np.float64)))


class OnnxRaw:
    """A model in ONNX: one matrix, or one input of shape [rows, 1] for each column.

    Where it gives labels and probabilities, the probabilities are its answers.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._session: Any = None
        session = self.session
        inputs = session.get_inputs()
        self.names = tuple(one.name for one in inputs) if len(inputs) > 1 else ()
        self.width = None if self.names else _width_of(inputs[0])
        outputs = session.get_outputs()
        scores = [one.name for one in outputs if "float" in one.type or "double" in one.type]
        scores += [one.name for one in outputs if one.type.startswith("seq(map")]
        self.output = scores[0] if scores else outputs[0].name

    @property
    def session(self) -> Any:
        """The session, opened where it is first asked."""
        if self._session is None:
            library = importlib.import_module("onnxruntime")
            options = library.SessionOptions()
            options.intra_op_num_threads = 1
            self._session = library.InferenceSession(
                self.content, options, providers=["CPUExecutionProvider"]
            )
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}

    def __call__(self, rows: Any) -> Array:
        """Its answers."""
        inputs = self.session.get_inputs()
        if self.names:
            given = {one.name: self._column(rows, one) for one in inputs}
        else:
            given = {inputs[0].name: matrix_of(rows, _numpy_of(inputs[0].type))}
        found = self.session.run([self.output], given)[0]
        if isinstance(found, list):  # a map from class to probability for each row
            return np.array([list(row.values()) for row in found])
        return np.asarray(found)

    def _column(self, rows: Any, one: Any) -> Array:
        kind = _numpy_of(one.type)
        named = hasattr(rows, "columns")
        values = rows[one.name] if named else np.asarray(rows)[:, self.names.index(one.name)]
        plain = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
        return (plain.astype(str).astype(object) if kind is object else plain.astype(kind)).reshape(
            -1, 1
        )


def _numpy_of(kind: str) -> Any:
    names: dict[str, Any] = {"tensor(double)": np.float64, "tensor(int64)": np.int64}
    names |= {"tensor(int32)": np.int32, "tensor(string)": object, "tensor(bool)": np.bool_}
    return names.get(kind, np.float32)


def _width_of(one: Any) -> int | None:
    shape = one.shape
    return shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None


class Values:
    """A model of numbers."""

    def __init__(self, raw: Any, names: tuple[str, ...], width: int) -> None:
        self.raw = raw
        self.n_features_in_ = width
        if names:
            self.feature_names_in_ = names

    def predict(self, rows: Any) -> Array:
        """One number a row."""
        found: Array = self.raw(rows)
        return found.reshape(len(found), -1)[:, 0]


class Classes:
    """A model of classes. ``form``: what it answers: ``score`` (of the second class), ``logit``,
    ``proba`` or ``logits`` (of all classes).
    """

    def __init__(
        self, raw: Any, names: tuple[str, ...], width: int, form: str, classes: tuple[Any, ...]
    ) -> None:
        self.raw = raw
        self.form = form
        self.classes_ = np.array(classes)
        self.n_features_in_ = width
        if names:
            self.feature_names_in_ = names

    def predict_proba(self, rows: Any) -> Array:
        """[rows, classes]."""
        found = np.asarray(self.raw(rows), dtype=np.float64)
        if self.form in {"score", "logit"}:
            one = found.reshape(len(found), -1)[:, 0]
            one = 1 / (1 + np.exp(-one)) if self.form == "logit" else one
            return np.column_stack([1 - one, one])
        if self.form == "logits":
            found = np.exp(found - found.max(axis=1, keepdims=True))
            found /= found.sum(axis=1, keepdims=True)
        return found

    def predict(self, rows: Any) -> Array:
        """The most probable class."""
        best: Array = self.classes_[self.predict_proba(rows).argmax(axis=1)]
        return best


def raw_of(model: Any) -> Any:
    """What asks a model of a library that has its own way; None for all others."""
    kinds = [(one.__module__ or "", one.__name__) for one in type(model).__mro__]
    for start, name, ask in _WAYS:
        if any(module.startswith(start) and name in {"", known} for module, known in kinds):
            return ask(model)
    return None


_WAYS: tuple[tuple[str, str, Any], ...] = (
    ("torch.nn.modules", "", TorchRaw),
    ("torch.jit", "", TorchRaw),
    ("keras.", "Model", KerasRaw),
    ("xgboost.core", "Booster", XGBoostRaw),
    ("lightgbm.basic", "Booster", LightGBMRaw),
    ("onnx", "ModelProto", lambda model: OnnxRaw(model.SerializeToString())),
)
"""Where the class of a model (or of what it is made from) stands, its name, and who asks it."""


def adapted(model: Any, sample: Frame, classes: tuple[Any, ...] = (), task: str = "auto") -> Any:
    """A model that ``predict`` asks with rows; the model itself where it is one already.

    Args:
        model: Of any library.
        sample: Rows (Polars) as it takes them, to see what it answers.
        classes: The values of the target in their order, where it has few.
        task: auto, binary, multiclass or regression.
    """
    raw = model if isinstance(model, OnnxRaw) else raw_of(model)
    if raw is None:
        return model
    rows = sample.head(_LOOK_ROWS)
    names = raw.names if set(raw.names) <= set(rows.columns) else ()
    rows = rows.select(names) if names else rows
    found = np.asarray(raw(rows), dtype=np.float64)
    width = rows.width
    wide = found.ndim == 2 and found.shape[1] > 1
    if task == "regression" or (not wide and task == "auto" and len(classes) != 2):
        return Values(raw, names, width)
    inside = bool(((found >= 0) & (found <= 1)).all())
    if not wide:
        two = classes if len(classes) == 2 else (0, 1)
        return Classes(raw, names, width, "score" if inside else "logit", two)
    shares = inside and bool(np.allclose(found.sum(axis=1), 1, atol=1e-3))
    many = classes if len(classes) == found.shape[1] else tuple(range(found.shape[1]))
    return Classes(raw, names, width, "proba" if shares else "logits", many)


def dumped(model: Any) -> bytes:
    """A pickle of a model that holds the code of this file, if it needs any."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    try:
        content: bytes = cloudpickle.dumps(model)
        return content
    finally:
        cloudpickle.unregister_pickle_by_value(here)
