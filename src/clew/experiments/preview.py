"""What a search will cost, before it starts.

Values in, value out; knows no row and no trial.
"""

from __future__ import annotations

from clew.base.errors import Invalid
from clew.base.records import BracketPlan, SearchPreview
from clew.experiments.definitions import SearchDefinition
from clew.experiments.samplers import feasible_points
from clew.experiments.searchers import expected_steps, most_steps, rules_of
from clew.experiments.spaces import Space, grid_size

LIMITS = ("max_time_s", "max_cost_s", "patience")


def planned(definition: SearchDefinition, space: Space) -> int:
    """How many trials a search will have, if nothing ends it early.

    Raises:
        Invalid: ``grid.continuous``; ``search.invalid`` for too few trials; ``space.infeasible``
            for a grid of which no point keeps the constraints.
    """
    if definition.searcher != "grid":
        return rules_of(definition, definition.trials).trials
    size = _points(definition, space)
    if not size:
        raise Invalid(
            "space.infeasible",
            f"No point of the grid keeps: {'; '.join(definition.constraints)}.",
            hint="Loosen a constraint, or widen the space.",
        )
    return min(definition.trials, size) if definition.trials else size


def preview_of(
    step: str, definition: SearchDefinition, space: Space, step_s: float | None = None
) -> SearchPreview:
    """The numbers of a search; ``step_s``: seconds that a worker takes for one step.

    Raises: as :func:`planned`.
    """
    trials = planned(definition, space)
    rules = rules_of(definition, trials)
    expected = expected_steps(rules)
    return SearchPreview(
        step=step,
        searcher=definition.name,
        sampler=definition.sampler,
        metric=definition.metric,
        mode=definition.mode,
        trials=trials,
        brackets=tuple(BracketPlan(trials=one.trials, rungs=one.rungs) for one in rules.brackets),
        expected_steps=expected,
        most_steps=most_steps(rules),
        points=_points(definition, space) if _is_finite(space) else None,
        cost_s=None if step_s is None else step_s * expected,
        limits={name: getattr(definition, name) for name in LIMITS if getattr(definition, name)},
    )


def _points(definition: SearchDefinition, space: Space) -> int:
    if definition.constraints:
        return sum(1 for _ in feasible_points(space, definition.constraints))
    return grid_size(space)


def _is_finite(space: Space) -> bool:
    """Whether it can be counted at once: choices and steps only, and not too many of them."""
    if any(one.kind != "choice" and not one.step for one in space.values()):
        return False
    return grid_size({name: one for name, one in space.items() if not one.conditions}) <= 100_000
