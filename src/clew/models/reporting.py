"""The evaluation report: metrics with intervals, slices, charts and importances on the test rows.

Knows a bench; no store and no verdict. A part that cannot be made becomes a note and never fails a
gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from msgspec import Struct

from clew.base.errors import ClewError
from clew.base.records.reports import GroupMeasured, Importances, Measured, SliceReport
from clew.models.bootstrap import interval
from clew.models.evaluation import Bench
from clew.models.metrics import Metric, available
from clew.models.permuting import permuted
from clew.models.slicing import MOST_GROUPS, labels_of, slices, suggested

CONFIDENCE = 0.95
LEAST_GROUP = 30
MOST_FEATURES = 60

_T = TypeVar("_T")


class Wished(Struct, frozen=True, kw_only=True):
    """What the author of a gate wants in the report besides."""

    slices: tuple[str, ...] = ()
    query: str = ""


def report_of(bench: Bench, wished: Wished, importances: Importances | None) -> dict[str, Any]:
    """The report as builtins; ``importances``: known already, of the same rows."""
    notes: list[str] = []
    scored = bench.candidate.scored
    there = available(scored)
    groups = scored.groups
    return {
        "task": scored.task,
        "rows": scored.rows,
        "confidence": CONFIDENCE,
        "measured": [_measured(bench, metric) for metric in there],
        "slices": _slices(bench, wished.slices, there, notes),
        "importances": importances or _tried(
            "Importances", notes, lambda: _importances(bench, notes), Importances()
        ),
        "charts": bench.charts(),
        "query": wished.query,
        "queries": 0 if groups is None else len(np.unique(groups)),
        "notes": notes,
    }  # fmt: skip


def _tried(what: str, notes: list[str], make: Callable[[], _T], otherwise: _T) -> _T:
    try:
        return make()
    except ClewError as error:
        notes.append(f"{what}: {error.message}")
    except Exception as error:  # noqa: BLE001 - a model or column of the user: anything may come
        notes.append(f"{what}: not made ({type(error).__name__}: {error}).")
    return otherwise


def _measured(bench: Bench, metric: Metric) -> Measured:
    found = interval(metric, bench.candidate.scored, confidence=CONFIDENCE)
    champion = bench.champion
    return Measured(
        name=metric.name,
        value=_defined(found.value),
        low=_defined(found.low),
        high=_defined(found.high),
        greater_is_better=metric.greater_is_better,
        champion=champion.metrics.get(metric.name) if champion else None,
    )


def _slices(
    bench: Bench, chosen: Sequence[str], there: Sequence[Metric], notes: list[str]
) -> list[SliceReport]:
    metric = next((one for one in there if math.isfinite(one.of(bench.candidate.scored))), None)
    if metric is None:
        return []
    leave_out = (bench.target, *chosen)
    asked = [*((by, True) for by in chosen), *(
        (by, False) for by in suggested(bench.frame, leave_out)
    )]  # fmt: skip
    found = []
    for by, named in asked:
        one = _tried(f"Slices by {by}", notes, lambda: _slice(bench, by, metric, named), None)  # noqa: B023 - called before the next turn
        if one is not None and one.groups:
            found.append(one)
        elif one is not None and named:
            notes.append(f"Slices by {by}: no group has {LEAST_GROUP} rows.")
    return found


def _slice(bench: Bench, by: str, metric: Metric, chosen: bool) -> SliceReport:
    labels = labels_of(bench.frame, by)
    found = slices(bench.candidate.scored, labels, metric, LEAST_GROUP, sure=True)
    return SliceReport(
        by=by,
        metric=metric.name,
        overall=_defined(found.overall),
        groups=tuple(
            GroupMeasured(
                value=one.value,
                rows=one.rows,
                metric=one.metric,
                low=one.low,
                high=one.high,
                gap=-metric.better_by(one.metric, found.overall),
            )
            for one in found.judged[:MOST_GROUPS]
        ),
        left_out_rows=found.left_out_rows,
        chosen=chosen,
    )


def _importances(bench: Bench, notes: list[str]) -> Importances:
    model = bench.candidate.model
    features = bench.frame.drop(bench.target)
    named = model.signature.frame != "numpy"
    names = [column.name for column in model.signature.inputs] if named else features.columns
    found = permuted(model, features, bench.frame[bench.target], names[:MOST_FEATURES])
    notes += found.notes
    return Importances(
        metric=found.metric,
        rows=found.rows,
        repeats=found.repeats,
        permuted=tuple(found.weights),
    )


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
