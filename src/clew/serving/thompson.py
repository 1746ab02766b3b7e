"""Thompson sampling: how many requests each arm gets, from what is known of its rewards.

Numbers in, numbers out. An arm is asked with the probability that it is the best one under the
posterior, computed rather than drawn, so that the propensity of every prediction is known exactly
(randomised probability matching: Scott, "A modern Bayesian look at the multi-armed bandit", 2010).
Beta posteriors for rewards from 0 to 1 as in Agrawal and Goyal ("Further optimal regret bounds for
Thompson sampling", AISTATS 2013); normal ones for any number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from clew.base.records.traffic import Rollout
from clew.serving.sequential import Sums

_POINTS = 2001
_REACH = 8.0
_Z = 1.959964


class Posterior(Struct, frozen=True, kw_only=True):
    """What is known of an arm's mean reward.

    ``a`` and ``b`` of a Beta; or mean and standard deviation of a normal distribution.
    ``best``: the chance that it is the best arm; ``low`` to ``high``: its middle 95 %.
    """

    kind: str
    a: float
    b: float
    mean: float
    sd: float
    outcomes: int
    low: float = 0.0
    high: float = 0.0
    best: float = 0.0


class Allocation(Struct, frozen=True, kw_only=True):
    """Arm → its share of the requests (they add up to 1), and arm → what is known of it."""

    shares: dict[str, float]
    posteriors: dict[str, Posterior]


def allocate(rollout: Rollout, arms: Sequence[str], sums: Mapping[str, Sums]) -> Allocation:
    """The shares of the arms now: the chance of being the best, and at least ``floor`` each."""
    if rollout.reward == "binary":
        known = [_beta(sums.get(arm, Sums()), rollout.goal) for arm in arms]
    else:
        known = _normals([sums.get(arm, Sums()) for arm in arms])
    best = _best(known, rollout.goal)
    floor = min(rollout.floor, 1 / len(arms))
    rest = 1 - floor * len(arms)
    return Allocation(
        shares={arm: floor + rest * one for arm, one in zip(arms, best, strict=True)},
        posteriors={
            arm: _with(one, chance) for arm, one, chance in zip(arms, known, best, strict=True)
        },
    )


def _with(one: Posterior, best: float) -> Posterior:
    low, high = one.mean - _Z * one.sd, one.mean + _Z * one.sd
    if one.kind == "beta":
        grid = np.linspace(0, 1, _POINTS)
        below = _distribution(one, grid)[1]
        low, high = (float(np.interp(share, below, grid)) for share in (0.025, 0.975))
    return Posterior(
        kind=one.kind, a=one.a, b=one.b, mean=one.mean, sd=one.sd, outcomes=one.outcomes,
        low=low, high=high, best=best,
    )  # fmt: skip


def _beta(sums: Sums, goal: str) -> Posterior:
    del goal
    good = min(max(sums.total, 0.0), sums.units)
    a, b = 1 + good, 1 + sums.units - good
    whole = a + b
    spread = math.sqrt(a * b / (whole + 1)) / whole
    return Posterior(kind="beta", a=a, b=b, mean=a / whole, sd=spread, outcomes=sums.outcomes)


def _normals(sums: Sequence[Sums]) -> list[Posterior]:
    """Normal posteriors with the pooled variance of single rewards, around the pooled mean.

    The prior has the weight of one reward. Without two rewards anywhere all arms are alike.
    """
    count, total = sum(one.units for one in sums), sum(one.total for one in sums)
    middle = total / count if count else 0.0
    within = sum(one.squares - one.total**2 / one.units for one in sums if one.units)
    freedom = count - sum(1 for one in sums if one.units)
    variance = max(within / freedom if freedom >= 1 else 1.0, 1e-12)
    between = max((one.mean - middle) ** 2 for one in sums if one.units) if count else 0.0
    prior = variance + between
    found = []
    for one in sums:
        precision = 1 / prior + one.units / variance
        mean = (middle / prior + one.total / variance) / precision
        sd = math.sqrt(1 / precision)
        found.append(
            Posterior(kind="normal", a=mean, b=sd, mean=mean, sd=sd, outcomes=one.outcomes)
        )
    return found


def _best(known: Sequence[Posterior], goal: str) -> list[float]:
    """The chance of each to have the greatest (smallest) mean: one integral each, on a grid that
    is dense where the posteriors are.
    """
    if len(known) == 1:
        return [1.0]
    grid = _grid(known)
    densities, belows = zip(*(_distribution(one, grid) for one in known), strict=True)
    chances = []
    for at, density in enumerate(densities):
        others = [below for other, below in enumerate(belows) if other != at]
        passed = np.prod([below if goal == "max" else 1 - below for below in others], axis=0)
        chances.append(float(_integral(density * passed, grid)[-1]))
    whole = sum(chances)
    return [chance / whole for chance in chances]


def _grid(known: Sequence[Posterior]) -> Any:
    parts = [
        np.linspace(one.mean - _REACH * one.sd, one.mean + _REACH * one.sd, _POINTS)
        for one in known
    ]
    grid = np.unique(np.concatenate(parts))
    if known[0].kind == "beta":
        grid = np.unique(np.clip(grid, 0.0, 1.0))
    return grid


def _distribution(one: Posterior, grid: Any) -> tuple[Any, Any]:
    """Density and distribution function on a grid that reaches beyond both tails."""
    if one.kind == "beta":
        log_size = math.lgamma(one.a + one.b) - math.lgamma(one.a) - math.lgamma(one.b)
        inner = np.clip(grid, 1e-300, 1 - 1e-16)
        log = (one.a - 1) * np.log(inner) + (one.b - 1) * np.log1p(-inner)
        density = np.exp(log + log_size)
    else:
        density = np.exp(-0.5 * ((grid - one.mean) / one.sd) ** 2)
    below = _integral(density, grid)
    return density / below[-1], below / below[-1]


def _integral(values: Any, grid: Any) -> Any:
    """The running integral by trapezoids, 0 at the first point."""
    areas = (values[1:] + values[:-1]) / 2 * np.diff(grid)
    return np.concatenate([[0.0], np.cumsum(areas)])
