"""The sample ratio of keyed traffic: keys count once, requests of a key do not."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from clew.base.ids import PredictionIds
from clew.serving import accounts, keyed, tables
from clew.serving.accounts import now_us
from clew.serving.definitions import ab_test, split
from clew.serving.spool import Record

IDS = PredictionIds()


@pytest.fixture
def arms(workspace, laws):
    """The revisions of an A/B test that runs."""
    return begun(workspace, laws, ab_test())


def begun(workspace, laws, rollout, **more):
    workspace.endpoint(**more)
    with workspace.db.begin() as tx:
        accounts.register(tx, "s1", "http://127.0.0.1:1")
    found = []
    for chosen in (None, rollout):
        found.append(workspace.deploy(laws.matrix(), **({"rollout": chosen} if chosen else {})))
        workspace.serving._rollouts.report(found[-1].id, "s1")
    return found


def asked(revision, unit, *, arm="live", after_s=2.0) -> Record:
    return Record(
        id=IDS.next(), endpoint="e", revision=revision.id, model_version=revision.model_version,
        global_id="g", at_us=now_us() + int(after_s * 1e6), latency_us=1, status=200, kind="v2",
        request_head=-1, request=b"", answer_head=-1, answer=b"", arm=arm, unit=unit,
    )  # fmt: skip


def noted(workspace, records):
    with workspace.db.begin() as tx:
        keyed.note(tx, records)


def keys(workspace):
    with workspace.db.read() as tx:
        test = tx.execute(tables.RUNNING, {"endpoint": "e"}).first()
        return keyed.counts(tx, test.id) if test else {}


def look(workspace):
    with workspace.db.begin() as tx:
        tx.execute(update(tables.traffic_tests).values(looked_us=0))
    workspace.serving.tick()


def test_a_key_counts_once_whoever_answers_and_however_often(workspace, arms):
    first, second = arms
    noted(workspace, [asked(first, "a") for _ in range(50)] + [asked(second, "b", arm="arm")])
    noted(workspace, [asked(first, "a"), asked(first, "b")])  # another process, a change of weights
    assert keys(workspace) == {first.id: 1, second.id: 1}


def test_what_was_not_drawn_by_the_test_is_no_key_of_it(workspace, arms):
    first, second = arms
    noted(workspace, [asked(second, "a", arm="pinned"), asked(second, "b", arm="shadow")])
    noted(workspace, [asked(first, ""), asked(first, "c", after_s=0)])
    assert keys(workspace) == {}


def test_keys_that_do_not_follow_the_weights_end_the_test_and_are_forgotten(workspace, arms):
    first, second = arms
    noted(workspace, [asked(first, f"a{at}") for at in range(300)])
    noted(workspace, [asked(second, f"b{at}", arm="arm") for at in range(150)])
    look(workspace)
    traffic = workspace.serving.traffic("e")
    assert traffic.state == "steady"
    with workspace.db.read() as tx:
        test = tx.execute(select(tables.traffic_tests)).one()
        assert tx.execute(select(func.count()).select_from(tables.traffic_keys)).scalar() == 0
    assert (test.state, test.evidence["arms"][first.id]["assigned"]) == ("stopped", 300)
    assert "not asked as their weights say" in test.reason


def test_one_key_that_asks_all_the_time_does_not_end_the_test(workspace, arms):
    first, second = arms
    noted(workspace, [asked(first, f"a{at}") for at in range(30)])
    noted(workspace, [asked(second, f"b{at}", arm="arm") for at in range(30)])
    noted(workspace, [asked(second, "b1", arm="arm") for _ in range(5000)])
    look(workspace)
    assert workspace.serving.traffic("e").state == "running"


def test_so_many_keys_are_enough(workspace, arms, monkeypatch):
    monkeypatch.setattr(keyed, "MOST", 5)
    for _ in range(2):
        noted(workspace, [asked(arms[0], f"{IDS.next()}", after_s=9 - at) for at in range(4)])
    assert sum(keys(workspace).values()) == 5


@pytest.mark.parametrize(
    ("rollout", "log"), [(ab_test(), 0.5), (split(50), 1.0)], ids=["sampled", "split"]
)
def test_nothing_is_noted_without_a_test_or_where_a_share_is_logged(workspace, laws, rollout, log):
    first, _ = begun(workspace, laws, rollout, log=log)
    noted(workspace, [asked(first, "a")])
    assert keys(workspace) == {}
