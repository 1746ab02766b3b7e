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
from clew.models import onnx_parts
from clew.models.boosted import Boosted, of_lightgbm, of_xgboost
from clew.models.onnx_writer import ML_OPSET, OPSET, Writer, linked, raw_scores, typed
from clew.models.tree_nodes import LEQ, Tree, constant, ensemble, of_histogram, of_sklearn, votes

_LINEAR = "sklearn.linear_model"
Converter = Callable[[Any, Any, Any], None]
_FORESTS = ("RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier")
_XGBOOST = ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")
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
    learned, back = onnx_parts.behind(onnx_parts.prepared(model))

    def convert(options: dict[int, Any]) -> Any:
        return library.convert_sklearn(
            learned,
            name="clew",
            initial_types=[(one.name, _type_of(one)) for one in inputs],
            target_opset={"": OPSET, "ai.onnx.ml": 3},
            custom_conversion_functions={kind: write for kind, (write, _) in converters.items()},
            custom_shape_calculators={kind: shape for kind, (_, shape) in converters.items()},
            options=options or None,
        )

    some = onnx_parts.options_of(learned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            no_map = {id(learned): {"zipmap": False}} if hasattr(learned, "classes_") else {}
            made = convert(some | no_map)
        except NameError:  # a classifier whose scores are no map to begin with has no such option
            made = convert(some)
    if back is not None:
        _lead_back(made, back)
    _raise_opset(made)
    names = tuple(output.name for output in made.graph.output)
    return made.SerializeToString(deterministic=True), names


def _lead_back(made: Any, back: Callable[[Any, str, str], list[Any]]) -> None:
    """Put behind the one output of a graph what makes the target of it."""
    helper = importlib.import_module("onnx.helper")
    arrays = importlib.import_module("onnx.numpy_helper")
    (output,) = made.graph.output
    made.graph.node.extend(back(helper, output.name, "target"))
    made.graph.initializer.append(arrays.from_array(np.array(1.0), "one"))
    output.name = "target"


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
    ordinal = importlib.import_module("sklearn.preprocessing").OrdinalEncoder
    found[ordinal] = (onnx_parts.write_ordinal, onnx_parts.shape_ordinal)
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
        ("xgboost", _XGBOOST, of_xgboost),
        ("lightgbm", ("LGBMClassifier", "LGBMRegressor", "LGBMRanker"), of_lightgbm),
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


def _given(writer: Writer, operator: Any, *, float32: bool) -> tuple[str, str]:
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
    axis = writer.number(np.array([1]), "INT64")
    many_large = writer.add("ReduceSum", [large, axis], keepdims=1)
    return given, writer.add("Sqrt", [writer.add("Neg", [many_large])])


def _write_votes(scope: Any, operator: Any, container: Any) -> None:
    model, writer = operator.raw_operator, Writer(scope, container)
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
    model = operator.raw_operator
    texts = onnx_parts.fills_text(model)
    kind = types.StringTensorType if texts else types.DoubleTensorType
    operator.outputs[0].set_type(kind([None, len(model.statistics_)]))


def _write_filled(scope: Any, operator: Any, container: Any) -> None:
    """A missing number becomes the column's own, which ONNX's imputer does in float32 alone; a
    missing text has become that before (``onnx_parts.text_fills``).
    """
    model, writer = operator.raw_operator, Writer(scope, container)
    if onnx_parts.fills_text(model) and not model.add_indicator:
        given = [one.full_name for one in operator.inputs]
        output = operator.outputs[0].full_name
        if len(given) == 1:
            writer.add("Identity", given, output)
        else:
            writer.add("Concat", given, output, axis=1)
        return
    fills = np.asarray(model.statistics_)
    if fills.dtype.kind not in "fiu" or np.isnan(fills.astype(np.float64)).any():
        raise NotImplementedError("an imputer fills something else than numbers")
    if model.add_indicator or not _is_nan(model.missing_values):
        raise NotImplementedError("an imputer fills something else than missing numbers")
    numbers = writer.cast(operator.inputs[0].full_name, "DOUBLE")
    fill = writer.number(fills.astype(np.float64).reshape(1, -1))
    missing = writer.add("IsNaN", [numbers])
    writer.add("Where", [missing, fill, numbers], operator.outputs[0].full_name)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))


def _write_decision(scope: Any, operator: Any, container: Any) -> None:
    """A linear model that gives labels alone."""
    model, writer = operator.raw_operator, Writer(scope, container)
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


def _second_if(writer: Writer, least: str, raw: str) -> str:
    """The place of the class, 0 or 1, by whether the raw score is above zero."""
    column = writer.cast(writer.add(least, [raw, writer.number(np.array([0.0]))]), "INT64")
    return writer.add("Reshape", [column, writer.number(np.array([-1]), "INT64")])


def _write_label(writer: Writer, model: Any, place: str, label: str) -> None:
    classes = np.asarray(model.classes_)
    kind = "STRING" if classes.dtype.kind in "UO" else "INT64"
    values = classes if kind == "STRING" else classes.astype(np.int64)
    writer.add("Gather", [writer.number(values, kind), place], label, axis=0)


def _write_means(scope: Any, operator: Any, container: Any) -> None:
    model, writer = operator.raw_operator, Writer(scope, container)
    if model.n_outputs_ != 1:
        raise NotImplementedError("it has several outputs")
    trees = _sklearn_trees(model, classes=False)
    given, refused = _given(writer, operator, float32=True)
    sums = writer.add("TreeEnsemble", [given], ml=True, **typed(ensemble(trees, 1), np.float64))
    count = writer.number(np.array([float(len(trees))]))
    writer.add("Div", [writer.sum(sums, refused), count], operator.outputs[0].full_name)


def _raw(writer: Writer, operator: Any, found: Boosted) -> str:
    """Raw scores [rows, targets] in float64."""
    name = operator.inputs[0].full_name
    if found.float32:
        return writer.cast(raw_scores(writer, writer.cast(name, "FLOAT"), found), "DOUBLE")
    given, refused = _given(writer, operator, float32=_looks_in_float32(operator.raw_operator))
    return writer.sum(raw_scores(writer, given, found), refused)


def _looks_in_float32(model: Any) -> bool:
    return type(model).__name__.startswith("GradientBoosting")


def _write_values(read: Callable[[Any], Boosted]) -> Converter:
    def write(scope: Any, operator: Any, container: Any) -> None:
        writer, found = Writer(scope, container), read(operator.raw_operator)
        raw, output = _raw(writer, operator, found), operator.outputs[0].full_name
        linked(writer, raw, found.link, "DOUBLE", output)

    return write


def _write_scores(read: Callable[[Any], Boosted]) -> Converter:
    def write(scope: Any, operator: Any, container: Any) -> None:
        model, writer = operator.raw_operator, Writer(scope, container)
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
