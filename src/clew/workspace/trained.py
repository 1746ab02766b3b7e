"""What is known of a training beside its model: how it ran, what it was told, what it reported.

Knows experiments and definitions; what is kept with the model, the room of models decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from clew.base.records import MetricPoint
from clew.base.records.card_words import CardText
from clew.base.records.cards import Configuration, Runtime, Span, Trained
from clew.base.records.trials import TrialDetail, UsageSample
from clew.experiments import Experiments
from clew.models import EvaluationDefinition
from clew.pipelines import StepDefinition

POINTS = 200
"""A learning curve has so many points at most, spread evenly over its steps."""

CURVES = 20


def trained_of(experiments: Experiments, trial: str, step: StepDefinition) -> Trained:
    """All that is known of the training that a trial won."""
    detail = experiments.detail(trial)
    evaluation = msgspec.convert(step.options["evaluation"], EvaluationDefinition)
    return Trained(
        runtime=_runtime(experiments, detail),
        configuration=Configuration(
            params=detail.trial.params,
            seed=detail.trial.seed,
            parameters=step.parameters,
            search=dict(step.options["search"]),
            space=dict(step.options["space"]),
            target=evaluation.target,
            task=evaluation.task,
            function=step.function,
            fingerprint=step.fingerprint,
        ),
        learning=_learning(detail.points),
        text=step.policy.card or CardText(),
    )


def _runtime(experiments: Experiments, detail: TrialDetail) -> Runtime:
    trial = detail.trial
    found, trials = experiments.of_change(trial.global_id)
    search = next((one for one in found if one.id == trial.experiment), None)
    mine = [one for one in trials if one.experiment == trial.experiment]
    took = search.finished_at - search.created_at if search and search.finished_at else None
    return Runtime(
        steps=trial.step,
        busy_s=trial.busy_s,
        restarts=trial.restarts,
        trials=len(mine),
        all_steps=sum(one.step for one in mine),
        all_busy_s=sum(one.busy_s for one in mine),
        search_s=None if took is None else took.total_seconds(),
        ended_by=search.ended_by if search else "",
        samples=len(detail.usage),
        usage=_usage(detail.usage),
    )


def _usage(samples: Sequence[UsageSample]) -> dict[str, Span]:
    values: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        for name, value in sample.values.items():
            values[name].append(value)
    return {
        name: Span(mean=sum(one) / len(one), most=max(one)) for name, one in sorted(values.items())
    }


def _learning(points: Sequence[MetricPoint]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for point in points:
        for name, value in point.metrics.items():
            curves[name].append((point.step, value))
    return {name: _thin(curves[name]) for name in sorted(curves)[:CURVES]}


def _thin(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    every = -(-len(curve) // POINTS)
    return [one for at, one in enumerate(curve) if at % every == 0 or at == len(curve) - 1]
