"""Decisions about canaries, and the counts that they rest on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.serving import canary
from clew.serving.analysis import judge
from clew.serving.router import Router
from clew.serving.stats import BOUNDS_S, Account, Counts, quantile_s

ROLLOUT = canary(steps=[10, 100], hold_s=2.0, min_requests=20)


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


@given(st.lists(st.integers(1, 100), min_size=2, max_size=5))
def test_traffic_is_spread_exactly_over_one_round_of_weights(weights):
    router = Router([(at, weight) for at, weight in enumerate(weights)])
    chosen = [router.choose() for _ in range(sum(weights))]
    assert [chosen.count(at) for at in range(len(weights))] == weights


@given(st.text(min_size=1), st.integers(1, 99))
def test_a_key_stays_with_its_arm_while_that_grows(key, share):
    before = Router([("new", share), ("live", 100 - share)]).choose(key)
    after = Router([("new", share + 1), ("live", 99 - share)]).choose(key)
    assert before == "live" or after == "new"


def test_an_arm_without_traffic_is_never_chosen():
    assert Router([("a", 0)]).choose() is None
    assert Router([("a", 0), ("b", 100)]).choose("k") == "b"
