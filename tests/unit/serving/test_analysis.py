"""Decisions about canaries, and the counts that they rest on."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from clew.base.errors import Invalid
from clew.serving import canary
from clew.serving.analysis import judge
from clew.serving.router import Arm, Router
from clew.serving.stats import BOUNDS_S, Account, Counts, quantile_s

ROLLOUT = canary(steps=[10, 100], hold_s=2.0, min_requests=20, max_requests=20)


def counts(requests=0, latency_s=0.001, **more) -> Counts:
    account = Account()
    for _ in range(requests):
        account.add(latency_s)
    for name, value in more.items():
        setattr(account, name, value)
    return account.snapshot()


@pytest.mark.parametrize(
    ("new", "live", "held_s", "action"),
    [
        (counts(), counts(), 9.9, "hold"),
        (counts(), counts(), 10.1, "advance"),
        (counts(), counts(500), 60.0, "hold"),
        (counts(19), counts(500), 60.0, "hold"),
        (counts(20), counts(500), 1.0, "hold"),
        (counts(20), counts(500), 2.0, "advance"),
        (counts(20), counts(), 2.0, "advance"),
        (counts(20, errors=1), counts(500), 0.1, "back"),
        (counts(50, errors=1), counts(500), 2.0, "advance"),
        (counts(20, errors=10), counts(20, errors=10), 2.0, "advance"),
        (counts(20, rejected=20), counts(500), 0.1, "back"),
        (counts(20, rejected=10), counts(500, rejected=250), 2.0, "advance"),
        (counts(20, nans=5), counts(500), 0.1, "back"),
        (counts(20, latency_s=0.09), counts(500), 2.0, "back"),
        (counts(20, latency_s=0.09), counts(5), 2.0, "advance"),
        (counts(20, latency_s=0.004), counts(500, latency_s=0.0002), 2.0, "advance"),
    ],
)
def test_a_canary_holds_advances_or_goes_back(new, live, held_s, action):
    decision = judge(ROLLOUT, new, live, held_s)
    assert decision.action == action
    assert decision.reason
    assert decision.evidence["canary"]["requests"] == new.requests


@pytest.mark.parametrize("steps", [[], [0, 100], [50, 50], [60, 40], [120]])
def test_steps_must_rise_to_100(steps):
    if not steps:
        assert canary(steps=steps).steps == (100,)
        return
    with pytest.raises(Invalid, match="must rise"):
        canary(steps=steps)


def test_a_last_step_of_100_is_added():
    assert canary(steps=[10]).steps == (10, 100)
    assert str(canary(steps=[10, 50])) == "canary 10 → 50 → 100 %"


@given(st.lists(st.floats(1e-5, 9.0), min_size=1))
def test_a_quantile_lies_in_the_bucket_of_its_value(latencies):
    account = Account()
    for latency_s in latencies:
        account.add(latency_s)
    for share in (0.5, 0.9, 1.0):
        exact = sorted(latencies)[max(0, -(-len(latencies) * share // 1).__int__() - 1)]
        low = max((bound for bound in BOUNDS_S if bound < exact), default=0.0)
        high = min(bound for bound in BOUNDS_S if bound >= exact)
        assert low <= quantile_s(account.buckets, share) <= high


def test_without_answers_there_is_no_quantile():
    assert quantile_s(Counts().buckets, 0.5) is None


def router(*weights, seed=None):
    arms = [Arm(name, name, weight) for name, weight in zip("abcde", weights, strict=False)]
    return Router(arms, seed=seed)


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=5))
def test_the_propensity_of_an_arm_is_its_share_of_the_weights(weights):
    arms = router(*weights).arms
    assert [arm.propensity for arm in arms] == pytest.approx(
        [weight / sum(weights) for weight in weights]
    )


def test_requests_without_a_key_are_drawn_with_the_propensity():
    split = router(70, 25, 5, seed=1)
    drawn = Counter(split.choose().name for _ in range(20_000))
    for arm in split.arms:
        sd = (arm.propensity * (1 - arm.propensity) * 20_000) ** 0.5
        assert abs(drawn[arm.name] - arm.propensity * 20_000) < 4 * sd


def test_keys_are_spread_by_weight():
    split = router(70, 25, 5)
    drawn = Counter(split.choose(f"customer {at}").name for at in range(20_000))
    for arm in split.arms:
        sd = (arm.propensity * (1 - arm.propensity) * 20_000) ** 0.5
        assert abs(drawn[arm.name] - arm.propensity * 20_000) < 4 * sd


@given(st.text(min_size=1), st.integers(1, 98))
def test_a_key_stays_with_its_arm_while_that_grows(key, share):
    before, after = (
        router(share, 100 - share).choose(key),
        router(share + 1, 99 - share).choose(key),
    )
    assert before.name == "b" or after.name == "a"


def test_when_one_weight_changes_keys_move_to_or_from_that_arm_alone():
    before, after, without = router(50, 30, 20), router(50, 30, 40), router(50, 30)
    moved = 0
    for at in range(5_000):
        key = f"customer {at}"
        was, now = before.choose(key).name, after.choose(key).name
        assert now in {was, "c"}
        moved += was != now
        assert was == "c" or without.choose(key).name == was
    expected = (40 / 120 - 20 / 100) * 5_000
    assert abs(moved - expected) < 4 * expected**0.5


def test_an_arm_without_traffic_is_never_chosen():
    assert router(0).choose() is None
    assert router(0, 100).choose("k").name == "b"
    assert router(0, 100).choose().propensity == 1


def test_a_canary_holds_until_it_is_shown_to_be_no_worse_or_its_patience_ends():
    patient = canary(steps=[10, 100], hold_s=2.0, min_requests=20, max_requests=400)
    assert judge(patient, counts(50), counts(450), 60.0).action == "hold"
    assert judge(patient, counts(300), counts(2700), 60.0).action == "advance"
    few = judge(patient, counts(399, errors=7), counts(3600), 60.0)
    assert (few.action, "errors" in few.reason) == ("hold", True)
    assert judge(patient, counts(400, errors=7), counts(3600), 60.0).action == "advance"


def test_what_is_plainly_broken_goes_back_before_the_minimum():
    rollout = canary(steps=[10, 100], min_requests=1000)
    assert judge(rollout, counts(12, errors=12), counts(110), 0.1).action == "back"
    assert judge(rollout, counts(2, errors=2), counts(18), 0.1).action == "hold"


def test_answers_that_are_distributed_otherwise_go_back():
    def labelled(a, b):
        return replace(counts(a + b), outputs={"label": {"=0": a, "=1": b}})

    rollout = canary(steps=[50, 100], hold_s=0, min_requests=20)
    decision = judge(rollout, labelled(10, 90), labelled(60, 40), 1.0)
    assert decision.action == "back"
    assert "'label' are distributed otherwise: 0.50 apart" in decision.reason
    assert judge(rollout, labelled(280, 120), labelled(270, 130), 1.0).action == "advance"
    tolerant = canary(steps=[50, 100], hold_s=0, min_requests=20, max_drift=1, max_requests=100)
    tolerated = judge(tolerant, labelled(10, 90), labelled(60, 40), 1.0)
    assert tolerated.action == "advance"
    (told,) = [one for one in tolerated.evidence["tests"] if one["name"] == "drift of label"]
    assert (told["canary"], told["allowed"]) == (0.5, 1)


def test_evidence_of_one_step_counts_in_the_next():
    rollout = canary(steps=[10, 50, 100], hold_s=0, min_requests=20, max_requests=100)
    first = judge(rollout, counts(60, errors=4), counts(540, errors=8), 1.0)
    assert first.action == "hold"
    second = counts(60, errors=7), counts(60, errors=1)
    alone = judge(rollout, *second, 1.0)
    assert judge(rollout, *second, 1.0, first.carry).carry["errors"] > alone.carry["errors"]


def test_copies_that_are_answered_otherwise_go_back_where_that_is_bounded():
    rollout = canary(steps=[10, 100], hold_s=0, shadow=True, max_disagreement=0.05, max_requests=20)
    apart = replace(counts(100), compared=100, disagreed=30)
    assert judge(rollout, apart, counts(100), 1.0, shadowed=True).action == "back"
    near = replace(counts(400), compared=400, disagreed=4)
    assert judge(rollout, near, counts(400), 1.0, shadowed=True).action == "advance"
