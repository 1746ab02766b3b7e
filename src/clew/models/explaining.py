"""Why a model answers as it does: SHAP values of its answers, against rows that it learned from.

The only file that knows shap. Trees and linear models are explained exactly by what they are, where
that adds up to their own answers; everything else by asking it (permutations with a fixed seed).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clew.base.errors import Invalid
from clew.base.extras import check_explains
from clew.base.records import Column
from clew.models.frames import Array, Data, is_number, rows_of, to_matrix, to_polars
from clew.models.isolated import load_original
from clew.models.layout import BACKGROUND
from clew.models.loading import LoadedModel, Outputs, Reads
from clew.models.processing import Processed, processed

Floats = npt.NDArray[np.float64]
Ask = Callable[[Floats], Floats]
Shortcut = Callable[[Any, LoadedModel, Floats, Floats], tuple[str, Floats, Any] | None]
OUTPUT = {"regression": "prediction", "binary": "probability", "multiclass": "probabilities"}
MOST_ASKED = 50
"""Rows of the background that a model is asked with in place of what is left out."""
CHECKED = 20
"""Rows of the background on which values by the make of a model must add up to its answers."""
SEED = 0
NEAR = 1e-4
"""How far the sum of a shortcut may be from the model's own answer: boosters reckon in float32."""


class Explained(LoadedModel):
    """Explains the answers of ``inner``. ``background``: rows that it learned from, as it takes
    them.

    ``features``: the columns that are explained, as the model takes them (behind ``preprocess`` of
    an endpoint).
    """

    def __init__(self, asked: LoadedModel, background: Any) -> None:
        self.signature = asked.signature
        self.platform = "shap"
        self._asked = asked
        self.inner: LoadedModel = asked.inner if isinstance(asked, Processed) else asked
        self._output = OUTPUT.get(self.inner.signature.task, "")
        self._coding = _Coding(self.inner, background)
        self.features = self._coding.names
        self._shortcuts: list[Shortcut] | None = None

    def predict(self, data: Data) -> Outputs:
        """For each row: ``attributions`` [rows, features] (of several classes [rows, features,
        classes]), ``base_values`` and ``values``: base and attributions of a row add up to its
        value. Besides ``features``, and of one element ``method`` (tree, linear or permutation),
        ``link`` (identity; logit: values are log-odds) and ``output``, the output that is meant.

        Raises:
            Invalid: ``explain.output`` where the model gives no number to explain; what the model
                raises.
            Unavailable: ``extra.missing`` without shap.
        """
        shap = shap_library()
        given = self._asked.prepared(data) if isinstance(self._asked, Processed) else data
        rows = self._coding.coded(given)
        background = self._coding.background()
        asked = self._ask(rows[:1])
        if self._shortcuts is None:  # what does not hold for the background is not tried again
            some = background[:CHECKED]
            self._shortcuts = [
                one
                for one in (_by_tree, _by_linear)
                if self._shortcut(shap, one, some, background, asked) is not None
            ]
        for explain in self._shortcuts:
            found = self._shortcut(shap, explain, rows, background, asked)
            if found is not None:
                return self._told("linear" if explain is _by_linear else "tree", *found)
        return self._told("permutation", "identity", *_by_asking(shap, asked, rows, background))

    def _ask(self, probe: Floats) -> Ask:
        """The output that is explained, of coded rows."""
        first = self.inner.predict(self._coding.plain(probe))
        if self._output not in first:
            raise Invalid(
                "explain.output",
                f"The model gives {', '.join(first)}, and no probability or number to explain.",
                hint="Explanations are of regressions and of classifiers with probabilities.",
            )
        return lambda rows: np.asarray(
            self.inner.predict(self._coding.plain(rows))[self._output], dtype=np.float64
        )

    def _shortcut(
        self, shap: Any, explain: Shortcut, rows: Floats, background: Floats, asked: Ask
    ) -> tuple[str, Floats, Floats, Floats] | None:
        """Values by the make of a model, where there are such and they add up to its answers."""
        if self.inner.recipe.takes != "matrix" and not self._coding.numeric:
            return None
        try:
            found = explain(shap, self.inner, rows, background)
        except Exception:  # noqa: BLE001 - by all kinds it says that it does not know a model
            return None
        if found is None:
            return None
        link, attributions, base = found
        values = attributions.sum(axis=1) + base
        answers = 1 / (1 + np.exp(-values)) if link == "logit" else values
        right = asked(rows)
        if answers.shape != right.shape or not np.allclose(answers, right, rtol=NEAR, atol=NEAR):
            return None
        return link, attributions, np.broadcast_to(base, values.shape), values

    def _told(
        self, method: str, link: str, attributions: Floats, base: Floats, values: Floats
    ) -> Outputs:
        return {
            "attributions": attributions,
            "base_values": np.asarray(base, dtype=np.float64),
            "values": values,
            "features": np.array(self.features),
            "method": np.array([method]),
            "link": np.array([link]),
            "output": np.array([self._output]),
        }


def _by_tree(
    shap: Any, model: LoadedModel, rows: Floats, background: Floats
) -> tuple[str, Floats, Any] | None:
    """Exact values of trees, as probabilities for classifiers."""
    wanted = "raw" if model.signature.task == "regression" else "probability"
    explainer = shap.TreeExplainer(
        model.model,
        data=background,
        feature_perturbation="interventional",
        model_output=wanted,
    )
    found = np.asarray(explainer.shap_values(rows, check_additivity=False), dtype=np.float64)
    base = np.asarray(explainer.expected_value, dtype=np.float64).ravel()
    if model.signature.task == "multiclass":
        return ("identity", found, base) if found.ndim == 3 else None
    if found.ndim == 3:  # one for each of two classes, or of one output
        found = found[:, :, -1]
    return "identity", found, base[-1]


def _by_linear(
    shap: Any, model: LoadedModel, rows: Floats, background: Floats
) -> tuple[str, Floats, Any] | None:
    """Exact values of linear models; of two classes as log-odds."""
    if not hasattr(model.model, "coef_") or model.signature.task == "multiclass":
        return None
    masker = shap.maskers.Independent(background, max_samples=len(background))
    explainer = shap.LinearExplainer(model.model, masker)
    found = np.asarray(explainer.shap_values(rows), dtype=np.float64)
    link = "identity" if model.signature.task == "regression" else "logit"
    if found.ndim == 3:
        found = found[:, :, -1]
    return link, found, float(np.asarray(explainer.expected_value).ravel()[-1])


def _by_asking(
    shap: Any, asked: Ask, rows: Floats, background: Floats
) -> tuple[Floats, Floats, Floats]:
    """Values by permutations; each row by itself, so that it does not depend on those beside it."""
    some = background[:MOST_ASKED]
    attributions, bases = [], []
    for row in rows:
        masker = shap.maskers.Independent(some, max_samples=len(some))
        state = np.random.get_state()
        try:
            explainer = shap.PermutationExplainer(asked, masker, seed=SEED)
            found = explainer(row.reshape(1, -1), max_evals=10 * (2 * len(row) + 1), silent=True)
        finally:
            np.random.set_state(state)
        attributions.append(found.values[0])
        bases.append(found.base_values[0])
    values, base = np.stack(attributions), np.stack(bases)
    return values, base, values.sum(axis=1) + base


class _Coding:
    """Columns as numbers and back: shap knows matrices of numbers alone.

    A text, a truth or a day stands as the place of its value among those of the background; what
    is not among them gets a place behind, for the one question.
    """

    def __init__(self, model: LoadedModel, background: Any) -> None:
        signature = model.signature
        self._frame = signature.frame
        if self._frame == "numpy":
            self._columns: tuple[Column, ...] = ()
            self.names = tuple(str(name) for name in background.columns)
        else:
            self._columns = signature.inputs
            self.names = tuple(column.name for column in signature.inputs)
        self._width = len(self.names)
        self.numeric = all(is_number(column) for column in self._columns)
        self._known: dict[str, list[Any]] = {}
        self._background = self.coded(background)

    def background(self) -> Floats:
        """The rows of the background, coded."""
        return self._background

    def coded(self, data: Data) -> Floats:
        """[rows, features] of floats."""
        if self._frame == "numpy":
            plain = data.to_numpy() if hasattr(data, "to_numpy") else data
            return to_matrix(np.asarray(plain), (), self._width)
        frame = to_polars(data, self._columns)
        found = np.empty((rows_of(frame), self._width))
        for at, column in enumerate(self._columns):
            values = frame[column.name].to_list()
            found[:, at] = (
                [np.nan if one is None else float(one) for one in values]
                if _reckons(column)
                else self._places(column.name, values)
            )
        return found

    def _places(self, name: str, values: Sequence[Any]) -> list[float]:
        known = self._known.setdefault(name, [])
        places = {value: at for at, value in enumerate(known)}
        for value in values:
            if value is not None and value not in places:
                places[value] = len(known)
                known.append(value)
        return [-1.0 if value is None else float(places[value]) for value in values]

    def plain(self, rows: Floats) -> Any:
        """Coded rows as the model takes them."""
        if self._frame == "numpy":
            return rows
        return {column.name: self._column(column, rows[:, at]) for at, column in
                enumerate(self._columns)}  # fmt: skip

    def _column(self, column: Column, values: Array) -> list[Any]:
        if not _reckons(column):
            known = self._known[column.name]
            return [None if at < 0 else known[int(at)] for at in values.tolist()]
        if column.type.startswith(("int", "uint")):
            return [None if one != one else int(one) for one in values.tolist()]
        return [None if one != one and column.nullable else one for one in values.tolist()]


def _reckons(column: Column) -> bool:
    return is_number(column) and column.type != "bool"


def explained(store: Reads, tree: str) -> Explained:
    """What explains the answers of the model in a tree: the original, asked as it was trained.

    Raises:
        Invalid: ``explain.background`` where no rows were kept with it.
        Unavailable: ``extra.missing``; what loading raises.
    """
    import polars as pl  # noqa: PLC0415 - heavy, and few ask for this

    shap_library()
    entry = store.get(tree, BACKGROUND)
    if entry is None:
        raise Invalid(
            "explain.background",
            "No rows that it learned from were kept with this model version.",
            hint="Train it again: versions keep a sample of their rows since then.",
        )
    background = pl.read_parquet(io.BytesIO(store.read(entry.digest)))
    return Explained(processed(store, tree, load_original(store, tree)), background)


def shap_library() -> Any:
    """Shap itself.

    Raises:
        Unavailable: ``extra.missing``.
    """
    check_explains()
    import shap  # noqa: PLC0415 - heavy, and an extra

    return shap
