"""Parts of pipelines that skl2onnx has no form for, or another one than they have here.

Text comes to a graph with a mark where it is missing, since ONNX has no missing text: encoders that
have learned missing values as a category know the mark, and what an imputer fills in is filled in
before the graph is asked. Whether that is right is for ``parity``, as everything here.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from clew.models.loading import parts
from clew.models.onnx_model import MISSING_TEXT
from clew.models.onnx_writer import Writer

_ENCODERS = {"OneHotEncoder", "TargetEncoder"}
_DECIDE = {"LinearSVC", "RidgeClassifier", "RidgeClassifierCV"}


def prepared(model: Any) -> Any:
    """The model as it is converted; a copy where a part of it has to be another."""
    if not any(_is_other(part) for part in parts(model, set())):
        return model
    found = copy.deepcopy(model)
    for part in parts(found, set()):
        if type(part).__name__ == "VotingClassifier":
            part.flatten_transform = False  # which concerns its features, not its answers
        elif type(part).__name__ in _ENCODERS and hasattr(part, "categories_"):
            part.categories_ = [_marked(values) for values in part.categories_]
    return found


def _is_other(part: Any) -> bool:
    name = type(part).__name__
    return name == "VotingClassifier" or (
        name in _ENCODERS
        and any(_missing(values).any() for values in getattr(part, "categories_", ()))
    )


def _missing(values: Any) -> Any:
    if values.dtype.kind != "O":
        return np.zeros(len(values), dtype=bool)
    return np.array([one is None or one != one for one in values.tolist()])


def _marked(values: Any) -> Any:
    found = values.copy()
    found[_missing(values)] = MISSING_TEXT
    return found


def options_of(model: Any) -> dict[int, Any]:
    """What skl2onnx must be told of parts, else it asks classifiers without probabilities for a
    map of them.
    """
    return {id(part): {} for part in parts(model, set()) if type(part).__name__ in _DECIDE}


# missing text -----------------------------------------------------------------------------------


def text_fills(model: Any) -> dict[str, str]:
    """Column → the text that an imputer puts in place of a missing one."""
    fills: dict[str, str] = {}
    for part in parts(model, set()):
        for _, transformer, columns in getattr(part, "transformers_", None) or ():
            steps = getattr(transformer, "steps", None)
            first = steps[0][1] if steps else transformer
            if type(first).__name__ == "SimpleImputer" and fills_text(first):
                named = [one for one in np.atleast_1d(columns).tolist() if isinstance(one, str)]
                if len(named) == len(first.statistics_):
                    fills |= dict(zip(named, map(str, first.statistics_), strict=True))
    return fills


def fills_text(imputer: Any) -> bool:
    """Whether it fills in texts, and nothing else."""
    fills = np.asarray(imputer.statistics_)
    return fills.dtype.kind == "O" and all(isinstance(one, str) for one in fills.tolist())


# encoders of text as numbers --------------------------------------------------------------------


def shape_ordinal(operator: Any) -> None:
    """A column for each that it takes."""
    if not _has_places(operator.raw_operator):
        _registered("get_shape_calculator")(operator)
        return
    types = importlib.import_module("skl2onnx.common.data_types")
    width = len(operator.raw_operator.categories_)
    operator.outputs[0].set_type(types.DoubleTensorType([None, width]))


def write_ordinal(scope: Any, operator: Any, container: Any) -> None:
    """Texts as their places among those that were learned; all else is skl2onnx's."""
    model, writer = operator.raw_operator, Writer(scope, container)
    if not _has_places(model):
        _registered("get_converter")(scope, operator, container)
        return
    columns = []
    for values, given in _columns(writer, operator, model.categories_):
        missing = _missing(values)
        keys = [
            MISSING_TEXT if gone else str(one) for one, gone in zip(values, missing, strict=True)
        ]
        places = np.arange(len(keys), dtype=np.float64)
        places[missing] = model.encoded_missing_value
        place = writer.add(
            "LabelEncoder", [given], ml=True, keys_strings=keys,
            values_floats=[float(one) for one in places], default_float=float(model.unknown_value),
        )  # fmt: skip
        columns.append(writer.cast(place, "DOUBLE"))
    writer.add("Concat", columns, operator.outputs[0].full_name, axis=1)


def _has_places(model: Any) -> bool:
    """Whether it has a place for every text, learned or not."""
    texts = all(values.dtype.kind in "OU" for values in model.categories_)
    return texts and model.handle_unknown == "use_encoded_value"


def _registered(what: str) -> Any:
    known = importlib.import_module("skl2onnx.common._registration")
    return getattr(known, what)("SklearnOrdinalEncoder")


def _columns(writer: Writer, operator: Any, categories: Any) -> list[tuple[Any, str]]:
    """The categories of each column, and the column [rows, 1]."""
    inputs = [one.full_name for one in operator.inputs]
    if len(inputs) == len(categories):
        return list(zip(categories, inputs, strict=True))
    if len(inputs) != 1:
        raise NotImplementedError("an encoder takes columns in several groups")
    found = []
    for at, values in enumerate(categories):
        place = writer.number(np.array([at]), "INT64")
        found.append((values, writer.add("Gather", [inputs[0], place], axis=1)))
    return found


# what a target was before it was learned --------------------------------------------------------


def behind(model: Any) -> tuple[Any, Callable[[Any, str, str], list[Any]] | None]:
    """A model of a transformed target: what was learned, and the nodes that lead back to the
    target (of ONNX's helper, an input and an output). Any other model: itself, and nothing.

    Raises:
        NotImplementedError: the way back has no form here.
    """
    if type(model).__name__ != "TransformedTargetRegressor":
        return model, None
    way = model.transformer_
    inverse = getattr(way, "inverse_func", None)
    name = getattr(inverse, "__name__", "")
    if type(way).__name__ == "FunctionTransformer" and inverse is None:
        return model.regressor_, None
    if type(way).__name__ != "FunctionTransformer" or name not in _BACK:
        raise NotImplementedError("its target was transformed by something that is not known here")
    return model.regressor_, _BACK[name]


def _back(*kinds: str) -> Callable[[Any, str, str], list[Any]]:
    def nodes(helper: Any, given: str, output: str) -> list[Any]:
        made, last = [], given
        for at, kind in enumerate(kinds):
            end = output if at + 1 == len(kinds) else f"back_{at}"
            takes = [last, "one"] if kind == "Sub" else [last, last] if kind == "Mul" else [last]
            made.append(helper.make_node(kind, takes, [end]))
            last = end
        return made

    return nodes


_BACK = {
    "exp": _back("Exp"), "expm1": _back("Exp", "Sub"), "square": _back("Mul"),
    "sqrt": _back("Sqrt"), "log": _back("Log"), "negative": _back("Neg"),
}  # fmt: skip
