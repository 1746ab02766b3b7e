"""An estimator of scikit-learn, XGBoost or LightGBM as an ONNX graph in float64.

The only file that knows ONNX and skl2onnx; it runs in workers alone. Knows no rows and no store:
whether a graph answers as the estimator does is for ``parity``.

skl2onnx converts what it knows. Ensembles of trees are written here instead: theirs add weights
that were divided first, in float32, so that ties of votes fall otherwise; ours add what the
original adds, in its order and in float64 (XGBoost's in float32, as it does itself).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from clew.base.errors import Unavailable
from clew.models.boosted import Boosted, of_lightgbm, of_xgboost
from clew.models.frames import Array
from clew.models.tree_nodes import LEQ, Tree, constant, ensemble, of_histogram, of_sklearn, votes

OPSET, ML_OPSET = 18, 5
_LINEAR = "sklearn.linear_model"
Converter = Callable[[Any, Any, Any], None]
_FORESTS = ("RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier")
_MEANS = ("RandomForestRegressor", "ExtraTreesRegressor", "DecisionTreeRegressor")


class Input(Struct, frozen=True, kw_only=True):
    """One input of a graph. ``kind``: text, float64, int64 or bool; ``width`` columns of it."""

    name: str
    kind: str
    width: int = 1


def graph_of(model: Any, inputs: Sequence[Input]) -> tuple[bytes, tuple[str, ...]]:
    """The graph of an estimator, and the names of its outputs: labels, then scores; or values.

    Raises:
        Unavailable: ``extra.missing`` without skl2onnx.
        Exception: whatever says that there is no converter for a part of it.
    """
    library = _library()
    converters = _converters()
    _register(library, converters)

    def convert(options: dict[int, Any] | None) -> Any:
        return library.convert_sklearn(
            model,
            name="clew",
            initial_types=[(one.name, _type_of(one)) for one in inputs],
            target_opset={"": OPSET, "ai.onnx.ml": 3},
            custom_conversion_functions={kind: write for kind, (write, _) in converters.items()},
            custom_shape_calculators={kind: shape for kind, (_, shape) in converters.items()},
            options=options,
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = convert({id(model): {"zipmap": False}} if hasattr(model, "classes_") else None)
        except NameError:  # a classifier whose scores are no map to begin with has no such option
            made = convert(None)
    _raise_opset(made)
    names = tuple(output.name for output in made.graph.output)
    return made.SerializeToString(deterministic=True), names


def _library() -> Any:
    try:
        importlib.import_module("onnx.helper")
        return importlib.import_module("skl2onnx")
    except ModuleNotFoundError as error:
        raise Unavailable(
            "extra.missing",
            f"Converting a model needs {error.name}, which is not installed.",
            hint='Install it: pip install "clew[standard]"',
        ) from None


def _type_of(one: Input) -> Any:
    types = importlib.import_module("skl2onnx.common.data_types")
    kinds = {
        "text": types.StringTensorType,
        "float64": types.DoubleTensorType,
        "int64": types.Int64TensorType,
        "bool": types.BooleanTensorType,
    }
    return kinds[one.kind]([None, one.width])


def _raise_opset(made: Any) -> None:
    """``TreeEnsemble`` came with version 5 of its domain, of which skl2onnx does not know yet."""
    if any(node.op_type == "TreeEnsemble" for node in made.graph.node):
        for one in made.opset_import:
            if one.domain == "ai.onnx.ml":
                one.version = ML_OPSET


def _converters() -> dict[type, tuple[Converter, Callable[[Any], None]]]:
    """Class → how it is written, and how the shapes of its outputs are found."""
    ensembles = importlib.import_module("sklearn.ensemble")
    trees = importlib.import_module("sklearn.tree")
    shapes = importlib.import_module("skl2onnx.common.shape_calculator")
    of_labels = _in_float64(shapes.calculate_linear_classifier_output_shapes, 1)
    of_values = _in_float64(shapes.calculate_linear_regressor_output_shapes, 0)
    rooms = (ensembles, trees)
    found: dict[type, tuple[Converter, Callable[[Any], None]]] = {}
    for name in _FORESTS:
        found[_class(rooms, name)] = (_write_votes, of_labels)
    for name in _MEANS:
        found[_class(rooms, name)] = (_write_means, of_values)
    for name in ("LinearSVC", "RidgeClassifier", "RidgeClassifierCV"):
        rooms = (importlib.import_module("sklearn.svm"), importlib.import_module(_LINEAR))
        found[_class(rooms, name)] = (_write_decision, of_labels)
    imputing = importlib.import_module("sklearn.impute").SimpleImputer
    found[imputing] = (_write_filled, _shape_filled)
    for kind, read in _boosters(ensembles).items():
        classifies = hasattr(kind, "predict_proba")
        write = _write_scores(read) if classifies else _write_values(read)
        found[kind] = (write, of_labels if classifies else of_values)
    return found


def _register(
    library: Any, converters: dict[type, tuple[Converter, Callable[[Any], None]]]
) -> None:
    """Tell skl2onnx of classifiers of other libraries: it asks its own list for their options."""
    for kind, (write, shape) in converters.items():
        if not kind.__module__.startswith("sklearn.") and hasattr(kind, "predict_proba"):
            library.update_registered_converter(
                kind,
                f"Clew{kind.__name__}",
                shape,
                write,
                overwrite=True,
                options={
                    "zipmap": [True, False, "columns"],
                    "nocl": [True, False],
                    "output_class_labels": [False, True],
                    "raw_scores": [True, False],
                },
            )


def _in_float64(shape: Callable[[Any], None], at: int) -> Callable[[Any], None]:
    """As ``shape`` finds it, with scores or values of float64."""
    types = importlib.import_module("skl2onnx.common.data_types")

    def found(operator: Any) -> None:
        shape(operator)
        output = operator.outputs[at]
        output.set_type(types.DoubleTensorType(output.type.shape))

    return found


def _class(rooms: Sequence[Any], name: str) -> type:
    kind = next(getattr(room, name) for room in rooms if hasattr(room, name))
    assert isinstance(kind, type)
    return kind


def _boosters(ensembles: Any) -> dict[type, Callable[[Any], Boosted]]:
    """Estimators of boosted trees: those of scikit-learn, and those of what is loaded already."""
    found: dict[type, Callable[[Any], Boosted]] = {
        ensembles.GradientBoostingClassifier: _of_gradient_boosting,
        ensembles.GradientBoostingRegressor: _of_gradient_boosting,
        ensembles.HistGradientBoostingClassifier: _of_histogram_boosting,
        ensembles.HistGradientBoostingRegressor: _of_histogram_boosting,
    }
    for library, names, read in (
        ("xgboost", ("XGBClassifier", "XGBRegressor"), of_xgboost),
        ("lightgbm", ("LGBMClassifier", "LGBMRegressor"), of_lightgbm),
    ):
        room = _if_loaded(library)
        for name in names if room is not None else ():
            found[getattr(room, name)] = read
    return found


def _if_loaded(library: str) -> Any:
    import sys  # noqa: PLC0415 - beside the one use: a model of a library has loaded it

    return sys.modules.get(library)


# what trees say ---------------------------------------------------------------------------------


def trees_of(model: Any) -> list[Tree]:
    """The trees of an ensemble whose features are the columns that it is given; else none."""
    name = type(model).__name__
    if name in {*_FORESTS, *_MEANS}:
        return _sklearn_trees(model, classes=name in _FORESTS)
    for kind, read in _boosters(importlib.import_module("sklearn.ensemble")).items():
        if type(model) is kind:
            return read(model).trees
    return []


def _sklearn_trees(model: Any, *, classes: bool) -> list[Tree]:
    parts = getattr(model, "estimators_", [model])
    return [of_sklearn(part.tree_, classes=classes) for part in parts]


def _of_gradient_boosting(model: Any) -> Boosted:
    if model.init not in {None, "zero"}:
        raise NotImplementedError("it begins with another estimator")
    first = model._raw_predict_init(np.zeros((1, model.n_features_in_))).ravel()
    trees = [constant(float(value), at) for at, value in enumerate(first)]
    for stage in model.estimators_:
        for at, part in enumerate(stage):
            trees.append(of_sklearn(part.tree_, model.learning_rate, at))
    link = "identity"
    if hasattr(model, "classes_"):
        link = "sigmoid" if len(first) == 1 else "softmax"
        if model.loss == "exponential":
            link = "sigmoid2"
    return Boosted(trees=trees, targets=len(first), mode=LEQ, float32=False, link=link)


def _of_histogram_boosting(model: Any) -> Boosted:
    if getattr(model, "is_categorical_", None) is not None:
        raise NotImplementedError("it takes categories")
    first = np.asarray(model._baseline_prediction).ravel()
    trees = [constant(float(value), at) for at, value in enumerate(first)]
    for stage in model._predictors:
        for at, part in enumerate(stage):
            trees.append(of_histogram(part.nodes, at))
    if hasattr(model, "classes_"):
        link = "sigmoid" if len(first) == 1 else "softmax"
    else:
        links = {"IdentityLink": "identity", "LogLink": "exp"}
        link = links[type(model._loss.link).__name__]
    return Boosted(trees=trees, targets=len(first), mode=LEQ, float32=False, link=link)


# nodes ------------------------------------------------------------------------------------------


class _Writer:
    """Adds nodes to the graph of one operator, one after the other."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container
        self._helper = importlib.import_module("onnx.helper")
        self._types = importlib.import_module("onnx").TensorProto
        self._arrays = importlib.import_module("onnx.numpy_helper")

    def add(
        self, kind: str, inputs: Sequence[str], output: str = "", *, ml: bool = False, **about: Any
    ) -> str:
        """A node with one output; its name."""
        output = output or self._scope.get_unique_variable_name(kind.lower())
        self.several(kind, inputs, [output], ml=ml, **about)
        return output

    def several(
        self, kind: str, inputs: Sequence[str], outputs: list[str], *, ml: bool, **about: Any
    ) -> None:
        plain = {
            name: self._attribute(name, value) if isinstance(value, np.ndarray) else value
            for name, value in about.items()
        }
        self._container.add_node(
            kind,
            list(inputs),
            outputs,
            op_domain="ai.onnx.ml" if ml else "",
            op_version=3 if ml else _SINCE.get(kind, OPSET),
            name=self._scope.get_unique_operator_name(kind),
            **plain,
        )

    def _attribute(self, name: str, value: Array) -> Any:
        if name in _TENSORS:
            return self._arrays.from_array(value, name)
        return value.astype(np.int64).tolist()

    def cast(self, name: str, to: str, output: str = "") -> str:
        """A value in another type."""
        return self.add("Cast", [name], output, to=getattr(self._types, to))

    def is_first(self, name: str) -> bool:
        """Whether a value is an input of the whole graph."""
        return any(one.name == name for one in self._container.inputs)

    def sum(self, name: str, more: str) -> str:
        """A value with ``more`` added to it, where there is more."""
        return self.add("Add", [name, more]) if more else name

    def number(self, value: Array, kind: str = "DOUBLE") -> str:
        """A constant."""
        name = str(self._scope.get_unique_variable_name("constant"))
        listed = value.ravel().tolist()
        self._container.add_initializer(name, getattr(self._types, kind), value.shape, listed)
        return name


_SINCE = {"Cast": 13, "Sigmoid": 13, "Softmax": 13, "Exp": 13, "ArgMax": 13, "Gather": 13,
          "Concat": 13, "Sub": 14, "Div": 14, "Mul": 14, "Greater": 13, "GreaterOrEqual": 16,
          "Reshape": 14, "Identity": 16, "IsInf": 10, "ReduceMax": 13, "Neg": 13, "Sqrt": 13,
          "Add": 14, "MatMul": 13, "IsNaN": 13,
          "Where": 9}  # fmt: skip
_TENSORS = {"nodes_splits", "leaf_weights", "nodes_modes", "nodes_values_as_tensor",
            "class_weights_as_tensor"}  # fmt: skip


def _given(writer: _Writer, operator: Any, *, float32: bool) -> tuple[str, str]:
    """The operator's input as the trees take it, and what to add to their answer ('': nothing).

    scikit-learn's trees look at their input in float32, and refuse what does not fit. Behind other
    operators that is added to the answer as NaN; the first one's input is checked before it is run.
    """
    name = operator.inputs[0].full_name
    if not float32:
        return writer.cast(name, "DOUBLE"), ""
    single = writer.cast(name, "FLOAT")
    given = writer.cast(single, "DOUBLE")
    if writer.is_first(name):
        return given, ""
    large = writer.cast(writer.add("IsInf", [single]), "DOUBLE")
    any_large = writer.add("ReduceMax", [large], axes=[1], keepdims=1)
    return given, writer.add("Sqrt", [writer.add("Neg", [any_large])])


def _write_votes(scope: Any, operator: Any, container: Any) -> None:
    model, writer = operator.raw_operator, _Writer(scope, container)
    if isinstance(model.classes_, list):
        raise NotImplementedError("it has several outputs")
    trees = _sklearn_trees(model, classes=True)
    given, refused = _given(writer, operator, float32=True)
    sums = scope.get_unique_variable_name("sums")
    classes = model.classes_.tolist()
    texts = isinstance(classes[0], str)
    key = "classlabels_strings" if texts else "classlabels_int64s"
    labels = classes if texts else [int(value) for value in classes]
    outputs = [operator.outputs[0].full_name, sums]
    writer.several(
        "TreeEnsembleClassifier", [given], outputs, ml=True, **votes(trees), **{key: labels}
    )
    count = writer.number(np.array([float(len(trees))]))
    summed = writer.sum(writer.cast(sums, "DOUBLE"), refused)
    writer.add("Div", [summed, count], operator.outputs[1].full_name)


def _shape_filled(operator: Any) -> None:
    types = importlib.import_module("skl2onnx.common.data_types")
    width = len(operator.raw_operator.statistics_)
    operator.outputs[0].set_type(types.DoubleTensorType([None, width]))


def _write_filled(scope: Any, operator: Any, container: Any) -> None:
    """A missing number becomes the column's own, which ONNX's imputer does in float32 alone."""
    model, writer = operator.raw_operator, _Writer(scope, container)
    fills = np.asarray(model.statistics_)
    if fills.dtype.kind not in "fiu" or np.isnan(fills.astype(np.float64)).any():
        raise NotImplementedError("an imputer fills something else than numbers")
    if model.add_indicator or not _is_nan(model.missing_values):
        raise NotImplementedError("an imputer fills something else than missing numbers")
    given = writer.cast(operator.inputs[0].full_name, "DOUBLE")
    fill = writer.number(fills.astype(np.float64).reshape(1, -1))
    missing = writer.add("IsNaN", [given])
    writer.add("Where", [missing, fill, given], operator.outputs[0].full_name)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))


def _write_decision(scope: Any, operator: Any, container: Any) -> None:
    """A linear model that gives labels alone."""
    model, writer = operator.raw_operator, _Writer(scope, container)
    given = writer.cast(operator.inputs[0].full_name, "DOUBLE")
    weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64)).T
    product = writer.add("MatMul", [given, writer.number(np.ascontiguousarray(weights))])
    bias = writer.number(np.atleast_1d(np.asarray(model.intercept_, dtype=np.float64)))
    label, scores = (output.full_name for output in operator.outputs)
    raw = writer.add("Add", [product, bias], scores)
    if weights.shape[1] > 1:
        place = writer.add("ArgMax", [raw], axis=1, keepdims=0)
    else:
        place = _second_if(writer, "Greater", raw)
    _write_label(writer, model, place, label)


def _second_if(writer: _Writer, least: str, raw: str) -> str:
    """The place of the class, 0 or 1, by whether the raw score is above zero."""
    column = writer.cast(writer.add(least, [raw, writer.number(np.array([0.0]))]), "INT64")
    return writer.add("Reshape", [column, writer.number(np.array([-1]), "INT64")])


def _write_label(writer: _Writer, model: Any, place: str, label: str) -> None:
    classes = np.asarray(model.classes_)
    kind = "STRING" if classes.dtype.kind in "UO" else "INT64"
    values = classes if kind == "STRING" else classes.astype(np.int64)
    writer.add("Gather", [writer.number(values, kind), place], label, axis=0)


def _write_means(scope: Any, operator: Any, container: Any) -> None:
    model, writer = operator.raw_operator, _Writer(scope, container)
    if model.n_outputs_ != 1:
        raise NotImplementedError("it has several outputs")
    trees = _sklearn_trees(model, classes=False)
    given, refused = _given(writer, operator, float32=True)
    sums = writer.add("TreeEnsemble", [given], ml=True, **_typed(ensemble(trees, 1), np.float64))
    count = writer.number(np.array([float(len(trees))]))
    writer.add("Div", [writer.sum(sums, refused), count], operator.outputs[0].full_name)


def _typed(about: dict[str, Any], kind: Any) -> dict[str, Any]:
    return {
        name: value.astype(kind) if name in {"nodes_splits", "leaf_weights"} else value
        for name, value in about.items()
    }


def _raw(writer: _Writer, operator: Any, found: Boosted) -> str:
    """Raw scores [rows, targets] in float64."""
    kind = np.float32 if found.float32 else np.float64
    name = operator.inputs[0].full_name
    if found.float32:
        given, refused = writer.cast(name, "FLOAT"), ""
    else:
        given, refused = _given(writer, operator, float32=_looks_in_float32(operator.raw_operator))
    about = _typed(ensemble(found.trees, found.targets, mode=found.mode), kind)
    raw = writer.add("TreeEnsemble", [given], ml=True, **about)
    return writer.cast(raw, "DOUBLE") if found.float32 else writer.sum(raw, refused)


def _looks_in_float32(model: Any) -> bool:
    return type(model).__name__.startswith("GradientBoosting")


def _write_values(read: Callable[[Any], Boosted]) -> Converter:
    def write(scope: Any, operator: Any, container: Any) -> None:
        writer, found = _Writer(scope, container), read(operator.raw_operator)
        raw, output = _raw(writer, operator, found), operator.outputs[0].full_name
        kinds = {"identity": "Identity", "exp": "Exp", "sigmoid": "Sigmoid"}
        writer.add(kinds[found.link], [raw], output)

    return write


def _write_scores(read: Callable[[Any], Boosted]) -> Converter:
    def write(scope: Any, operator: Any, container: Any) -> None:
        model, writer = operator.raw_operator, _Writer(scope, container)
        found = read(model)
        raw = _raw(writer, operator, found)
        label, scores = (output.full_name for output in operator.outputs)
        if found.targets > 1:
            writer.add("Softmax", [raw], scores, axis=1)
            place = writer.add("ArgMax", [raw], axis=1, keepdims=0)
        else:
            if found.link == "sigmoid2":
                raw = writer.add("Mul", [raw, writer.number(np.array([2.0]))])
            second = writer.add("Sigmoid", [raw])
            first = writer.add("Sub", [writer.number(np.array([1.0])), second])
            writer.add("Concat", [first, second], scores, axis=1)
            least = "GreaterOrEqual" if _looks_in_float32(model) else "Greater"
            place = _second_if(writer, least, raw)
        _write_label(writer, model, place, label)

    return write
