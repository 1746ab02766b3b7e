"""When a search ends before its last trial: time, cost, and a best that no longer gets better.

Values in, values out; knows no clock and no trial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from clew.experiments.definitions import SearchDefinition


def spent(definition: SearchDefinition, time_s: float, cost_s: float) -> str:
    """Which budget is used up: ``time``, ``cost``, or '' for none."""
    if definition.max_time_s and time_s >= definition.max_time_s:
        return "time"
    if definition.max_cost_s and cost_s >= definition.max_cost_s:
        return "cost"
    return ""


def is_flat(definition: SearchDefinition, losses: Sequence[float | None]) -> bool:
    """Whether the last ``patience`` trials did not better those before by over ``min_delta``.

    ``losses``: the best of each trial, in the order of their numbers; None where there is none yet
    (then it is too early to say).
    """
    patience = definition.patience
    if not patience or len(losses) <= patience:
        return False
    before, last = losses[:-patience], losses[-patience:]
    if any(loss is None for loss in last):
        return False
    best = min((loss for loss in before if loss is not None), default=math.inf)
    newest = min(loss for loss in last if loss is not None)
    return math.isfinite(best) and newest >= best - definition.min_delta
