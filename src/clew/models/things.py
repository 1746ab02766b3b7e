"""The nine things that are kept of a trained model, made when it is packaged, as files of its tree.

Knows models, frames and profiles; no store and no rows. None of them can fail a training: what
could not be made is noted, with the reason.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from clew.base.records.cards import Learned, Metrics, Summary, Trained
from clew.base.records.reports import Importances, Weight
from clew.models.curves import charts
from clew.models.evaluation import Evaluated, evaluate, judged
from clew.models.frames import Array
from clew.models.layout import (
    CARD,
    CHARTS,
    CONFIGURATION,
    IMPORTANCES,
    LEARNED,
    METRICS,
    NOTES,
    RUNTIME,
    SUMMARY,
)
from clew.models.learned import deviations_of, learned_by, own_importances, settings_of
from clew.models.loading import LoadedModel, Outputs
from clew.models.permuting import permuted
from clew.quality import profile

MOST_FEATURES = 60
"""So many features are shuffled: the first by what the model itself says of them."""

SEEN_ROWS = 20_000
"""Metrics and charts are of so many rows at most, spread evenly over all."""

LEAST_ROWS = 200
TRAIN_S = 2.0
"""About how long the model may be asked about rows that it learned from."""

_T = TypeVar("_T")


class Made(Struct, frozen=True, kw_only=True):
    """A model as it was packaged: the object, how it is asked, and the rows around it."""

    model: Any
    loaded: LoadedModel
    train: pl.DataFrame
    train_target: pl.Series
    test: pl.DataFrame
    test_target: pl.Series
    features: dict[str, Any]
    """The profile of the training rows."""
    predictions: dict[str, Any]
    """The profile of its answers on test rows."""
    outputs: Outputs
    """Those answers: on :func:`some` of the test rows."""
    outputs_s: float
    """How long it took to give them."""


def some(rows: pl.DataFrame, most: int = SEEN_ROWS) -> pl.DataFrame:
    """At most so many rows, spread evenly."""
    return rows if rows.height <= most else rows.gather_every(-(-rows.height // most))


def files_of(made: Made, trained: Trained, environment: Mapping[str, str]) -> dict[str, bytes]:
    """The files that are kept with the model, by their path in its tree."""
    notes: list[str] = []
    test, charted = _on_test(made, notes)
    metrics = _try("metrics on the training rows", notes, lambda: _metrics(made, test), Metrics())
    importances = Importances()
    names = _inputs(made)
    if test is not None:
        importances = _try(
            "importances", notes, lambda: _importances(made, names, notes), importances
        )
    empty = Learned(kind=type(made.model).__qualname__)
    learned = _try(
        "the summary of what was learned", notes, lambda: learned_by(made.model, names), empty
    )
    if learned.by in {"arrays", "nothing"}:
        notes.append(_unknown_kind(learned))
    if not trained.learning:
        notes.append("There is no learning curve: the trial reported no metric.")
    settings: dict[str, str] = {}
    estimator = _try("the estimator's settings", notes, lambda: settings_of(made.model), settings)
    things: dict[str, object] = {
        RUNTIME: replace(trained.runtime, machine=_machine()),
        CONFIGURATION: replace(
            trained.configuration,
            task=made.loaded.signature.task,
            estimator=estimator,
            environment=dict(environment),
        ),
        IMPORTANCES: importances,
        METRICS: metrics,
        CHARTS: {**charted, "learning": trained.learning},
        LEARNED: learned,
        SUMMARY: _try("summary statistics", notes, lambda: _summary(made), Summary()),
        CARD: trained.text,
        NOTES: notes,
    }
    return {path: msgspec.json.encode(_finite(value)) for path, value in things.items()}


def _try(what: str, notes: list[str], make: Callable[[], _T], otherwise: _T) -> _T:
    """A thing, or what stands for it; a model may fail in any way when it is looked at."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - no chart is worth a training
        notes.append(f"{what[:1].upper()}{what[1:]}: not made ({type(error).__name__}: {error}).")
        return otherwise


def _on_test(made: Made, notes: list[str]) -> tuple[Evaluated | None, dict[str, Any]]:
    """How the model does on the frozen test rows, and the charts of that."""
    truth = some(made.test_target.to_frame()).to_series()
    known = truth.is_not_null().to_numpy()
    if not known.any():
        notes.append("The test set has no row with a known target: no metrics, no charts.")
        return None, {}
    found = _try("metrics on the test rows", notes, partial(_judged, made, truth, known), None)
    if found is None:
        return None, {}
    if len(truth) < made.test.height:
        notes.append(f"Metrics and charts are of {len(truth):,} of the test rows, spread evenly.")
    return found, _try("charts", notes, lambda: charts(found.scored), {})


def _judged(made: Made, truth: pl.Series, known: Array) -> Evaluated:
    """Its answers on the test rows whose target is known."""
    outputs = {name: values[known] for name, values in made.outputs.items()}
    return judged(made.loaded, outputs, truth.drop_nulls())


def _metrics(made: Made, test: Evaluated | None) -> Metrics:
    known = Metrics() if test is None else Metrics(test=test.metrics, test_rows=test.scored.rows)
    target = made.train_target.name
    labelled = made.train.with_columns(made.train_target).drop_nulls(target)
    a_row_s = made.outputs_s / max(1, min(SEEN_ROWS, made.test.height))
    rows = some(labelled, max(LEAST_ROWS, min(SEEN_ROWS, int(TRAIN_S / max(a_row_s, 1e-9)))))
    if not rows.height:
        return known
    train = evaluate(made.loaded, rows.drop(target), rows[target])
    return replace(known, train=train.metrics, train_rows=rows.height)


def _importances(made: Made, names: Sequence[str], notes: list[str]) -> Importances:
    deviations = dict(deviations_of(made.features))
    nothing: tuple[str, dict[str, float]] = ("", {})
    kind, own = _try(
        "the model's own importances", notes,
        lambda: own_importances(made.model, names, deviations), nothing,
    )  # fmt: skip
    order = sorted(names, key=lambda name: -own.get(name, 0.0))
    if len(order) > MOST_FEATURES:
        notes.append(f"{MOST_FEATURES} of {len(order)} features were shuffled for importances.")
    target = made.test_target.name
    rows = made.test.with_columns(made.test_target).drop_nulls(target)
    asked = (made.loaded, rows.drop(target), rows[target], order[:MOST_FEATURES])
    found = _try("permutation importances", notes, lambda: permuted(*asked), None)
    weights = sorted(own.items(), key=lambda one: (-one[1], one[0]))[: 2 * MOST_FEATURES]
    mine = Importances(
        own_kind=kind, own=tuple(Weight(feature=name, value=value) for name, value in weights)
    )
    if found is None:
        return mine
    notes += found.notes
    return replace(
        mine,
        metric=found.metric,
        rows=found.rows,
        repeats=found.repeats,
        permuted=tuple(found.weights),
    )


def _summary(made: Made) -> Summary:
    columns = made.features["columns"]
    total = max(1, made.features["rows"])
    return Summary(
        rows={"train": made.train.height, "test": made.test.height},
        columns=len(columns),
        missing={name: one["nulls"] / total for name, one in columns.items() if one["nulls"]},
        constant=tuple(name for name, one in columns.items() if one.get("distinct") == 1),
        target={
            "train": _target(made, made.train_target),
            "test": _target(made, made.test_target),
        },
        predictions=made.predictions.get("columns", {}),
    )


def _column(values: pl.Series) -> dict[str, Any]:
    found: dict[str, Any] = profile(values.to_frame())["columns"][values.name]
    return found


def _target(made: Made, values: pl.Series) -> dict[str, Any]:
    """Of classes how often each is there, of numbers how they are spread."""
    is_number = made.loaded.signature.task == "regression"
    return _column(values if is_number or values.dtype.is_nested() else values.cast(pl.String))


def _inputs(made: Made) -> list[str]:
    signature = made.loaded.signature
    if signature.frame == "numpy":
        return list(made.train.columns)
    return [column.name for column in signature.inputs]


def _unknown_kind(learned: Learned) -> str:
    if learned.by == "nothing":
        return f"What {learned.kind} learned cannot be told: its attributes hold no numbers."
    return (
        f"What {learned.kind} learned is told by the arrays among its attributes: it is neither "
        "linear, nor trees, nor a network that is known here."
    )


def _machine() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
    }


def _finite(value: object) -> object:
    """The same without NaN and infinities, which JSON has not."""
    return msgspec.json.decode(msgspec.json.encode(value))
