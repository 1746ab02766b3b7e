"""Whether a converted model answers as the original does: row by row, also where it is delicate.

Knows two models and rows; no format and no store. The check is strict: labels are equal on every
row, numbers within the tolerance written down with the report, and what one form refuses the other
refuses too.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from clew.base.records.parity import Difference, RowSet
from clew.models import rows as making
from clew.models.frames import Array
from clew.models.loading import LoadedModel
from clew.models.rows import Rows
from clew.models.tree_nodes import Tree, thresholds

PROBABILITY = 1e-6
"""How far a probability may be from the original's. A vote more or less in 100 trees is 0.01."""
RELATIVE = 1e-6
"""How far a value may be, as a share of the original's (or of its mean size on test rows)."""
SINGLE = 1e-5
"""The same for a model that computes in float32: the order of a sum alone moves the seventh digit,
and there are many sums one behind the other.
"""
_SHOWN = 5
_LABEL = 1e9
"""A wrong label stands before every number that differs, and behind a refusal."""
_PROBED = 256


class Refusals(Struct, frozen=True, kw_only=True):
    """Places of the columns in which the original refuses a value."""

    missing: tuple[int, ...] = ()
    infinite: tuple[int, ...] = ()
    large: tuple[int, ...] = ()
    huge: bool = False
    """Whether it refuses what a step before its trees has made too large for them."""


class Answers(Struct, frozen=True, kw_only=True):
    """What a model said of rows. ``refused``: row → why. Values of refused rows stand for none."""

    outputs: dict[str, Array]
    refused: dict[int, str]


def answers_of(model: LoadedModel, rows: Rows) -> Answers:
    """Ask for all rows; where that fails, by halves, until each refused row is alone."""
    parts: list[tuple[Array, dict[str, Array]]] = []
    refused: dict[int, str] = {}

    def ask(places: Array) -> None:
        try:
            parts.append((places, model.predict(rows.take(places).data())))
        except Exception as error:  # noqa: BLE001 - the user's model refuses in its own ways
            if len(places) == 1:
                refused[int(places[0])] = f"{type(error).__name__}: {error}"
                return
            half = len(places) // 2
            ask(places[:half])
            ask(places[half:])

    if rows.count:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            ask(np.arange(rows.count))
    return Answers(outputs=_together(parts, rows.count), refused=refused)


def _together(parts: Sequence[tuple[Array, dict[str, Array]]], count: int) -> dict[str, Array]:
    outputs: dict[str, Array] = {}
    for places, found in parts:
        for name, values in found.items():
            if name not in outputs:
                kind = values.dtype if values.dtype.kind == "f" else object
                outputs[name] = np.zeros((count, *values.shape[1:]), dtype=kind)
            outputs[name][places] = values
    return outputs


def refusals_of(model: LoadedModel, rows: Rows) -> Refusals:
    """Which columns the model wants whole, finite, and within float32.

    Raises:
        NotImplementedError: a very wide model whose columns differ in that.
    """
    floats = [at for at, kind in enumerate(rows.kinds) if kind in {"float", "text"}]
    probed = making.evenly(floats, _PROBED)

    def refused(values: Sequence[Any], kinds: Sequence[str]) -> tuple[int, ...]:
        places = [at for at in probed if rows.kinds[at] in kinds]
        tried = rows.copies(len(places) * len(values))
        for number, at in enumerate(places):
            for step, value in enumerate(values):
                tried.put(at, number * len(values) + step, value)
        said = answers_of(model, tried).refused
        found = {places[row // len(values)] for row in said}
        if len(probed) < len(floats) and found not in (set(), set(places)):
            raise NotImplementedError("its columns differ in the values that they take")
        if len(probed) < len(floats) and found:
            return tuple(floats)
        return tuple(sorted(found))

    numbers = refused((np.nan,), ("float",))
    texts = refused((None,), ("text",))
    return Refusals(
        missing=tuple(sorted({*numbers, *texts})),
        infinite=refused((np.inf,), ("float",)),
        large=refused((1e39,), ("float",)),
        huge=bool(refused((1e300,), ("float",))),
    )


def row_sets(
    original: LoadedModel,
    real: Rows,
    nullable: Sequence[bool],
    trees: Sequence[Tree],
    total: int,
    *,
    single: bool = False,
) -> list[tuple[str, str, Rows]]:
    """Name, meaning and rows of what both forms are asked. ``single``: it computes in float32."""
    sets = [("test", f"{real.count:,} of {total:,} test rows", real)]
    if trees:
        near = making.beside_thresholds(real, thresholds(trees))
        sets.append(("thresholds", "values at and right beside the thresholds of trees", near))
    sets.append(
        (
            "edges",
            "both sides of where the original's answer changes",
            _edges(original, real, single=single),
        )
    )
    sets.append(("random", "in the range of the data, and columns shuffled", making.random(real)))
    sets.append(
        ("extreme", "limits of float32 and of the data", making.extreme(real, negative=single))
    )
    sets.append(("infinite", "infinite, or beyond float32", making.infinite(real)))
    sets.append(("missing", "a value is missing", making.missing(real, nullable)))
    sets.append(("unseen", "texts that were not learned", making.unseen(real)))
    return [one for one in sets if one[2].count]


def _edges(original: LoadedModel, real: Rows, *, single: bool) -> Rows:
    first = real.take(slice(0, 1))
    names = list(original.predict(first.data()))
    scores = next((name for name in names if name != "label"), None)

    def labels(rows: Rows) -> Array:
        return answers_of(original, rows).outputs["label"]

    def values(rows: Rows) -> Array:
        if scores is None:
            return _decision(original, rows)
        found = answers_of(original, rows).outputs[scores]
        return found if found.ndim == 1 else found[:, 0]

    apart = {"step": making.SINGLE_STEP} if single else {}
    return making.edges(real, labels if "label" in names else None, values, **apart)


def _decision(original: LoadedModel, rows: Rows) -> Array:
    """What a model that gives labels alone decides by; nothing where it does not say."""
    decide = getattr(original.model, "decision_function", None)
    if decide is None:
        return np.zeros(rows.count)
    found = np.asarray(decide(original.input_of(rows.data())), dtype=np.float64)
    return found if found.ndim == 1 else found[:, 0]


def compare(
    name: str,
    about: str,
    rows: Rows,
    original: Answers,
    converted: LoadedModel,
    *,
    scale: float,
    relative: float = RELATIVE,
) -> RowSet:
    """Both forms on the same rows. ``scale``: the mean size of the original's values;
    ``relative``: how far values may be, as a share of it or of their own size.
    """
    theirs = answers_of(converted, rows)
    beyond = np.zeros(rows.count)
    where = np.full(rows.count, "", dtype=object)
    largest: dict[str, float] = {}
    answered = np.ones(rows.count, dtype=bool)
    answered[[*original.refused, *theirs.refused]] = False
    for output, values in original.outputs.items():
        if not answered.any():
            break
        by, over = _differences(output, values, theirs.outputs[output], answered, relative, scale)
        largest[output] = float(by.max())
        worse = over > beyond
        beyond[worse], where[worse] = over[worse], output
    for row in original.refused.keys() ^ theirs.refused.keys():
        beyond[row], where[row] = np.inf, "refused"
    differing = np.flatnonzero(where != "")
    worst = differing[np.argsort(-beyond[differing], kind="stable")][:_SHOWN]
    return RowSet(
        name=name,
        about=about,
        rows=rows.count,
        refused=len(original.refused.keys() & theirs.refused.keys()),
        differing=len(differing),
        largest=largest,
        worst=tuple(_shown(int(row), str(where[row]), rows, original, theirs) for row in worst),
    )


def _differences(
    output: str, mine: Array, theirs: Array, answered: Array, relative: float, scale: float
) -> tuple[Array, Array]:
    """By how much each row differs, and how many times the tolerance that is (0: within)."""
    if mine.dtype.kind != "f":
        differ = np.array([a != b for a, b in zip(mine.tolist(), theirs.tolist(), strict=True)])
        by = (differ & answered).astype(np.float64)
        return by, by * _LABEL
    a = np.asarray(mine, dtype=np.float64).reshape(len(mine), -1)
    b = np.asarray(theirs, dtype=np.float64).reshape(len(mine), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        by = np.abs(a - b)
        by = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, by)
        by = np.where(np.isnan(by), np.finfo(np.float64).max, by)
        allowed = (
            PROBABILITY
            if output in {"probability", "probabilities"}
            else relative * np.maximum(np.abs(a), scale)
        )
        over = np.where(by > allowed, by / np.maximum(allowed, 1e-300), 0.0)
    by[~answered], over[~answered] = 0.0, 0.0
    return by.max(axis=1), over.max(axis=1)


def _shown(row: int, output: str, rows: Rows, original: Answers, converted: Answers) -> Difference:
    mine, theirs = _answer(row, original), _answer(row, converted)
    by = 1.0
    if output not in {"label", "refused"}:
        found = np.abs(
            np.asarray(original.outputs[output][row], dtype=np.float64)
            - np.asarray(converted.outputs[output][row], dtype=np.float64)
        )
        by = float(np.nan_to_num(found.max(), nan=np.finfo(np.float64).max))
    return Difference(
        row=row, inputs=rows.shown(row), original=mine, converted=theirs, output=output, by=by
    )


def _answer(row: int, said: Answers) -> dict[str, Any]:
    if row in said.refused:
        return {"refused": said.refused[row]}
    return {name: _number(values[row]) for name, values in said.outputs.items()}


def _number(value: Any) -> Any:
    listed = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(listed, list):
        return [_number(one) for one in listed]
    if isinstance(listed, float) and not np.isfinite(listed):
        return str(listed)
    return listed


def tolerances(task: str, scale: float, relative: float = RELATIVE) -> dict[str, str]:
    """What may differ, in words."""
    if task == "regression":
        return {
            "prediction": f"{relative:g} of the original's value, or of {scale:.6g} (its mean size "
            "on test rows) where that is more"
        }
    return {"label": "equal on every row", "probability": f"{PROBABILITY:g}"}
