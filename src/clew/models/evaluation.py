"""Models on the test rows: outputs, metrics, slices, latency, and what a report shows of them.

Knows no gate and no store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.models.curves import charts
from clew.models.loading import LoadedModel, Outputs, check_outputs
from clew.models.metrics import METRICS, Metric, Scored, available, metrics_of
from clew.models.targets import class_text, score

FEW_VALUES = 20
"""A numeric column of more distinct values than this is sliced by its quartiles."""
_LATENCY_CALLS = 200
_LATENCY_BUDGET_S = 2.0


class Evaluated(Struct, frozen=True, kw_only=True):
    """A model's outputs on the test rows and what they are worth."""

    model: LoadedModel
    outputs: Outputs
    scored: Scored
    metrics: dict[str, float]


class Champion(Struct, frozen=True, kw_only=True):
    """The model to beat. ``evaluated`` is None where it cannot be run on these test rows, for the
    reason in ``why_not``; ``metrics`` are then those recorded when it was judged.
    """

    name: str
    evaluated: Evaluated | None
    metrics: dict[str, float]
    why_not: str = ""


class Slice(Struct, frozen=True, kw_only=True):
    """Test rows that share a value: how many, and how well the model does on them."""

    value: str
    rows: int
    metric: float


class Slices(Struct, frozen=True, kw_only=True):
    """Slices large enough to judge, worst first, and how many rows are in none of them."""

    overall: float
    judged: tuple[Slice, ...]
    left_out_rows: int
    undefined: tuple[str, ...] = field(default=())


def evaluate(model: LoadedModel, features: pl.DataFrame, truth: pl.Series) -> Evaluated:
    """Ask a model for all rows and compare with the truth."""
    return judged(model, check_outputs(model.predict(features), features.height), truth)


def judged(model: LoadedModel, outputs: Outputs, truth: pl.Series) -> Evaluated:
    """What a model has answered already, compared with the truth."""
    scored = score(model.signature, truth.to_list(), outputs)
    return Evaluated(model=model, outputs=outputs, scored=scored, metrics=metrics_of(scored))


def try_champion(
    load: Callable[[], LoadedModel | None],
    features: pl.DataFrame,
    truth: pl.Series,
    *,
    name: str,
    recorded: Mapping[str, float],
) -> Champion | None:
    """The champion on the same rows; None where there is none."""
    try:
        model = load()
        if model is None:
            return None
        found = evaluate(model, features, truth)
    except Exception as error:  # noqa: BLE001 - an old model on new columns may fail in any way
        return Champion(name=name, evaluated=None, metrics=dict(recorded), why_not=str(error))
    return Champion(name=name, evaluated=found, metrics=found.metrics)


class Bench(Struct, frozen=True, kw_only=True):
    """A candidate, the champion, and the labelled test rows that both are judged on."""

    frame: pl.DataFrame
    target: str
    candidate: Evaluated
    champion: Champion | None

    def metric(self, name: str) -> Metric:
        """A metric that the candidate can be judged by.

        Raises:
            Invalid: ``gate.metric``.
        """
        task = self.candidate.scored.task
        there = {metric.name: metric for metric in available(self.candidate.scored)}
        if name in there:
            return there[name]
        known = name in {metric.name for metric in METRICS[task]}
        why = "needs probabilities, which the model does not give" if known else "is not known"
        raise Invalid(
            "gate.metric",
            f"The metric {name!r} {why} for a {task} model.",
            hint=f"Use one of {', '.join(there)}.",
        )

    def slices(self, column: str, metric: Metric, min_rows: int) -> Slices:
        """The candidate's metric by the values of a column; quartiles of a number of many.

        Raises:
            Invalid: ``gate.column``.
        """
        if column not in self.frame.columns:
            raise Invalid(
                "gate.column",
                f"The test rows have no column {column!r}.",
                hint=f"Use one of {', '.join(self.frame.columns)}.",
            )
        labels = _slice_labels(self.frame[column])
        judged: list[Slice] = []
        undefined: list[str] = []
        left_out = 0
        for label in sorted(set(labels)):
            rows = np.flatnonzero(labels == label)
            value = metric.of(self.candidate.scored.take(rows)) if len(rows) >= min_rows else np.nan
            if len(rows) < min_rows:
                left_out += len(rows)
            elif np.isfinite(value):
                judged.append(Slice(value=str(label), rows=len(rows), metric=value))
            else:
                undefined.append(str(label))
        overall = metric.of(self.candidate.scored)
        judged.sort(key=lambda one: metric.better_by(one.metric, overall))
        return Slices(
            overall=overall,
            judged=tuple(judged),
            left_out_rows=left_out,
            undefined=tuple(undefined),
        )

    def latency_ms(self) -> tuple[float, float, int]:
        """Median and 95th percentile of answers to single rows, and how many were timed."""
        features = self.frame.drop(self.target)
        model = self.candidate.model
        rows = [features[number] for number in range(min(features.height, 50))]
        for row in rows[:10]:
            model.predict(row)
        spent_ms: list[float] = []
        end_s = time.perf_counter() + _LATENCY_BUDGET_S
        while len(spent_ms) < _LATENCY_CALLS and time.perf_counter() < end_s:
            start_s = time.perf_counter()
            model.predict(rows[len(spent_ms) % len(rows)])
            spent_ms.append((time.perf_counter() - start_s) * 1e3)
        median, high = np.quantile(spent_ms, [0.5, 0.95])
        return float(median), float(high), len(spent_ms)

    def charts(self) -> dict[str, Any]:
        """Charts of the candidate and, beside them, of the champion."""
        found: dict[str, Any] = {"candidate": charts(self.candidate.scored)}
        if self.champion is not None and self.champion.evaluated is not None:
            found["champion"] = charts(self.champion.evaluated.scored)
        return found

    def predictions(self) -> pl.DataFrame:
        """Row by row: the truth, what the candidate said, and what the champion said."""
        columns: dict[str, Any] = {"truth": self.frame[self.target]}
        columns |= _columns("candidate", self.candidate)
        if self.champion is not None and self.champion.evaluated is not None:
            columns |= _columns("champion", self.champion.evaluated)
        return pl.DataFrame(columns)


def _columns(who: str, evaluated: Evaluated) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in evaluated.outputs.items():
        if values.ndim == 1:
            found[f"{who}.{name}"] = values
        else:
            classes = evaluated.model.signature.classes
            found |= {f"{who}.{one}": values[:, at] for at, one in enumerate(classes)}
    return found


def _slice_labels(column: pl.Series) -> np.ndarray[Any, np.dtype[np.str_]]:
    if column.dtype.is_numeric() and column.n_unique() > FEW_VALUES:
        quartiles = column.qcut(4, allow_duplicates=True).cast(pl.String).fill_null("missing")
        return np.array(quartiles.to_list())
    texts = ["missing" if value is None else class_text(value) for value in column.to_list()]
    return np.array(texts)
