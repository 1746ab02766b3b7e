"""Seeded trials of whole rollouts: the real decisions over made-up traffic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clew.serving.definitions import ab_test, bandit, canary
from clew.testing.rollout_trials import (
    LABELS,
    LIVE,
    RATES,
    WORSE,
    WORSE_LABELS,
    run_arms,
    run_bandit,
    run_canary,
    run_test,
)

CANARY = canary()
KINDS = {name: (worse, LIVE) for name, worse in WORSE.items()} | {"labels": (WORSE_LABELS, LABELS)}


def ends(new, live, rate, seeds) -> float:
    """The share of canaries that went live."""
    found = [run_canary(CANARY, new, live, rate=rate, seed=seed)[0] for seed in seeds]
    assert set(found) <= {"live", "rolled_back"}
    return found.count("live") / len(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_worse_canary_goes_back_and_an_equal_one_goes_live(kind):
    worse, live = KINDS[kind]
    assert ends(worse, live, RATES["medium"], range(4)) == 0
    assert ends(live, live, RATES["large"], range(5)) == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", RATES)
@pytest.mark.parametrize("kind", KINDS)
def test_at_least_99_of_100_worse_canaries_go_back(kind, size):
    assert ends(*KINDS[kind], RATES[size], range(1000)) <= 0.01


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", RATES)
@pytest.mark.parametrize("live", [LIVE, LABELS], ids=["numbers", "labels"])
def test_at_least_95_of_100_equal_canaries_go_live(live, size):
    assert ends(live, live, RATES[size], range(1000)) >= 0.95


# A/B tests --------------------------------------------------------------------------------------


def binary(rates):
    return lambda draw, arm, count: draw.binomial(1, rates[arm], count)


def skewed(means):
    return lambda draw, arm, count: draw.exponential(1.0, count) + means[arm]


def heavy(draw, arm, count):
    """Symmetric, with a variance and no fourth moment."""
    return draw.standard_t(3, count)


def long_tailed(draw, arm, count):
    """As amounts of money are: the mean is far above the median."""
    return draw.lognormal(0.0, 1.5, count)


SAME = {
    "half": binary({"a": 0.5, "b": 0.5}),
    "rare": binary({"a": 0.03, "b": 0.03}),
    "heavy": heavy,
    "long": long_tailed,
    "skewed": skewed({"a": 0.0, "b": 0.0}),
}


def false_positives(outcome, weight, seeds, most) -> float:
    found = [
        run_test(ab_test(weight), outcome, batch=25, most=most, seed=seed)[0] for seed in seeds
    ]
    return sum(action != "go on" for action in found) / len(found)


@pytest.mark.parametrize("kind", SAME)
def test_equal_arms_are_seldom_called_different_however_often_one_looks(kind):
    assert false_positives(SAME[kind], 50, range(20), 2000) <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("weight", [50, 10])
@pytest.mark.parametrize("kind", SAME)
def test_at_most_5_of_100_equal_tests_ever_have_a_winner(kind, weight):
    assert false_positives(SAME[kind], weight, range(1000), 20_000) <= 0.05


def test_a_better_arm_wins():
    outcome = binary({"a": 0.30, "b": 0.40})
    found = [run_test(ab_test(), outcome, batch=50, most=20_000, seed=s)[:2] for s in range(10)]
    assert found == [("winner", "b")] * 10


def test_a_worse_challenger_leaves_the_control():
    outcome = skewed({"a": 0.0, "b": 0.5})
    rollout = ab_test(metric="error")
    found = [run_test(rollout, outcome, batch=50, most=20_000, seed=s)[:2] for s in range(10)]
    assert found == [("winner", "a")] * 10


def test_arms_that_are_not_asked_as_their_weights_say_stop_the_test():
    outcome = binary({"a": 0.5, "b": 0.5})
    found = [
        run_test(ab_test(), outcome, batch=100, most=20_000, seed=s, skew=0.05)[:2]
        for s in range(5)
    ]
    assert found == [("stop", "")] * 5


# several arms -----------------------------------------------------------------------------------

FOUR = {"a": 40, "b": 20, "c": 20, "d": 20}


def alike(kind):
    """Outcomes of arms that are all the control."""
    return lambda draw, _, count: SAME[kind](draw, "a", count)


def ever_decided(kind, seeds, most) -> float:
    """The share of tests of four equal arms in which any was ever called better or worse."""
    found = [
        run_arms(ab_test(), alike(kind), FOUR, batch=40, most=most, seed=seed) for seed in seeds
    ]
    return sum(action != "go on" or bool(lost) for action, _, lost in found) / len(found)


def test_four_equal_arms_are_seldom_called_different_however_often_one_looks():
    assert ever_decided("half", range(20), 2000) <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", SAME)
def test_at_most_5_of_100_tests_of_four_equal_arms_ever_decide_anything(kind):
    assert ever_decided(kind, range(1000), 20_000) <= 0.05


def test_the_best_of_four_wins_and_the_worst_has_left_before():
    means = {"a": 0.50, "b": 0.30, "c": 0.50, "d": 0.60}
    found = [
        run_arms(ab_test(), binary(means), FOUR, batch=40, most=40_000, seed=seed)
        for seed in range(10)
    ]
    assert {(action, winner) for action, winner, _ in found} == {("winner", "d")}
    assert sum("b" in lost for _, _, lost in found) >= 8
    assert not any({"c", "d"} & set(lost) for _, _, lost in found)


# bandits ----------------------------------------------------------------------------------------

MEANS = {"a": 0.45, "b": 0.60, "c": 0.50}


def divergence(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def published(means, pulls, epsilon=0.5) -> float:
    """Agrawal and Goyal 2013, theorem 1 (the term that grows): (1 + ε) Σ Δ ln T / d(μ, μ*)."""
    best = max(means.values())
    return (1 + epsilon) * sum(
        (best - mean) * math.log(pulls) / divergence(mean, best)
        for mean in means.values()
        if mean < best
    )


def mean_regret(seeds, rounds, batch, **more) -> float:
    rollout = bandit(floor=more.pop("floor", 0.0))
    return float(
        np.mean([run_bandit(rollout, MEANS, rounds=rounds, batch=batch, seed=s, **more)[0]
                 for s in seeds])
    )  # fmt: skip


def test_the_regret_of_a_bandit_keeps_the_published_rule():
    pulls = 150 * 20
    even = pulls * (max(MEANS.values()) - np.mean(list(MEANS.values())))
    regret = mean_regret(range(3), 150, 20)
    assert regret < min(published(MEANS, pulls), even / 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("delay", [0, 10])
def test_over_many_bandits_regret_keeps_the_published_rule(delay):
    late = delay * 40 * (max(MEANS.values()) - min(MEANS.values()))  # nothing is known before
    assert mean_regret(range(100), 500, 40, delay=delay) < published(MEANS, 20_000) + late


def test_with_a_floor_regret_grows_by_what_the_floor_costs_alone():
    pulls = 150 * 20
    floor = sum(0.05 * (max(MEANS.values()) - mean) for mean in MEANS.values()) * pulls
    assert mean_regret(range(3), 150, 20, floor=0.05) < published(MEANS, pulls) + floor


def test_the_propensities_that_are_logged_give_unbiased_estimates():
    estimates = {arm: [] for arm in MEANS}
    for seed in range(10):
        _, _, logged = run_bandit(bandit(floor=0.1), MEANS, rounds=30, batch=100, seed=seed)
        for arm, values in estimates.items():
            values.append(
                sum(reward / chance for one, chance, reward in logged if one == arm) / len(logged)
            )
    for arm, mean in MEANS.items():
        found = np.array(estimates[arm])
        assert abs(found.mean() - mean) < 4 * found.std(ddof=1) / len(found) ** 0.5


def test_a_bandit_of_numbers_finds_the_best_arm():
    means = {"a": 10.0, "b": 12.0, "c": 11.0}
    rollout = bandit(reward="gaussian", floor=0.02)
    _, pulls, _ = run_bandit(rollout, means, rounds=100, batch=20, seed=3, spread=4.0, delay=2)
    assert pulls["b"] > 1200
