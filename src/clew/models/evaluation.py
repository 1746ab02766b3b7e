"""Models on the test rows: outputs, metrics, slices, latency, and what a report shows of them.

Knows no gate and no store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.base.records import Signature
from clew.models.curves import charts
from clew.models.loading import LoadedModel, Outputs, check_outputs
from clew.models.metrics import METRICS, Ints, Metric, Scored, available, metrics_of
from clew.models.slicing import Slices, labels_of, slices
from clew.models.targets import score


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
    signature: Signature | None = None


def evaluate(
    model: LoadedModel, features: pl.DataFrame, truth: pl.Series, groups: Ints | None = None
) -> Evaluated:
    """Ask a model for all rows and compare with the truth; ``groups``: the query of each row."""
    return judged(model, check_outputs(model.predict(features), features.height), truth, groups)


def judged(
    model: LoadedModel, outputs: Outputs, truth: pl.Series, groups: Ints | None = None
) -> Evaluated:
    """What a model has answered already, compared with the truth."""
    scored = score(model.signature, truth.to_list(), outputs, groups)
    _check_finite(scored)
    return Evaluated(model=model, outputs=outputs, scored=scored, metrics=metrics_of(scored))


def _check_finite(scored: Scored) -> None:
    """Refuse to judge what is no number: no metric and no chart is defined by it."""
    kinds = [scored.labels] if scored.task == "regression" else []
    kinds += [] if scored.scores is None else [scored.scores]
    for values in kinds:
        wrong = ~np.isfinite(values.reshape(scored.rows, -1)).all(axis=1)
        if wrong.any():
            raise Invalid(
                "model.not_finite",
                f"The model answers {int(wrong.sum())} of {scored.rows} test rows with NaN or "
                f"infinity, the first of them row {int(wrong.argmax())}; they cannot be judged.",
                hint="Look at these rows, and impute what is missing in the model.",
            )


def try_champion(
    load: Callable[[], LoadedModel | None],
    features: pl.DataFrame,
    truth: pl.Series,
    *,
    name: str,
    recorded: Mapping[str, float],
    groups: Ints | None = None,
    signature: Signature | None = None,
) -> Champion | None:
    """The champion on the same rows; None where there is none."""
    try:
        model = load()
        if model is None:
            return None
        found = evaluate(model, features, truth, groups)
    except Exception as error:  # noqa: BLE001 - an old model on new columns may fail in any way
        return Champion(
            name=name,
            evaluated=None,
            metrics=dict(recorded),
            why_not=str(error),
            signature=signature,
        )
    return Champion(name=name, evaluated=found, metrics=found.metrics, signature=model.signature)


class Recorded(Struct, frozen=True, kw_only=True):
    """A request that an endpoint logged: its inputs by name, and what the champion answered."""

    id: str
    endpoint: str
    inputs: dict[str, list[Any]]
    outputs: dict[str, list[Any]]


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a gate may ask of besides answers on test rows.

    ``endpoints``: what is served now, by endpoint. ``trained``: the candidate as its training
    function returned it, before it was packaged for serving. ``answer``: what an endpoint makes of
    a v2 request with a model. ``functions``: endpoint → what puts its functions around a model.
    """

    size_bytes: int = 0
    champion_bytes: int | None = None
    endpoints: dict[str, Signature] = field(default_factory=dict)
    recorded: tuple[Recorded, ...] = ()
    functions: dict[str, Callable[[LoadedModel], LoadedModel]] = field(default_factory=dict)
    trained: Callable[[], LoadedModel] | None = None
    champion_trained: Callable[[], LoadedModel] | None = None
    answer: Callable[[LoadedModel, bytes], Mapping[str, Any]] | None = None


class Bench(Struct, frozen=True, kw_only=True):
    """A candidate, the champion, and the labelled test rows that both are judged on."""

    frame: pl.DataFrame
    target: str
    candidate: Evaluated
    champion: Champion | None
    around: Surroundings = field(default_factory=Surroundings)

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

    def slices(self, by: str, metric: Metric, min_rows: int) -> Slices:
        """The candidate's metric by a column or SQL expression, worst first, with intervals.

        Raises:
            Invalid: ``gate.column``.
        """
        labels = labels_of(self.frame, by)
        return slices(self.candidate.scored, labels, metric, min_rows, sure=True)

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
