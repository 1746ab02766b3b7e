"""Seeded trials of rollouts: made-up traffic, the real decisions.

What judges canaries (``analysis``), A/B tests (``comparing``) and bandits (``thompson``) is asked
as the rows of a workspace would ask it, over numbers that are drawn here; no process, no network
and no clock. Used by the tests and by ``make bench``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec import Struct

from clew.base.records.traffic import Rollout
from clew.serving.analysis import judge
from clew.serving.comparing import compare
from clew.serving.sequential import Sums
from clew.serving.sketches import sketch
from clew.serving.stats import BOUNDS_S, Bins, Counts
from clew.serving.thompson import allocate

TICK_S = 0.5
MOST_S = 100_000.0


class Behaviour(Struct, frozen=True, kw_only=True):
    """How a revision answers. ``classes``: chances of labels; else numbers around ``centre``."""

    error_rate: float = 0.005
    nan_rate: float = 0.0
    median_s: float = 0.003
    centre: float = 10.0
    spread: float = 3.0
    classes: tuple[float, ...] = ()


LIVE = Behaviour()
WORSE: Mapping[str, Behaviour] = {
    "errors": Behaviour(error_rate=0.06),
    "slow": Behaviour(median_s=0.03),
    "NaN": Behaviour(nan_rate=0.06),
    "drifted": Behaviour(centre=13.0),
}
"""Worse than ``LIVE`` in one way each: 5.5 points more errors, ten times as slow, 6 % NaN, and
numbers one standard deviation away."""
LABELS = Behaviour(classes=(0.6, 0.3, 0.1))
WORSE_LABELS = Behaviour(classes=(0.25, 0.65, 0.1))
RATES: Mapping[str, float] = {"small": 5.0, "medium": 100.0, "large": 2000.0}
"""Requests a second."""


def run_canary(
    rollout: Rollout, canary: Behaviour, live: Behaviour, *, rate: float, seed: int
) -> tuple[str, float, int]:
    """One canary to its end: ``live`` or ``rolled_back``, after how many seconds, and after how
    many requests to it.
    """
    draw = np.random.default_rng(seed)
    carry: dict[str, float] = {}
    whole_s, asked = 0.0, 0
    for share in rollout.steps:
        if share >= 100:
            return "live", whole_s, asked
        held_s, mine, theirs = 0.0, Counts(), Counts()
        while True:
            ticks, to_canary = _next(draw, rate * TICK_S * share / 100)
            held_s += ticks * TICK_S
            mine += _answers(draw, canary, to_canary)
            to_live = int(draw.poisson(ticks * rate * TICK_S * (1 - share / 100)))
            theirs += _answers(draw, live, to_live)
            decision = judge(rollout, mine, theirs, held_s, carry)
            if decision.action == "back":
                return "rolled_back", whole_s + held_s, asked + mine.requests
            if decision.action == "advance":
                break
            if held_s > MOST_S:
                return "undecided", whole_s + held_s, asked + mine.requests
        carry = decision.carry
        whole_s, asked = whole_s + held_s, asked + mine.requests
    return "live", whole_s, asked


def _next(draw: np.random.Generator, mean: float) -> tuple[int, int]:
    """After how many ticks the canary is asked again, and how often then.

    Of the ticks in between nobody would see anything that was not there before, so they pass at
    once: what is drawn has the same distribution as tick by tick.
    """
    ticks = int(draw.geometric(-np.expm1(-mean)))
    while not (count := int(draw.poisson(mean))):
        pass
    return ticks, count


def _answers(draw: np.random.Generator, how: Behaviour, count: int) -> Counts:
    if not count:
        return Counts()
    latencies = how.median_s * np.exp(0.5 * draw.standard_normal(count))
    buckets = np.zeros(len(BOUNDS_S) + 1, dtype=int)
    np.add.at(buckets, np.searchsorted(BOUNDS_S, latencies), 1)
    errors = int(draw.binomial(count, how.error_rate))
    return Counts(
        requests=count,
        errors=errors,
        nans=int(draw.binomial(count - errors, how.nan_rate)),
        latency_s=float(latencies.sum()),
        buckets=tuple(buckets.tolist()),
        outputs=_outputs(draw, how, count - errors),
    )


def _outputs(draw: np.random.Generator, how: Behaviour, count: int) -> Bins:
    if not count:
        return {}
    if how.classes:
        counts = draw.multinomial(count, how.classes)
        return {"label": {f"={at}": int(n) for at, n in enumerate(counts) if n}}
    values = draw.normal(how.centre, how.spread, count)
    return sketch([({"prediction": values}, [1] * count)], {})


def run_test(
    rollout: Rollout,
    outcome: Callable[[np.random.Generator, str, int], Any],
    *,
    batch: int,
    most: int,
    seed: int,
    skew: float = 0.0,
) -> tuple[str, str, int]:
    """One A/B test of ``a`` (the control) and ``b``, looked at after every ``batch`` outcomes.

    ``outcome``: how an arm's outcomes are drawn; ``skew``: how much more often than said the
    control is asked. The action it ended with (``go on``: none until ``most`` outcomes), the
    winner, and the outcomes until then.
    """
    draw = np.random.default_rng(seed)
    weights = {"a": 100 - rollout.weight, "b": rollout.weight}
    sums = {arm: Sums() for arm in weights}
    assigned = dict.fromkeys(weights, 0)
    total = 0
    while total < most:
        to_control = int(draw.binomial(batch, weights["a"] / 100 + skew))
        for arm, count in (("a", to_control), ("b", batch - to_control)):
            assigned[arm] += count
            sums[arm] = together(sums[arm], outcome(draw, arm, count))
        total += batch
        found = compare(rollout, "a", weights, sums, assigned)
        if found.action != "go on":
            return found.action, found.winner, total
    return "go on", "", total


def run_arms(
    rollout: Rollout,
    outcome: Callable[[np.random.Generator, str, int], Any],
    weights: Mapping[str, float],
    *,
    batch: int,
    most: int,
    seed: int,
) -> tuple[str, str, tuple[str, ...]]:
    """One A/B test of several arms (the first is the control), looked at after every ``batch``
    outcomes: the action it ended with (``go on``: none until ``most``), the winner, and the arms
    that left before as shown to be worse.
    """
    draw = np.random.default_rng(seed)
    shares, control = dict(weights), next(iter(weights))
    sums = {arm: Sums() for arm in shares}
    assigned, lost, total = dict.fromkeys(shares, 0), list[str](), 0
    while total < most:
        chances = np.array(list(shares.values())) / sum(shares.values())
        counts = draw.multinomial(batch, chances).tolist()
        for arm, count in zip(shares, counts, strict=True):
            assigned[arm] += count
            sums[arm] = together(sums[arm], outcome(draw, arm, count))
        total += batch
        begun = len(weights) - 1
        found = compare(rollout, control, shares, sums, assigned, begun=begun, lost=len(lost))
        if found.action != "go on":
            return found.action, found.winner, tuple(lost)
        for arm in found.worse:
            lost.append(arm)
            del shares[arm], sums[arm], assigned[arm]
    return "go on", "", tuple(lost)


def run_bandit(
    rollout: Rollout,
    means: Mapping[str, float],
    *,
    rounds: int,
    batch: int,
    seed: int,
    delay: int = 0,
    spread: float = 0.0,
) -> tuple[float, dict[str, int], list[tuple[str, float, float]]]:
    """A bandit over ``rounds`` of ``batch`` requests: regret, pulls by arm, and what was logged.

    Rewards are 0 or 1 with these means, or normal with ``spread``; they come ``delay`` rounds
    late. Logged are (arm, propensity, reward).
    """
    draw = np.random.default_rng(seed)
    arms = list(means)
    sums = {arm: Sums() for arm in arms}
    late: list[dict[str, Any]] = []
    pulls, logged = dict.fromkeys(arms, 0), []
    for _ in range(rounds):
        shares = allocate(rollout, arms, sums).shares
        chances = [shares[arm] for arm in arms]
        chosen = draw.choice(len(arms), size=batch, p=np.array(chances) / sum(chances))
        rewards: dict[str, Any] = {}
        for at, arm in enumerate(arms):
            count = int((chosen == at).sum())
            drawn = (
                draw.normal(means[arm], spread, count)
                if spread
                else draw.binomial(1, means[arm], count)
            )
            pulls[arm] += count
            rewards[arm] = drawn
            logged += [(arm, shares[arm], float(reward)) for reward in drawn]
        late.append(rewards)
        if len(late) > delay:
            for arm, drawn in late.pop(0).items():
                sums[arm] = together(sums[arm], drawn)
    best = max(means.values())
    regret = sum(pulls[arm] * (best - means[arm]) for arm in arms)
    return regret, pulls, logged


def together(sums: Sums, values: Any) -> Sums:
    """Sums with more single outcomes."""
    more = np.asarray(values, dtype=float)
    return Sums(
        units=sums.units + len(more),
        outcomes=sums.outcomes + len(more),
        total=sums.total + float(more.sum()),
        squares=sums.squares + float(more @ more),
    )
