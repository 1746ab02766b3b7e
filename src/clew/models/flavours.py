"""Models of other libraries behind one face: ``predict`` and ``predict_proba`` of rows.

Knows how each library is asked, by its name alone, and imports it where it is asked. What is here
is pickled whole with the model (never by the name of this file), so that it needs no Clew where it
is loaded.
"""

from __future__ import annotations

import importlib
import inspect
import io
import itertools
import json
import sys
from typing import Any, TypeAlias

import cloudpickle
import numpy as np
import numpy.typing as npt

from clew.base.pickled import dumped_whole

Array: TypeAlias = npt.NDArray[Any]
Frame: TypeAlias = Any
"""A Polars frame."""

_LOOK_ROWS = 50


def matrix_of(rows: Any, kind: Any) -> Array:
    """Rows of a frame or an array as a matrix."""
    plain = rows.to_numpy() if hasattr(rows, "to_numpy") else rows
    return np.ascontiguousarray(np.asarray(plain), dtype=kind)


class TorchRaw:
    """A ``torch.nn.Module`` of float32 rows; of several inputs (``names``), a column is each.

    ``shaped``: how a column comes, once that is known: [rows, 1] or [rows].
    """

    def __init__(self, module: Any) -> None:
        self.module = module.eval().cpu()
        self.names = _arguments_of(module)
        self.whole: tuple[str, ...] = ()
        """Inputs that take whole numbers (an embedding's)."""
        self.shaped = (-1, 1)
        self.double = any(str(one.dtype) == "torch.float64" for one in module.parameters())
        """Whether it computes in float64."""

    def __call__(self, rows: Any) -> Array:
        """Its answers."""
        torch = importlib.import_module("torch")
        given = _given_to(self, rows)
        with torch.no_grad():
            found = self.module(*(torch.from_numpy(one) for one in given))
        if not hasattr(found, "detach"):
            raise TypeError(f"the net answers with a {type(found).__name__}, not with one tensor")
        return np.asarray(found.detach().numpy())

    def __getstate__(self) -> dict[str, Any]:
        if not hasattr(self.module, "save_to_buffer"):
            return self.__dict__
        return {**self.__dict__, "module": None, "script": bytes(self.module.save_to_buffer())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        script = state.pop("script", None)
        self.__dict__ = state
        if script is not None:  # TorchScript has a form of its own
            jit = importlib.import_module("torch").jit
            self.module = jit.load(io.BytesIO(script), map_location="cpu").eval()


def _arguments_of(module: Any) -> tuple[str, ...]:
    """The inputs of a module by name, where it has several that must be given."""
    forward = module.forward
    if hasattr(forward, "schema"):  # of TorchScript
        names = [one.name for one in forward.schema.arguments[1:] if not one.has_default_value()]
    else:
        known = inspect.signature(forward).parameters.values()
        names = [one.name for one in known if one.default is one.empty and one.kind < 2]
    return tuple(names) if len(names) > 1 else ()


def _given_to(raw: Any, rows: Any) -> list[Array]:
    """The arrays for a net: one matrix, or a column for each of its inputs."""
    number = np.float64 if raw.double else np.float32
    if not raw.names:
        return [matrix_of(rows, number)]
    found = []
    for at, name in enumerate(raw.names):
        named = hasattr(rows, "columns") and name in rows.columns
        values = rows[name].to_numpy() if named else np.asarray(rows)[:, at]
        kind = np.int64 if name in raw.whole else number
        found.append(np.ascontiguousarray(values, dtype=kind).reshape(raw.shaped))
    return found


def _learn_inputs(raw: Any, rows: Frame) -> None:
    """Find out how a net of several inputs takes its columns, by asking it."""
    whole = tuple(name for name in raw.names if rows.schema[name].is_integer())
    if isinstance(raw, KerasRaw):
        raw.whole = tuple(name for name in raw.names if raw.kinds[name].startswith("int"))
        return
    for raw.shaped, raw.whole in itertools.product(((-1, 1), (-1,)), (whole, ())):
        try:
            raw(rows)
        except Exception:  # noqa: BLE001, S112 - a net refuses in its own ways
            continue
        return


class KerasRaw:
    """A Keras model of one matrix, or of several inputs of one column each (``names``)."""

    shaped = (-1, 1)
    double = False

    def __init__(self, model: Any) -> None:
        self.model = model
        inputs = list(getattr(model, "inputs", None) or ())
        self.names = tuple(str(one.name) for one in inputs) if len(inputs) > 1 else ()
        self.kinds = {str(one.name): str(one.dtype) for one in inputs}
        self.whole: tuple[str, ...] = ()

    def __call__(self, rows: Any) -> Array:
        """Its answers."""
        given = _given_to(self, rows)
        asked = dict(zip(self.names, given, strict=True)) if self.names else given[0]
        found = self.model.predict(asked, verbose=0)
        if isinstance(found, list | tuple | dict):
            raise TypeError(f"the net answers with a {type(found).__name__}, not with one array")
        return np.asarray(found)


class XGBoostRaw:
    """A booster of XGBoost. ``form``: what its objective answers; '' where that is not known."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        self.names = tuple(booster.feature_names or ())
        learner = json.loads(booster.save_config())["learner"]
        objective = str(learner["objective"]["name"])
        self.form = _XGBOOST_FORMS.get(objective, "" if ":" not in objective else "values")
        self.count = int(learner["learner_model_param"].get("num_class", 0))
        self.margin = objective == "multi:softmax"  # which answers labels alone
        best = booster.attr("best_iteration")
        mine = booster.attr("scikit_learn")  # an estimator's file: it asks the best rounds alone
        self.rounds = int(best) + 1 if mine and best is not None else None

    def __call__(self, rows: Any) -> Array:
        """Its answers."""
        library = importlib.import_module("xgboost")
        data = library.DMatrix(
            matrix_of(rows, np.float32),
            feature_names=list(self.names) or None,
            feature_types=self.booster.feature_types,
            enable_categorical=True,
        )
        span = (0, self.rounds or 0)
        found = self.booster.predict(data, output_margin=self.margin, iteration_range=span)
        return np.asarray(found)


_XGBOOST_FORMS = {
    "binary:logistic": "score", "binary:hinge": "score", "binary:logitraw": "logit",
    "multi:softprob": "proba", "multi:softmax": "logits", "reg:logistic": "share",
}  # fmt: skip


class LightGBMRaw:
    """A booster of LightGBM. ``form``: what its objective answers; '' where that is not known."""

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        names = tuple(booster.feature_name())
        self.names = () if names == tuple(f"Column_{n}" for n in range(len(names))) else names
        said = booster.dump_model(num_iteration=1)
        objective = (str(said.get("objective", "")).split() or [""])[0]
        self.form = _LIGHTGBM_FORMS.get(objective, "values" if objective else "")
        self.count = int(said["num_class"])

    def __call__(self, rows: Any) -> Array:
        """Its answers."""
        return np.asarray(self.booster.predict(matrix_of(rows, np.float64)))


_LIGHTGBM_FORMS = {
    "binary": "score", "multiclass": "proba", "multiclassova": "proba", "cross_entropy": "share",
}  # fmt: skip


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
        named = hasattr(rows, "columns") and one.name in rows.columns
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
    """A model of numbers: one a row, or ``count``."""

    def __init__(self, raw: Any, names: tuple[str, ...], width: int, count: int = 1) -> None:
        self.raw = raw
        self.count = count
        self.n_features_in_ = width
        if names:
            self.feature_names_in_ = names

    def predict(self, rows: Any) -> Array:
        """[rows], or [rows, count]."""
        found: Array = self.raw(rows)
        flat = found.reshape(len(found), -1)
        return flat if self.count > 1 else flat[:, 0]


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
    ("keras.", "Model", KerasRaw),  # which is a module of PyTorch too, where that computes
    ("torch.nn.modules", "", TorchRaw),
    ("torch.jit", "", TorchRaw),
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
    names = _columns_for(raw.names, rows.columns)
    if not set(names) <= set(rows.columns) or (raw.names and not names and not _fit(raw, rows)):
        return Values(raw, raw.names, len(raw.names))  # whoever asks it says which are missing
    rows = rows.select(names) if names else rows
    if names and isinstance(raw, TorchRaw | KerasRaw):
        _learn_inputs(raw, rows)
    form = _form_of(raw, classes, task)
    if form in _KNOWN:
        known = max(2, int(getattr(raw, "count", 0)))
        found_classes = classes if len(classes) == known else tuple(range(known))
        return Classes(raw, names, rows.width, form, found_classes)
    if form:
        task = "regression"
    return _by_answers(raw, rows, names, classes, task)


def _by_answers(
    raw: Any, rows: Frame, names: tuple[str, ...], classes: tuple[Any, ...], task: str
) -> Any:
    """A model by the looks of what it answers."""
    width = rows.width
    try:
        found = np.asarray(raw(rows), dtype=np.float64)
    except Exception:  # noqa: BLE001 - whoever asks it next tells what it says
        return Values(raw, names, width)
    count = found.size // max(1, len(found))
    wide = count > 1
    if task == "regression":
        return Values(raw, names, width, count)
    if not wide and task == "auto" and len(classes) != 2:
        return Values(raw, names, width)
    inside = bool(((found >= 0) & (found <= 1)).all())
    if not wide:
        two = classes if len(classes) == 2 else (0, 1)
        return Classes(raw, names, width, "score" if inside else "logit", two)
    shares = inside and bool(np.allclose(found.sum(axis=1), 1, atol=1e-3))
    many = classes if len(classes) == found.shape[1] else tuple(range(found.shape[1]))
    return Classes(raw, names, width, "proba" if shares else "logits", many)


def _fit(raw: Any, rows: Frame) -> bool:
    """Whether columns of other names can be meant by their order."""
    return len(raw.names) == int(rows.width)


_KNOWN = {"score", "logit", "proba", "logits"}


def _form_of(raw: Any, classes: tuple[Any, ...], task: str) -> str:
    """What a model answers, where its library says so; '' where its answers must tell."""
    form = str(getattr(raw, "form", ""))
    if task == "regression":
        return "values" if form else ""
    if form == "share":  # of a target between 0 and 1: a class where there are two
        return "score" if task == "binary" or len(classes) == 2 else "values"
    return "" if form == "values" and task != "auto" else form


def _columns_for(names: tuple[str, ...], columns: Any) -> tuple[str, ...]:
    """The columns that a model's own names mean; none where it has none, or other names at all.

    LightGBM writes a space in a name as an underscore.
    """
    told = {column.replace(" ", "_"): column for column in columns} | {one: one for one in columns}
    found = tuple(told.get(name, name) for name in names)
    return found if set(found) & set(columns) else ()


def dumped(model: Any) -> bytes:
    """A pickle of a model that holds the code of this file and of the user's, if it needs any."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    try:
        return dumped_whole(model, "")
    finally:
        cloudpickle.unregister_pickle_by_value(here)
