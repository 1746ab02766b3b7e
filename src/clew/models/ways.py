"""In which forms a model may be asked for rows, and which of them is the one that it learned from.

Knows rows and what an estimator has learned; imports no library of models. A function that is
annotated with Polars may have learned from what it made of its frame: `to_pandas()`, a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct, field

from clew.base.records import Column, Signature
from clew.models.frames import Array, is_number, plain_array
from clew.models.held import Held, held_by, marked, missing_of
from clew.models.loading import LoadedModel, Outputs, parts
from clew.models.targets import class_text

MISSING_ROWS = 200
"""So many rows with a missing value are asked besides the first ones."""


_CODED = (pl.Categorical, pl.Enum)


class Way(Struct, frozen=True, kw_only=True):
    """How rows are given. ``takes``: matrix, polars or pandas; ``held``: how pandas has them."""

    takes: str
    held: dict[str, Held] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """What the model meets where a text is missing; '' where that is not one thing."""
        return missing_of(self.held) if self.takes == "pandas" else "none"


def ways_of(
    signature: Signature,
    model: Any,
    train: pl.DataFrame,
    places: Sequence[int],
    captured: Mapping[str, Held] | None,
) -> list[Way]:
    """How to try to ask, best first: an estimator that was fitted without names takes a matrix.

    ``train``: rows that it learned from, and ``places``: some of them, with missing values where
    there are such; ``captured``: how the training function's own frame of pandas was held.
    """
    if signature.frame == "numpy":
        return [Way(takes="matrix")]
    matrix = [Way(takes="matrix")] if all(is_number(one) for one in signature.inputs) else []
    nameless = hasattr(model, "n_features_in_") and not hasattr(model, "feature_names_in_")
    polars, pandas = [Way(takes="polars")], _of_pandas(signature.inputs, train, places, captured)
    frames = [*polars, *pandas] if signature.frame == "polars" else [*pandas, *polars]
    return [*matrix, *frames] if nameless else [*frames, *matrix]


def _of_pandas(
    columns: Sequence[Column],
    train: pl.DataFrame,
    places: Sequence[int],
    captured: Mapping[str, Held] | None,
) -> list[Way]:
    names = [one.name for one in columns]
    rows = train.select(names)[places]
    coded = train.select(name for name in names if isinstance(train.schema[name], _CODED))
    try:  # of categories all count, of other columns some rows tell
        own = held_by(rows.to_pandas()) | held_by(coded.to_pandas())
        plain = held_by(rows.to_arrow().to_pandas()) | held_by(coded.to_arrow().to_pandas())
    except (ModuleNotFoundError, ValueError, TypeError, NotImplementedError):
        return [Way(takes="pandas")]  # a column that pandas has not, or no pandas
    known = captured is not None and set(names) <= captured.keys()
    forms = [{name: captured[name] for name in names}] if captured and known else []
    forms += [own, plain]
    if any(rows[name].null_count() for name in names):
        forms += [marked(forms[0], mark) for mark in ("nan", "none", "na")]
    found: list[Way] = []
    for form in forms:
        way = Way(takes="pandas", held=form)
        found += [] if way in found else [way]
    return found


def is_delicate(columns: Sequence[Column]) -> bool:
    """Whether frames of these columns may differ in how they are held: not if all are numbers."""
    return not all(is_number(one) and (one.type != "bool" or not one.nullable) for one in columns)


def telling(rows: pl.DataFrame, most: int) -> list[int]:
    """Places of the first rows, and of rows in which something other than a float is missing."""
    others = [name for name, kind in rows.schema.items() if not kind.is_float()]
    gone = rows.select(
        pl.any_horizontal(pl.col(name).is_null() for name in others) if others else pl.lit(False)
    ).to_series()
    places = {*range(min(most, rows.height))}
    for name in others:  # a few of each column, however rare its gaps are
        places |= set(rows[name].is_null().arg_true().head(20).to_list())
    return sorted(places | set(gone.arg_true().head(MISSING_ROWS).to_list()))


def learned_from(
    works: Sequence[LoadedModel],
    rows: pl.DataFrame,
    truth: pl.Series | None,
    *,
    captured: bool,
) -> int:
    """Which of several ways to ask that all work is the one that the model learned from.

    Where they give the same answers the first is. Where not: what its encoders and imputers know as
    missing says so; then the frame that its function was given, if that was pandas'; then on which
    of them it answers rows that it learned from best.
    """
    said = [_said(one, rows) for one in works]
    able = [at for at, one in enumerate(said) if one is not None] or list(range(len(works)))
    if len(able) == 1 or _same(said, able):
        return able[0]
    known = missing_known(works[0].model)
    fitting = [at for at in able if known and _way(works[at]).missing == known] or able
    if captured or truth is None or _same(said, fitting):
        return fitting[0]
    losses = [_loss(works[at], said[at], truth) for at in fitting]
    best = min(losses)
    return next(at for at, loss in zip(fitting, losses, strict=True) if loss <= best + 1e-12)


def _way(model: LoadedModel) -> Way:
    return Way(takes=model.recipe.takes, held=model.recipe.held)


def _said(model: LoadedModel, rows: pl.DataFrame) -> Outputs | None:
    try:
        return model.predict(rows)
    except Exception:  # noqa: BLE001 - the user's model, asked in a way that does not suit it
        return None


def _same(said: Sequence[Outputs | None], places: Sequence[int]) -> bool:
    first = said[places[0]]
    return all(_equal(first, said[at]) for at in places[1:])


def _equal(left: Outputs | None, right: Outputs | None) -> bool:
    if left is None or right is None or left.keys() != right.keys():
        return left is right
    return all(_close(left[name], right[name]) for name in left)


def _close(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f" and right.dtype.kind == "f":
        return bool(np.allclose(left, right, rtol=1e-9, atol=1e-12, equal_nan=True))
    return bool((left.astype(str) == right.astype(str)).all())


def missing_known(model: Any) -> str:
    """What an estimator knows as missing among texts: nan, none or na; '' where it does not say.

    A category that it learned says more than what an imputer would have filled in.
    """
    found = parts(model, set())
    texts = [values for part in found for values in _categories(part)]
    for name, gone in (("none", _is_none), ("nan", _is_nan), ("na", _is_na)):
        if any(gone(one) for values in texts for one in values):
            return name
    for part in found:
        statistics = getattr(part, "statistics_", ())
        if any(isinstance(one, str) for one in statistics) and hasattr(part, "missing_values"):
            gone = part.missing_values
            return "none" if _is_none(gone) else "nan" if _is_nan(gone) else "na"
    return ""


def _categories(part: Any) -> list[list[Any]]:
    """The categories of an encoder that are texts."""
    lists = getattr(part, "categories_", None)
    if not isinstance(lists, list):
        return []
    found = [np.asarray(values, dtype=object).tolist() for values in lists]
    return [values for values in found if any(isinstance(one, str) for one in values)]


def _is_none(value: Any) -> bool:
    return value is None


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _is_na(value: Any) -> bool:
    return type(value).__name__ == "NAType"


def _loss(model: LoadedModel, said: Outputs | None, truth: pl.Series) -> float:
    """How far answers are from the truth: mean squares, or the share that a class was not given."""
    assert said is not None, "only ways that answer are weighed"
    known = truth.is_not_null().to_numpy()
    right = plain_array(truth.drop_nulls())
    if "prediction" in said:
        values = said["prediction"][known]
        return float(np.nanmean((values.reshape(len(right), -1)[:, 0] - right) ** 2))
    classes = list(model.signature.classes)
    texts = [class_text(one) for one in truth.drop_nulls().to_list()]
    places = np.array([classes.index(one) if one in classes else -1 for one in texts])
    if "probability" in said:
        chance = said["probability"][known]
        return float(np.mean(np.where(places == 1, 1 - chance, chance)))
    if "probabilities" in said:
        scores = said["probabilities"][known]
        return float(np.mean(1 - scores[np.arange(len(places)), places]))
    if "label" not in said:
        return 0.0
    labels = [class_text(one) for one in said["label"][known].tolist()]
    return float(np.mean([one != two for one, two in zip(labels, texts, strict=True)]))
