"""Arms, shadows, A/B tests and bandits as rows, without a process or with one that is told of."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select, update

from clew.base.errors import Conflict, Invalid, NotFound
from clew.db import Database
from clew.lineage import Lineage
from clew.serving import Serving, accounts, canary, rollout_from, tables
from clew.serving.definitions import ab_test, bandit, shadow, split

from .conftest import answered, loaded, rewarded, states


def add(workspace, laws, rollout, **more):
    revision = workspace.deploy(laws.matrix(), rollout=rollout, **more)
    loaded(workspace, revision)
    return revision


def due(workspace):
    """Let it be time to look at the test that runs."""
    with workspace.db.begin() as tx:
        tx.execute(update(tables.traffic_tests).values(looked_us=0))


def kinds_since(workspace, seen):
    return [event.kind for event in workspace.db.events.after(seen)]


def test_a_share_by_hand_is_taken_from_the_live_revision(workspace, laws, live):
    add(workspace, laws, split(20))
    assert states(workspace) == {1: ("live", 80), 2: ("arm", 20)}
    add(workspace, laws, split(10))
    assert states(workspace) == {1: ("live", 72), 2: ("arm", 18), 3: ("arm", 10)}


def test_weights_are_set_by_number_and_the_live_one_has_the_rest(workspace, laws, live):
    add(workspace, laws, split(20))
    found = workspace.serving.set_traffic("e", weights={"2": 33.5}, reason="a look")
    assert states(workspace) == {1: ("live", 66.5), 2: ("arm", 33.5)}
    assert (found.plan, found.changes[0].reason) == ("split", "a look")
    workspace.serving.set_traffic("e", weights={"2": 0})
    assert states(workspace) == {1: ("live", 100), 2: ("retired", 0)}


def test_a_retired_revision_comes_back_as_an_arm_once_it_is_loaded(workspace, laws, live):
    second = add(workspace, laws, split(20))
    workspace.serving.set_traffic("e", weights={"2": 0})
    with workspace.db.begin() as tx:
        accounts.leave(tx, "s1")
        accounts.register(tx, "s1", "http://127.0.0.1:1")
    workspace.serving.set_traffic("e", weights={"2": 40})
    assert states(workspace)[2] == ("loading", 0)
    loaded(workspace, second)
    assert states(workspace) == {1: ("live", 60), 2: ("arm", 40)}


@pytest.mark.parametrize("weights", [{"2": 100}, {"1": 50, "2": 20}, {"2": -1}])
def test_weights_that_leave_no_rest_are_refused(workspace, laws, live, weights):
    add(workspace, laws, split(20))
    with pytest.raises(Invalid, match="cannot be shared"):
        workspace.serving.set_traffic("e", weights=weights)
    assert states(workspace) == {1: ("live", 80), 2: ("arm", 20)}


def test_an_unknown_revision_has_no_share(workspace, live):
    with pytest.raises(NotFound, match="no revision '7'"):
        workspace.serving.set_traffic("e", weights={"7": 10})


def test_a_promoted_arm_has_all(workspace, laws, live):
    add(workspace, laws, split(20))
    workspace.serving.set_traffic("e", promote="2")
    assert states(workspace) == {1: ("draining", 0), 2: ("live", 100)}
    assert workspace.serving.rollback("e").number == 1


def test_a_shadow_has_no_traffic_and_gives_way_to_the_next_alone(workspace, laws, live):
    add(workspace, laws, shadow(50))
    assert states(workspace) == {1: ("live", 100), 2: ("shadow", 0)}
    add(workspace, laws, split(20))
    assert states(workspace)[2] == ("shadow", 0)
    add(workspace, laws, shadow())
    assert states(workspace) == {
        1: ("live", 80), 3: ("arm", 20), 4: ("shadow", 0), 2: ("retired", 0),
    }  # fmt: skip
    arms = {arm.number: arm for arm in workspace.serving.traffic("e").arms}
    assert (arms[4].state, arms[4].weight) == ("shadow", 100)


def test_a_shadow_is_made_and_taken_off_by_hand(workspace, laws, live):
    add(workspace, laws, split(20))
    workspace.serving.set_traffic("e", shadow={"2": 25})
    assert states(workspace) == {1: ("live", 100), 2: ("shadow", 0)}
    workspace.serving.set_traffic("e", shadow={"2": 0})
    assert states(workspace)[2] == ("retired", 0)


def test_a_canary_may_be_a_shadow_first(workspace, laws):
    rollout = canary([10], hold_s=0, min_requests=20, shadow=True, max_disagreement=0.1)
    workspace.endpoint(rollout=rollout)
    with workspace.db.begin() as tx:
        accounts.register(tx, "s1", "http://127.0.0.1:1")
    first = workspace.deploy(laws.matrix())
    loaded(workspace, first)
    second = workspace.deploy(laws.matrix())
    loaded(workspace, second)
    assert states(workspace) == {1: ("live", 100), 2: ("shadow", 0)}
    answered(workspace, first, 500)
    answered(workspace, second, 500, compared=500, disagreed=5)
    assert workspace.serving.tick()
    assert states(workspace) == {1: ("live", 90), 2: ("canary", 10)}
    third = workspace.deploy(laws.matrix())
    loaded(workspace, third)
    answered(workspace, first, 500)
    answered(workspace, third, 500, compared=500, disagreed=300)
    seen = workspace.db.events.last()
    assert workspace.serving.tick()
    assert states(workspace)[3] == ("rolled_back", 0)
    event = workspace.db.events.after(seen, ["revision.changed"])[0]
    tests = {each["name"]: each for each in event.data["evidence"]["tests"]}
    assert tests["disagreement"]["canary"] == 0.6


# A/B tests --------------------------------------------------------------------------------------


def test_an_ab_test_ends_with_its_winner_and_the_evidence(workspace, laws, live):
    seen = workspace.db.events.last()
    second = add(workspace, laws, ab_test(40))
    assert states(workspace) == {1: ("live", 60), 2: ("arm", 40)}
    rewarded(workspace, live, [1, 0, 0, 0] * 100)
    rewarded(workspace, second, [1, 1, 1, 0] * 100, arm="arm")
    due(workspace)
    assert workspace.serving.tick()
    assert states(workspace) == {1: ("draining", 0), 2: ("live", 100)}
    events = workspace.db.events.after(seen, ["test.begun", "test.decided"])
    assert [event.kind for event in events] == ["test.begun", "test.decided"]
    decided = events[1].data
    assert (decided["state"], decided["winner"]) == ("won", second.id)
    arms = decided["evidence"]["arms"]
    assert (arms[live.id]["mean"], arms[second.id]["mean"]) == (0.25, 0.75)
    assert arms[second.id]["low"] > 0.3
    assert workspace.serving.traffic("e").changes[0].evidence["arms"] == arms


def test_a_challenger_that_loses_is_taken_off(workspace, laws, live):
    second = add(workspace, laws, ab_test(metric="correct"))
    rewarded(workspace, live, [1, 1, 1, 0] * 100, metric="correct")
    rewarded(workspace, second, [1, 0, 0, 0] * 100, metric="correct", arm="arm")
    due(workspace)
    workspace.serving.tick()
    assert states(workspace) == {1: ("live", 100), 2: ("retired", 0)}


def test_a_test_that_only_tells_leaves_the_weights(workspace, laws, live):
    second = add(workspace, laws, ab_test(promote=False))
    rewarded(workspace, live, [0, 0, 1] * 100)
    rewarded(workspace, second, [1, 1, 0] * 100, arm="arm")
    due(workspace)
    workspace.serving.tick()
    assert states(workspace) == {1: ("live", 50), 2: ("arm", 50)}
    assert workspace.serving.traffic("e").plan == "split"


def test_shadows_and_versions_that_were_asked_for_are_no_outcomes(workspace, laws, live):
    second = add(workspace, laws, ab_test())
    rewarded(workspace, live, [0] * 300)
    for role in ("pinned", "shadow"):
        rewarded(workspace, second, [1] * 300, arm=role)
    due(workspace)
    workspace.serving.tick()
    assert states(workspace) == {1: ("live", 50), 2: ("arm", 50)}
    arms = {arm.number: arm for arm in workspace.serving.traffic("e").arms}
    assert (arms[1].outcomes, arms[2].outcomes) == (300, 0)


def test_one_customer_that_asks_often_decides_nothing(workspace, laws, live):
    second = add(workspace, laws, ab_test())
    for at in range(120):
        rewarded(workspace, live, [at % 2], unit=f"u{at}")
        rewarded(workspace, second, [at % 2], arm="arm", unit=f"v{at}")
    rewarded(workspace, second, [1] * 2000, arm="arm", unit="v0")
    due(workspace)
    workspace.serving.tick()
    assert states(workspace)[2] == ("arm", 50)


def test_arms_that_were_not_asked_by_their_weights_end_the_test(workspace, laws, live):
    second = add(workspace, laws, ab_test())
    answered(workspace, live, 10_000, assigned=10_000)
    answered(workspace, second, 8_000, assigned=8_000)
    seen = workspace.db.events.last()
    due(workspace)
    workspace.serving.tick()
    assert states(workspace) == {1: ("live", 100), 2: ("retired", 0)}
    decided = workspace.db.events.after(seen, ["test.decided"])[0].data
    assert (decided["state"], decided["winner"]) == ("stopped", "")
    assert "not asked as their weights say" in decided["reason"]
    assert decided["evidence"]["sample_ratio"]["p"] < 1e-9


def test_failed_requests_can_be_the_metric(workspace, laws, live):
    second = add(workspace, laws, ab_test(metric="errors"))
    answered(workspace, live, 2000, errors=300, assigned=2000)
    answered(workspace, second, 2000, errors=20, assigned=2000)
    due(workspace)
    workspace.serving.tick()
    assert states(workspace)[2] == ("live", 100)


def test_a_deploy_ends_the_test(workspace, laws, live):
    seen = workspace.db.events.last()
    add(workspace, laws, ab_test())
    add(workspace, laws, ab_test(10))
    assert states(workspace) == {1: ("live", 90), 2: ("retired", 0), 3: ("arm", 10)}
    assert kinds_since(workspace, seen).count("test.decided") == 1
    with workspace.db.read() as tx:
        rows = tx.execute(select(tables.traffic_tests.c.state)).scalars()
        assert sorted(rows) == ["running", "superseded"]


# bandits ----------------------------------------------------------------------------------------


def test_a_bandit_gives_more_to_what_is_rewarded_more(workspace, laws, live):
    second = add(workspace, laws, bandit(floor=0.1))
    assert states(workspace) == {1: ("live", 50), 2: ("arm", 50)}
    rewarded(workspace, live, [0, 0, 0, 1] * 20)
    rewarded(workspace, second, [1, 1, 0, 1] * 20, arm="arm")
    seen = workspace.db.events.last()
    due(workspace)
    assert workspace.serving.tick()
    assert states(workspace) == {1: ("live", 10), 2: ("arm", 90)}
    changed = workspace.db.events.after(seen, ["traffic.changed"])[0].data
    assert changed["weights"] == {live.id: 10, second.id: 90}
    posterior = changed["evidence"]["arms"][second.id]
    assert (posterior["a"], posterior["b"], posterior["outcomes"]) == (61, 21, 80)
    arm = workspace.serving.traffic("e").arms[1]
    assert (arm.best > 0.99, arm.low < arm.mean < arm.high) == (True, True)


@pytest.mark.parametrize("odd", [12.5, -0.5])
def test_a_bandit_of_binary_rewards_decides_nothing_by_others_and_says_so(
    workspace, laws, live, odd
):
    second = add(workspace, laws, bandit(floor=0.1))
    rewarded(workspace, live, [0, 0, 0, 1] * 20)
    rewarded(workspace, second, [0.5] * 400 + [odd], arm="arm")
    due(workspace)
    workspace.serving.tick()
    assert states(workspace) == {1: ("live", 50), 2: ("arm", 50)}
    with workspace.db.read() as tx:
        said = tx.execute(select(tables.traffic_tests.c.reason)).scalar_one()
    assert "outcomes (reward) are not all from 0 to 1" in said
    assert workspace.serving.traffic("e").evidence["reason"] == said


def test_the_posterior_comes_from_the_rows_alone(workspace, laws, live):
    second = add(workspace, laws, bandit(floor=0.0))
    rewarded(workspace, live, [0, 1] * 15)
    rewarded(workspace, second, [1, 1, 0] * 10, arm="arm")
    due(workspace)
    again = Database.open(workspace.url)
    other = Serving(again, workspace.repos, workspace.store, Lineage(again), workspace.spool)
    other.tick()  # a process that was not there before
    draw = np.random.default_rng(0)
    chance = float((draw.beta(21, 11, 400_000) > draw.beta(16, 16, 400_000)).mean())
    assert states(workspace)[2][1] == pytest.approx(100 * chance, abs=0.5)
    assert sum(share for _, share in states(workspace).values()) == 100
    again.close()


def test_a_new_version_joins_the_bandit(workspace, laws, live):
    add(workspace, laws, bandit(floor=0.1))
    add(workspace, laws, bandit(floor=0.1))
    assert {state for state, _ in states(workspace).values()} == {"live", "arm"}
    assert sum(share for _, share in states(workspace).values()) == 100
    assert len(workspace.serving.traffic("e").arms) == 3


# back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rollout", [split(20), ab_test(), bandit()], ids=lambda one: one.kind)
def test_a_rollback_ends_whatever_is_under_way(workspace, laws, live, rollout):
    add(workspace, laws, shadow())
    add(workspace, laws, rollout)
    assert workspace.serving.rollback("e", "no more").id == live.id
    assert states(workspace) == {1: ("live", 100), 2: ("shadow", 0), 3: ("rolled_back", 0)}
    assert workspace.serving.traffic("e").plan == "immediate"
    with pytest.raises(Conflict, match="no revision to go back to"):
        workspace.serving.rollback("e")


@pytest.mark.parametrize(
    "told",
    [
        {"kind": "lottery"},
        {"kind": "split"},
        {"kind": "split", "weight": 100},
        {"kind": "canary", "steps": [50, 10]},
        {"kind": "ab_test", "metric": "beauty"},
        {"kind": "bandit", "metric": "errors"},
        {"kind": "bandit", "floor": 0.9},
        {"kind": "shadow", "share": 0},
        {"kind": "canary", "colour": 1},
        {"kind": "ab_test", "alpha": "small"},
    ],
)
def test_a_rollout_that_makes_no_sense_is_refused(told):
    with pytest.raises(Invalid):
        rollout_from(told)


def test_a_rollout_travels_as_json():
    assert rollout_from({"kind": "ab_test", "weight": 10}) == ab_test(10)
    assert rollout_from({"kind": "shadow", "share": 5}) == shadow(5)
    assert rollout_from({"kind": "canary", "steps": [5, 100]}) == canary([5])


@pytest.mark.parametrize("kind", ["ab_test", "bandit"])
@pytest.mark.parametrize("goal", [{}, {"goal": "max"}])
def test_errors_are_to_be_few_also_where_a_rollout_is_said_as_json(kind, goal):
    made = {"ab_test": ab_test, "bandit": bandit}[kind]
    assert rollout_from({"kind": kind, "metric": "error", **goal}) == made(metric="error")
    assert made(metric="error").goal == "min"
    assert rollout_from({"kind": "ab_test", "metric": "errors", **goal}).goal == "min"


def test_a_canary_said_as_json_ends_with_all_requests():
    assert rollout_from({"kind": "canary", "steps": [10, 50]}) == canary([10, 50])


@pytest.mark.parametrize(
    ("more", "rollout", "why"),
    [
        ({"log": 0.0}, ab_test(), "logs no prediction"),
        ({"log": 0.0}, bandit(metric="correct"), "logs no prediction"),
        ({"redact": ("label",)}, ab_test(metric="correct"), "never writes down 'label'"),
        ({"redact": ("prediction",)}, bandit(metric="error"), "never writes down 'prediction'"),
    ],
)
def test_what_could_never_decide_is_refused_when_it_is_said(workspace, laws, more, rollout, why):
    with pytest.raises(Invalid, match=why):
        workspace.endpoint(rollout=rollout, **more)
    workspace.endpoint(**more)
    with pytest.raises(Invalid, match=why):
        workspace.deploy(laws.matrix(), rollout=rollout)


def test_a_test_that_needs_no_log_may_be_without(workspace, laws):
    workspace.endpoint(rollout=ab_test(metric="errors"), log=0.0, redact=("prediction",))
    workspace.deploy(laws.matrix(), rollout=ab_test(metric="errors"))
