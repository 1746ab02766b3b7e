"""Tests that may be looked at at any time keep their promise, and see what there is to see."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clew.base.records.traffic import Rollout
from clew.serving.closeness import distance, groups
from clew.serving.definitions import ab_test, bandit
from clew.serving.sequential import (
    Sums,
    beyond,
    difference,
    elsewhere,
    excess,
    more_often,
    rejected,
    sample_ratio,
    together,
)
from clew.serving.sketches import sketch
from clew.serving.thompson import allocate

ALPHA = 0.02
TRIALS = 150


def sums_of(values):
    """Sums of single outcomes, each a unit of its own."""
    listed = list(values)
    return Sums(
        units=len(listed),
        outcomes=len(listed),
        total=math.fsum(listed),
        squares=math.fsum(value * value for value in listed),
    )


def crossings(walk) -> int:
    """How many of the trials ever go beyond 1/alpha while the null hypothesis holds."""
    return sum(any(e >= -math.log(ALPHA) for e in walk(np.random.default_rng(n)))
               for n in range(TRIALS))  # fmt: skip


def most_allowed() -> float:
    """alpha of the trials, and three standard deviations of chance."""
    return TRIALS * ALPHA + 3 * math.sqrt(TRIALS * ALPHA * (1 - ALPHA))


def test_failures_that_are_shared_as_requests_are_seldom_cross_the_line():
    def walk(draw):
        ours = np.cumsum(draw.random(200) < 0.1)
        return [more_often(int(here), at + 1 - int(here), 0.1) for at, here in enumerate(ours)]

    assert crossings(walk) <= most_allowed()


def test_answers_that_say_nothing_of_who_gave_them_seldom_cross_the_line():
    def walk(draw):
        groups_of, ours = draw.integers(0, 4, 300), draw.random(300) < 0.2
        for at in range(20, 301, 10):
            yield elsewhere(
                [
                    (int((ours[:at] & (groups_of[:at] == g)).sum()),
                     int((~ours[:at] & (groups_of[:at] == g)).sum()))
                    for g in range(4)
                ],
                0.2,
            )  # fmt: skip

    assert crossings(walk) <= most_allowed()


def test_a_share_at_its_bound_seldom_crosses_the_line():
    def walk(draw):
        seen = np.cumsum(draw.random(300) < 0.1)
        return [beyond(int(here), at + 1, 0.1) for at, here in enumerate(seen)]

    assert crossings(walk) <= most_allowed()


def test_sample_ratios_that_are_right_seldom_cross_the_line():
    def walk(draw):
        ours = np.cumsum(draw.random(4000) < 0.3)
        for at in range(50, 4000, 50):
            counts = {"a": int(ours[at]), "b": at + 1 - int(ours[at])}
            yield sample_ratio(counts, {"a": 30, "b": 70}).e

    assert crossings(walk) <= most_allowed()


def test_each_sees_what_is_plain():
    line = math.log(1000)
    assert more_often(20, 5, 0.1) > line
    assert more_often(3, 27, 0.1) < 0
    assert elsewhere([(80, 100), (20, 300)], 0.2) > line
    assert beyond(10, 12, 0.1) > line
    assert sample_ratio({"a": 5500, "b": 4500}, {"a": 50, "b": 50}).e > line


def test_evidence_before_is_added_and_its_absence_takes_little():
    assert together(0.0, 3.0) == pytest.approx(3.0)
    assert together(2.0, 3.0) == pytest.approx(3.0 + math.log((1 + math.exp(2)) / 2))
    assert together(-500.0, 8.0) == pytest.approx(8.0 - math.log(2))


def test_chi_square_is_pearsons_with_its_upper_tail():
    two = sample_ratio({"a": 5120, "b": 4880}, {"a": 50, "b": 50})
    assert two.chi_square == pytest.approx(2 * 120**2 / 5000)
    assert two.p == pytest.approx(math.erfc(math.sqrt(two.chi_square / 2)))
    three = sample_ratio({"a": 5120, "b": 2480, "c": 2400}, {"a": 50, "b": 25, "c": 25})
    assert three.chi_square == pytest.approx(120**2 / 5000 + 20**2 / 2500 + 100**2 / 2500)
    assert three.p == pytest.approx(math.exp(-three.chi_square / 2))


def test_the_interval_of_a_difference_is_newcombes():
    # Newcombe 1998, table II, column (a): 56/70 and 48/80, method 10
    assert excess(56, 70, 48, 80, 1.959964) == pytest.approx((0.0524, 0.3339), abs=5e-4)
    assert excess(0, 10, 0, 20, 1.959964) == pytest.approx((-0.1611, 0.2775), abs=5e-4)


def test_a_difference_of_means_is_covered_at_all_times():
    missed = 0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        a, b = draw.exponential(1.0, 1500), draw.exponential(1.0, 1500) + 0.2
        for at in range(100, 1500, 100):
            one = difference(sums_of(b[:at]), sums_of(a[:at]), alpha=0.05, least=100)
            if not one.low <= 0.2 <= one.high:
                missed += 1
                break
    assert missed <= 60 * 0.05


def test_holm_rejects_what_steps_down_allow():
    # 1/e as p-values 0.01, 0.02, 0.04, 0.03 of four hypotheses at 0.05: Holm rejects one of them
    logs = {"a": 0.01, "b": 0.02, "c": 0.04, "d": 0.03}
    found = {name: -math.log(p) for name, p in logs.items()}
    assert rejected(found, 0.05, 4) == ("a",)
    assert rejected({name: -math.log(p / 2) for name, p in logs.items()}, 0.05, 4) == (
        "a", "b", "d", "c",
    )  # fmt: skip
    assert rejected({"a": -math.log(0.02)}, 0.05, 2) == ("a",), "after two of three were rejected"
    assert rejected({}, 0.05, 1) == ()


def test_before_the_least_sample_nothing_is_said():
    one = difference(sums_of([1.0] * 50), sums_of([0.0] * 500), alpha=0.05, least=100)
    assert (one.low, one.high, one.e) == (-math.inf, math.inf, 0.0)


# sketches ---------------------------------------------------------------------------------------


def test_sketches_of_two_processes_add_up():
    draw = np.random.default_rng(0)
    values = draw.normal(5, 2, 400)
    whole = sketch([({"x": values}, [1] * 400)], {})
    parts = sketch([({"x": values[:100]}, [1] * 100)], {})
    assert sketch([({"x": values[100:]}, [1] * 300)], parts) == whole


def test_the_first_row_of_a_request_counts():
    found = sketch([({"label": np.array(["a", "b", "c", "a"])}, [2, 1, 1])], {})
    assert found == {"label": {"=a": 2, "=c": 1}}


def test_distances_are_those_of_the_values():
    draw = np.random.default_rng(0)
    one, other = draw.normal(100, 1, 2000), draw.normal(101, 1, 2000)
    bins = [sketch([({"x": each}, [1] * 2000)], {})["x"] for each in (one, other)]
    grid = np.sort(np.concatenate([one, other]))
    exact = max(abs((one <= at).mean() - (other <= at).mean()) for at in grid)
    assert distance(*bins) == pytest.approx(exact, abs=0.2)
    assert distance(bins[0], bins[0]) == 0
    assert distance({"=a": 3, "=b": 1}, {"=a": 1, "=b": 3}) == 0.5
    assert sum(a + b for a, b in groups(*bins, 8)) == 4000
    assert len(groups({"=a": 1, "=b": 2, "=c": 3}, {"=d": 9}, 3)) == 3


# Thompson sampling ------------------------------------------------------------------------------


def test_the_share_of_an_arm_is_its_chance_to_be_the_best():
    sums = {"a": sums_of([1.0] * 12 + [0.0] * 8), "b": sums_of([1.0] * 30 + [0.0] * 30)}
    shares = allocate(bandit(floor=0), ["a", "b", "c"], sums).shares
    draw = np.random.default_rng(0)
    drawn = np.stack([draw.beta(13, 9, 400_000), draw.beta(31, 31, 400_000), draw.random(400_000)])
    chances = np.bincount(drawn.argmax(axis=0), minlength=3) / 400_000
    assert list(shares.values()) == pytest.approx(chances, abs=0.005)
    assert sum(shares.values()) == pytest.approx(1)


def test_every_arm_keeps_its_floor():
    sums = {"a": sums_of([1.0] * 5000), "b": sums_of([0.0] * 5000)}
    shares = allocate(bandit(floor=0.05), ["a", "b"], sums).shares
    assert shares == pytest.approx({"a": 0.95, "b": 0.05})


def test_rewards_of_any_size_have_normal_posteriors():
    draw = np.random.default_rng(1)
    sums = {"a": sums_of(draw.normal(50, 5, 300)), "b": sums_of(draw.normal(53, 5, 300))}
    found = allocate(bandit(reward="gaussian", floor=0), ["a", "b"], sums)
    assert found.shares["b"] > 0.99
    assert found.posteriors["b"].mean == pytest.approx(53, abs=1)
    smallest = allocate(bandit(reward="gaussian", goal="min", floor=0), ["a", "b"], sums)
    assert smallest.shares["a"] > 0.99


def test_without_rewards_all_arms_are_alike():
    for reward in ("binary", "gaussian"):
        shares = allocate(bandit(reward=reward), ["a", "b", "c"], {}).shares
        assert list(shares.values()) == pytest.approx([1 / 3] * 3, abs=1e-3)


def test_rollouts_say_in_words_what_they_are():
    assert str(ab_test(20, metric="correct")) == "A/B test of correct, 20 % to the new one"
    assert str(bandit()) == "bandit on reward, at least 5 % each"
    assert str(Rollout()) == "immediate"
