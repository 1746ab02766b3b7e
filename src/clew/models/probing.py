"""What a trained object takes and gives, found out by asking it a few real rows.

Knows no format and no store. What cannot be found out is refused with what was tried.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from clew.base.errors import Invalid
from clew.base.records import Column, Signature
from clew.models.frames import Array, can_be_told, columns_of, is_number, plain_array
from clew.models.held import Held
from clew.models.loading import LoadedModel, Outputs, Recipe, check_outputs
from clew.models.targets import class_text, plain_value
from clew.models.ways import Way, is_delicate, learned_from, telling, ways_of

SAMPLE_ROWS = 200
MATRIX_INPUT = "input"


def probe(
    model: Any,
    sample: pl.DataFrame,
    target: pl.Series,
    *,
    frame: str,
    task: str,
    pickled: bytes,
    train: pl.DataFrame | None = None,
    captured: Mapping[str, Held] | None = None,
) -> LoadedModel:
    """The model with the signature and the recipe that work on ``sample``.

    Args:
        model: What the training function returned: an estimator, anything with ``predict``, or a
            function of a frame.
        sample: Feature rows, without the target; the first 200 are asked.
        target: The target of the training rows, for the classes where the model names none.
        frame: polars, pandas or numpy: what the training function worked with.
        task: auto, binary, multiclass or regression.
        pickled: The pickle of ``model``, to try things on a copy.
        train: The rows of ``target`` without it, of which the model learned; where they have
            missing values, they tell how those stood then.
        captured: How the frame of pandas was held that the training function was given.

    Raises:
        Invalid: ``model.kind`` where it cannot be asked at all; ``model.features`` where it was
            trained on other columns; ``model.signature`` where no way to ask it works.
    """
    if not hasattr(model, "predict") and not callable(model):
        raise Invalid(
            "model.kind",
            f"The training function returned a {type(model).__name__}, which cannot predict.",
            hint="Return an estimator, an object with predict(frame), or a function of a frame.",
        )
    found_task, classes = _task_and_classes(model, target, task)
    inputs = _inputs(model, sample, frame, train)  # of all rows: a null may be rare
    sample = sample.head(SAMPLE_ROWS)
    names = [column.name for column in inputs]
    signature = Signature(
        frame=frame,
        inputs=inputs,
        width=len(inputs) if frame != "numpy" else _width(model, sample),
        task=found_task,
        classes=tuple(class_text(value) for value in classes),
    )
    rows = sample.select(names) if frame != "numpy" else sample
    with _quiet():
        learned = (train if train is not None and train.height else sample).select(rows.columns)
        places = telling(learned, SAMPLE_ROWS) if frame != "numpy" else [0]
        truth = target.gather(places) if train is not None and train.height else None
        told = Told(train=learned, places=places, truth=truth, captured=captured)
        loaded, outputs = _that_works(model, rows, signature, classes, told)
        return _bare_if_equal(loaded, outputs, rows, pickled)


class Told(Struct, frozen=True, kw_only=True):
    """What tells how a model learned: rows, the places of those with missing values and their
    target, and how its own frame was held.
    """

    train: pl.DataFrame
    places: Sequence[int]
    truth: pl.Series | None
    captured: Mapping[str, Held] | None


def _that_works(
    model: Any, rows: pl.DataFrame, signature: Signature, classes: tuple[Any, ...], told: Told
) -> tuple[LoadedModel, Outputs]:
    failures: dict[str, str] = {}
    works: list[tuple[LoadedModel, Outputs]] = []
    for way in ways_of(signature, model, told.train, told.places, told.captured):
        try:
            recipe = _recipe(model, rows, signature, way, classes)
            loaded = LoadedModel(
                signature=replace(signature, frame=_frame(signature, way.takes)),
                recipe=recipe,
                model=model,
            )
            works.append((loaded, check_outputs(loaded.predict(rows), rows.height)))
        except Exception as error:  # noqa: BLE001 - asking the user's model: anything may come
            failures.setdefault(way.takes, f"as {way.takes}: {type(error).__name__}: {error}")
            continue
        if not is_delicate(signature.inputs):
            break
    if works:
        asked = [loaded for loaded, _ in works]
        rows, captured = told.train[told.places], told.captured is not None
        return works[learned_from(asked, rows, told.truth, captured=captured)]
    untold = [f"{name} ({kind})" for name, kind in rows.schema.items() if not can_be_told(kind)]
    hint = (
        "Return a model whose predict takes the features without the target, such as a "
        "scikit-learn pipeline that picks its columns."
    )
    if untold and signature.frame != "numpy":
        hint = (
            f"No request can hold {', '.join(untold)}: such columns are text in a signature. Make "
            "numbers or text of them in the step before the training, or leave them out."
        )
    raise Invalid(
        "model.signature",
        f"The model cannot predict on test rows with {', '.join(rows.columns)}; "
        + "; ".join(failures.values()),
        hint=hint,
    )


def _frame(signature: Signature, takes: str) -> str:
    return takes if takes in {"polars", "pandas"} else signature.frame


def _recipe(
    model: Any, rows: pl.DataFrame, signature: Signature, way: Way, classes: tuple[Any, ...]
) -> Recipe:
    recipe = Recipe(
        takes=way.takes,
        held=way.held,
        method="predict" if hasattr(model, "predict") else "call",
        gives="values",
        classes=classes,
    )
    asking = LoadedModel(signature=signature, recipe=recipe, model=model)
    return replace(recipe, gives=_gives(asking, asking.input_of(rows)))


def _gives(asking: LoadedModel, given: Any) -> str:
    model, task = asking.model, asking.signature.task
    if task == "regression":
        return _numbers(asking.ask(given))
    labels = np.array(asking.recipe.classes)
    if hasattr(model, "predict_proba"):
        best = labels[plain_array(model.predict_proba(given)).argmax(axis=1)]
        same = np.array_equal(best, plain_array(model.predict(given)))
        return "proba" if same else "proba_and_labels"
    raw = asking.ask(given)
    if isinstance(raw, dict):
        return "named"
    values = plain_array(raw)
    if values.ndim == 2:
        return "scores"
    if np.isin(values, labels).all():
        return "labels"
    return "score" if task == "binary" and values.dtype.kind == "f" else "labels"


def _numbers(found: Any) -> str:
    if isinstance(found, dict):
        return "named"
    return "several" if plain_array(found).ndim == 2 else "values"


def _bare_if_equal(
    loaded: LoadedModel, outputs: Outputs, rows: pl.DataFrame, pickled: bytes
) -> LoadedModel:
    """The same model asked by a matrix, if it answers the same: much quicker to ask.

    The last bits of a sum are nobody's: they differ between two layouts of the same numbers.
    """
    inputs = loaded.signature.inputs
    if loaded.recipe.takes == "matrix" or not all(is_number(column) for column in inputs):
        return loaded
    candidate = LoadedModel(
        signature=loaded.signature,
        recipe=replace(loaded.recipe, takes="matrix", bare=True),
        model=pickle.loads(pickled),
    )
    try:
        again = candidate.predict(rows)
    except Exception:  # noqa: BLE001 - it needs a frame: then it gets one
        return loaded
    same = all(_equal(outputs[name], again[name]) for name in outputs)
    return candidate if same else loaded


_LAST_BITS = 1e-12


def _equal(left: Array, right: Array) -> bool:
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind != "f":
        return np.array_equal(left, right)
    size = float(np.nanmax(np.abs(left), initial=0.0, where=np.isfinite(left)))
    return np.allclose(left, right, rtol=_LAST_BITS, atol=_LAST_BITS * size, equal_nan=True)


def _inputs(
    model: Any, sample: pl.DataFrame, frame: str, train: pl.DataFrame | None
) -> tuple[Column, ...]:
    if frame == "numpy":
        return (Column(name=MATRIX_INPUT, type="double", nullable=True),)
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    spaced = {name.replace(" ", "_"): name for name in sample.columns}  # as LightGBM writes them
    names = [name if name in sample.columns else spaced.get(name, name) for name in names]
    missing = [name for name in names if name not in sample.columns]
    if missing:
        raise Invalid(
            "model.features",
            f"The model was trained on {', '.join(missing)}, which the features do not have.",
            hint="Make every column in the step before the training step, or inside a "
            "scikit-learn pipeline that you return whole.",
        )
    count = getattr(model, "n_features_in_", None)
    if not names and count is not None and count != sample.width:
        raise Invalid(
            "model.features",
            f"The model takes {count} unnamed columns; the features without the target have "
            f"{sample.width}: {', '.join(sample.columns)}.",
            hint="Fit on a frame (so that the model knows its columns by name), or drop the other "
            "columns in the step before.",
        )
    found = columns_of(sample.select(names or sample.columns))
    return tuple(one if train is None else _with_gaps(one, train) for one in found)


def _with_gaps(column: Column, train: pl.DataFrame) -> Column:
    """What was missing in training may be missing."""
    gaps = column.name in train.columns and train[column.name].null_count() > 0
    return replace(column, nullable=column.nullable or gaps)


def _width(model: Any, sample: pl.DataFrame) -> int:
    return int(getattr(model, "n_features_in_", sample.width))


def _task_and_classes(
    model: Any, target: pl.Series, task: str
) -> tuple[str, tuple[bool | int | float | str, ...]]:
    own = getattr(model, "classes_", None)
    if isinstance(own, list) and any(np.ndim(one) for one in own):
        raise Invalid(
            "model.classes",
            f"The {type(model).__name__} answers {len(own)} targets at once.",
            hint="A model here has one target: train one for each, and ask them as a graph.",
        )
    known = target.drop_nulls().unique().sort()
    if task == "regression" or (task == "auto" and own is None and not _is_label(model, known)):
        return "regression", ()
    values: Sequence[Any] = known.to_list() if own is None else list(own)
    classes = tuple(plain_value(value) for value in values)
    if len(classes) < 2:
        raise Invalid(
            "model.classes",
            f"The target {target.name!r} has {len(classes)} class{'es' * (len(classes) != 1)} in "
            "the training rows.",
            hint="Train on rows of at least two classes.",
        )
    return ("binary" if len(classes) == 2 else "multiclass"), classes


def _is_label(model: Any, values: pl.Series) -> bool:
    kind = values.dtype
    return hasattr(model, "predict_proba") or not (kind.is_numeric() or kind.is_temporal())


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings of a model that is asked in ways that do not suit it concern nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
