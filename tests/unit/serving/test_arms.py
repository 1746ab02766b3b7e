"""Several arms of one rollout, as rows: they come together, leave one by one, and end."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from clew.base.arms import shares_of
from clew.base.errors import Invalid
from clew.base.ids import new_id
from clew.serving import tables
from clew.serving.definitions import ab_test, bandit, shadow, split

from .conftest import answered, loaded, rewarded, states


def together(workspace, laws, *rollouts):
    """Revisions that come by one deploy, not loaded yet."""
    found, change = [], new_id()
    for one in rollouts:
        beside = [each.id for each in found]
        found.append(workspace.deploy(laws.matrix(), rollout=one, global_id=change, beside=beside))
    return found


def running(workspace, laws, *rollouts):
    found = together(workspace, laws, *rollouts)
    for each in found:
        loaded(workspace, each)
    return found


def look(workspace):
    with workspace.db.begin() as tx:
        tx.execute(update(tables.traffic_tests).values(looked_us=0))
    workspace.serving.tick()


def test_a_test_of_several_begins_when_all_are_loaded(workspace, laws, live):
    seen = workspace.db.events.last()
    second, third, fourth = together(workspace, laws, ab_test(20), ab_test(10), ab_test(30))
    loaded(workspace, second)
    loaded(workspace, third)
    workspace.serving.tick()
    assert states(workspace)[2] == ("loading", 0)
    loaded(workspace, fourth)
    assert states(workspace) == {
        1: ("live", 40), 2: ("arm", 20), 3: ("arm", 10), 4: ("arm", 30),
    }  # fmt: skip
    assert workspace.serving.traffic("e").rollout == "A/B test of reward, 4 of 4 arms"
    begun = workspace.db.events.after(seen, ["test.begun"])
    assert [each.data["arms"] for each in begun] == [
        {live.id: 40, second.id: 20, third.id: 10, fourth.id: 30}
    ]


def test_one_that_cannot_be_loaded_does_not_hold_up_the_others(workspace, laws, live):
    second, third, fourth = together(workspace, laws, *[ab_test(20)] * 3)
    loaded(workspace, second)
    loaded(workspace, third)
    loaded(workspace, fourth, error="OSError: no such file")
    workspace.serving.tick()
    assert states(workspace) == {
        1: ("live", 60), 2: ("arm", 20), 3: ("arm", 20), 4: ("failed", 0),
    }  # fmt: skip


def test_a_loser_leaves_and_the_others_keep_their_proportions(workspace, laws, live):
    second, third, _ = running(workspace, laws, ab_test(30), ab_test(20), ab_test(10))
    rewarded(workspace, live, [1, 0] * 200)
    rewarded(workspace, second, [1, 0] * 200, arm="arm")
    rewarded(workspace, third, [0] * 400, arm="arm")
    seen = workspace.db.events.last()
    look(workspace)
    assert states(workspace) == {
        1: ("live", 50), 2: ("arm", 37.5), 4: ("arm", 12.5), 3: ("retired", 0),
    }  # fmt: skip
    left = workspace.db.events.after(seen, ["test.arm_left"])[0].data
    assert (left["arm"], left["evidence"]["worse"]) == (third.id, True)
    rewarded(workspace, second, [1] * 600, arm="arm")
    look(workspace)
    assert states(workspace)[2] == ("live", 100)
    decided = workspace.db.events.after(seen, ["test.decided"])[0].data
    assert (decided["state"], decided["winner"]) == ("won", second.id)
    assert decided["evidence"]["left"][third.id]["mean"] == 0
    assert (decided["evidence"]["comparisons"], decided["evidence"]["correction"]) == (3, "Holm")


def test_when_all_have_lost_the_live_one_has_won(workspace, laws, live):
    arms = running(workspace, laws, ab_test(25), ab_test(25), ab_test(25))
    rewarded(workspace, live, [1, 1, 1, 0] * 100)
    for each in arms:
        rewarded(workspace, each, [1, 0, 0, 0] * 100, arm="arm")
    look(workspace)
    assert states(workspace)[1] == ("live", 100)
    with workspace.db.read() as tx:
        assert tx.execute(select(tables.traffic_tests.c.state)).scalar() == "won"


def test_the_sample_ratio_is_that_of_all_arms(workspace, laws, live):
    second, third, fourth = running(workspace, laws, *[ab_test(20)] * 3)
    for each, count in ((live, 8000), (second, 4000), (third, 3400), (fourth, 4000)):
        answered(workspace, each, count, assigned=count)
    look(workspace)
    assert states(workspace)[1] == ("live", 100)
    with workspace.db.read() as tx:
        reason = tx.execute(select(tables.traffic_tests.c.reason)).scalar()
    assert "not asked as their weights say" in reason


@pytest.mark.parametrize("rollout", [ab_test(20), bandit(floor=0.1)], ids=["ab_test", "bandit"])
def test_an_arm_that_fails_is_taken_off_though_nobody_rewards_it(workspace, laws, live, rollout):
    second, third = running(workspace, laws, rollout, rollout)
    answered(workspace, live, 500, errors=2)
    answered(workspace, second, 200, errors=200)
    answered(workspace, third, 200, errors=1)
    seen = workspace.db.events.last()
    look(workspace)
    assert states(workspace)[2] == ("retired", 0)
    assert states(workspace)[3][0] == "arm"
    assert sum(share for _, share in states(workspace).values()) == pytest.approx(100)
    left = workspace.db.events.after(seen, ["test.arm_left"])[0].data
    assert left["reason"].startswith("100.0% of its requests failed")
    answered(workspace, third, 300, errors=300)
    look(workspace)
    assert states(workspace)[1] == ("live", 100)
    ended = workspace.db.events.after(seen, ["test.decided"])[0].data
    assert (ended["state"], set(ended["evidence"]["left"])) == ("stopped", {second.id, third.id})


def test_an_arm_that_is_gone_leaves_its_test(workspace, laws, live):
    second, _third = running(workspace, laws, ab_test(20), ab_test(20))
    with workspace.db.begin() as tx:
        table = tables.revisions
        values = {"state": "failed", "traffic": 0}
        tx.execute(update(table).where(table.c.id == second.id).values(values))
    look(workspace)
    assert states(workspace) == {1: ("live", 75), 3: ("arm", 25), 2: ("failed", 0)}
    assert workspace.serving.traffic("e").evidence["left"][second.id]["why"]


def test_shares_by_hand_come_together_as_they_were_given(workspace, laws, live):
    running(workspace, laws, split(20), split(30))
    assert states(workspace) == {1: ("live", 50), 2: ("arm", 20), 3: ("arm", 30)}


def test_a_bandit_of_several_begins_with_equal_shares(workspace, laws, live):
    running(workspace, laws, bandit(), bandit(), bandit())
    shares = [share for _, share in states(workspace).values()]
    assert shares == pytest.approx([25] * 4, abs=0.01)


def test_shadows_stand_beside_each_other_as_many_as_are_asked_for(workspace, laws, live):
    arms = []
    for share in (10, 20, 30):
        arms.append(workspace.deploy(laws.matrix(), rollout=shadow(share, most=2)))
        loaded(workspace, arms[-1])
    assert states(workspace) == {
        1: ("live", 100), 2: ("retired", 0), 3: ("shadow", 0), 4: ("shadow", 0),
    }  # fmt: skip
    found = {one.number: one.weight for one in workspace.serving.traffic("e").arms}
    assert (found[3], found[4]) == (20, 30)
    loaded(workspace, workspace.deploy(laws.matrix(), rollout=shadow()))
    assert [state for state, _ in states(workspace).values()].count("shadow") == 1


def test_shadows_by_hand_are_at_most_four(workspace, laws, live):
    running(workspace, laws, *[split(10)] * 5)
    workspace.serving.set_traffic("e", shadow={"2": 10, "3": 20, "4": 30, "5": 40})
    assert [state for state, _ in states(workspace).values()].count("shadow") == 4
    with pytest.raises(Invalid, match="4 shadows already") as refused:
        workspace.serving.set_traffic("e", shadow={"6": 50})
    assert refused.value.code == "traffic.shadows"
    workspace.serving.set_traffic("e", shadow={"6": 50, "2": 0})
    assert states(workspace)[6] == ("shadow", 0)


@pytest.mark.parametrize(
    ("arms", "kind", "code", "said"),
    [
        ({"m@2": 60, "m@3": 40}, "ab_test", "traffic.weights", "have 100 % together"),
        ({"m@2": 20, "m@3": 20, "live": 50}, "split", "traffic.weights", "have 90 %, not 100"),
        ({"m@2": 20, "m@3": None}, "ab_test", "traffic.weights", "m@3 has no share"),
        ({"m@2": 0, "m@3": 5}, "ab_test", "traffic.weights", "m@2 cannot have 0 %"),
        ({"m@2": 20}, "bandit", "traffic.weights", "finds the shares itself"),
        ({"m@2": 120}, "shadow", "traffic.weights", "copies of 120 %"),
        ({}, "ab_test", "rollout.arms", "0 are given"),
        ([f"m@{at}" for at in range(8)], "ab_test", "rollout.arms", "8 are given"),
        ([f"m@{at}" for at in range(5)], "shadow", "rollout.arms", "5 are given"),
        (["m@2", "m@2"], "ab_test", "rollout.arms", "given twice"),
        (["m@2", "m@3"], "canary", "rollout.arms", "a canary has one new revision"),
    ],
)
def test_arms_that_cannot_be_shared_out_are_refused_by_name(arms, kind, code, said):
    with pytest.raises(Invalid, match=said) as refused:
        shares_of(arms, kind)
    assert refused.value.code == code


def test_arms_without_shares_have_all_the_same():
    assert shares_of(["a", "b", "c"], "ab_test") == {"a": 25, "b": 25, "c": 25}
    assert shares_of(["a", "b"], "shadow") == {"a": 100, "b": 100}
    assert shares_of({"a": 20, "b": 30, "live": 50}, "split") == {"a": 20, "b": 30}


@pytest.mark.parametrize("rollout", [ab_test(), bandit()], ids=lambda one: one.kind)
def test_an_arm_whose_requests_expire_is_taken_off(workspace, laws, live, rollout):
    second = workspace.deploy(laws.matrix(), rollout=rollout)
    loaded(workspace, second)
    answered(workspace, live, 300, expired=3)
    answered(workspace, second, 200, expired=100)
    with workspace.db.begin() as tx:
        tx.execute(update(tables.traffic_tests).values(looked_us=0))
    workspace.serving.tick()
    assert states(workspace)[1] == ("live", 100)
    (gone,) = [one for one in workspace.serving.endpoint("e").revisions if one.number == 2]
    assert "33.3% of its requests failed against 1.0% of the control's" in gone.reason
