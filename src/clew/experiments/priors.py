"""What a search is given of an earlier one: its trials as told, or its best parameters first.

Knows rows of trials and spaces; nothing of how the earlier search went.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from clew.experiments.conditions import active, is_feasible
from clew.experiments.definitions import SearchDefinition
from clew.experiments.measuring import amounts, measured, violation
from clew.experiments.spaces import Distribution, Space, last_value, same
from clew.experiments.studies import Told

ENQUEUED = 3
"""How many of the best go first."""


class Prior(Struct, frozen=True, kw_only=True):
    """``told``: trials for the sampler; ``first``: parameters to try before all others."""

    told: tuple[Told, ...] = ()
    first: tuple[Mapping[str, object], ...] = ()


def prior_of(definition: SearchDefinition, space: Space, rows: Sequence[Any]) -> Prior:
    """Of the rows of an earlier search's trials, those that lie in this space."""
    sign = -1.0 if definition.mode == "max" else 1.0
    rules = measured(definition, space)
    found = [
        (row, sign * row.rungs[-1])
        for row in rows
        if row.state != "failed"
        and row.rungs
        and row.rungs[-1] is not None
        and math.isfinite(row.rungs[-1])
        and _lies_in(space, row.params)
        and is_feasible(definition.constraints, row.params)
    ]
    if definition.warm_start == "told":
        return Prior(
            told=tuple(
                Told(
                    params=row.params,
                    state="done" if row.state == "done" else "paused",
                    step=row.step,
                    loss=loss,
                    breaches=amounts(row.breaches[-1], rules) if row.breaches else (),
                )
                for row, loss in found
            )
        )
    ranked = sorted(
        found,
        key=lambda one: (
            bool(one[0].breaches) and violation(one[0].breaches[-1]) > 0,
            -len(one[0].rungs),
            one[1],
            one[0].number,
        ),
    )
    first: list[Mapping[str, object]] = []
    for row, _ in ranked:
        if row.params not in first:
            first.append(row.params)
    return Prior(first=tuple(first[:ENQUEUED]))


def _lies_in(space: Space, params: Mapping[str, object]) -> bool:
    wanted = active(space, params)
    return set(wanted) == set(params) and all(
        _may_be(one, params[name]) for name, one in wanted.items()
    )


def _may_be(one: Distribution, value: object) -> bool:
    if one.kind == "choice":
        return any(same(option, value) for option in one.options)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    whole = one.kind != "randint" or isinstance(value, int)
    on_step = not one.step or math.isclose(
        math.remainder(value - one.low, one.step), 0.0, abs_tol=1e-9 * max(1.0, abs(value))
    )
    return whole and on_step and one.low <= value <= last_value(one)
