"""Revisions and traffic as rows, without a serving process or with one that is only told of."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from clew.base.errors import Conflict, NotFound
from clew.base.records import Node
from clew.serving import EndpointDefinition, Serving, canary, tables
from clew.serving.revisions import rollout_of, row_of

from .conftest import answered, loaded, process, states


def define(workspace, name="e", pipeline="p", **more):
    with workspace.db.begin() as tx:
        workspace.serving.define(
            tx, EndpointDefinition(name=name, pipeline=pipeline, model="p/model", **more)
        )


def age(workspace, revision, seconds):
    """Let a revision's step have begun so long ago."""
    table = tables.revisions
    with workspace.db.begin() as tx:
        tx.execute(
            update(table)
            .where(table.c.id == revision.id)
            .values(since_us=table.c.since_us - int(seconds * 1e6))
        )


def test_the_first_revision_has_all_traffic_at_once(workspace, laws):
    workspace.endpoint(rollout=canary())
    revision = workspace.deploy(laws.matrix())
    assert (revision.state, revision.traffic, revision.number) == ("live", 100, 1)


def test_a_deploy_of_an_unknown_endpoint_says_which_there_are(workspace, laws):
    workspace.endpoint()
    with pytest.raises(NotFound, match="There is e"):
        workspace.deploy(laws.matrix(), endpoint="other")


def test_an_endpoint_belongs_to_one_pipeline(workspace):
    define(workspace)
    define(workspace, max_queue=7)
    assert workspace.serving.definition("e").max_queue == 7
    with pytest.raises(Conflict, match="belongs to the pipeline"):
        define(workspace, pipeline="q")


def test_a_deploy_for_the_same_cause_is_the_same_revision(workspace, laws):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix(), model_version="m1", cause="verdict")
    workspace.deploy(laws.matrix(), model_version="m2")
    again = workspace.deploy(laws.matrix(), model_version="m1", cause="verdict")
    assert first.id == again.id
    assert len(workspace.serving.endpoint("e").revisions) == 2


def test_a_deploy_without_a_cause_is_new_once_the_version_is_not_the_newest(workspace, laws):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix(), model_version="m1")
    assert workspace.deploy(laws.matrix(), model_version="m1").id == first.id
    workspace.deploy(laws.matrix(), model_version="m2")
    assert workspace.deploy(laws.matrix(), model_version="m1").id != first.id


def test_without_a_serving_process_a_rollout_goes_to_100_at_once(workspace, laws):
    workspace.endpoint(rollout=canary())
    workspace.deploy(laws.matrix())
    second = workspace.deploy(laws.matrix())
    assert second.state == "loading"
    assert workspace.serving.tick()
    assert states(workspace) == {1: ("draining", 0), 2: ("live", 100)}


def test_a_rollout_waits_until_every_process_has_loaded(workspace, laws):
    workspace.endpoint()
    process(workspace, "s1")
    process(workspace, "s2")
    workspace.deploy(laws.matrix())
    second = workspace.deploy(laws.matrix())
    loaded(workspace, second, "s1")
    assert states(workspace)[2] == ("loading", 0)
    loaded(workspace, second, "s2")
    assert states(workspace) == {1: ("draining", 0), 2: ("live", 100)}


def test_a_revision_that_cannot_be_loaded_fails_and_traffic_stays(workspace, laws):
    workspace.endpoint(rollout=canary())
    process(workspace)
    first = workspace.deploy(laws.matrix())
    loaded(workspace, first)
    second = workspace.deploy(laws.matrix())
    loaded(workspace, second, error="RuntimeError: no such weights")
    assert states(workspace) == {1: ("live", 100), 2: ("failed", 0)}
    assert "no such weights" in workspace.serving.revision(second.id).reason


def test_a_first_revision_that_cannot_be_loaded_leaves_the_endpoint_without_one(workspace, laws):
    workspace.endpoint()
    process(workspace)
    loaded(workspace, workspace.deploy(laws.matrix()), error="RuntimeError: x")
    assert states(workspace) == {1: ("failed", 0)}


def start_canary(workspace, laws, **more):
    workspace.endpoint(
        rollout=canary([10, 50], hold_s=1.0, min_requests=20, max_requests=20, **more)
    )
    process(workspace)
    first = workspace.deploy(laws.matrix())
    loaded(workspace, first)
    second = workspace.deploy(laws.matrix())
    loaded(workspace, second)
    return first, second


def test_a_canary_advances_step_by_step_with_its_evidence(workspace, laws):
    first, second = start_canary(workspace, laws)
    assert states(workspace) == {1: ("live", 90), 2: ("canary", 10)}
    seen = workspace.db.events.last()
    for expected in [{1: ("live", 50), 2: ("canary", 50)}, {1: ("draining", 0), 2: ("live", 100)}]:
        assert not workspace.serving.tick()
        age(workspace, second, 2)
        answered(workspace, first, 90)
        answered(workspace, second, 25)
        assert workspace.serving.tick()
        assert states(workspace) == expected
    events = workspace.db.events.after(seen, ["revision.changed"])
    evidence = [each.data["evidence"] for each in events if each.data.get("evidence")]
    assert [each["canary"]["requests"] for each in evidence] == [25, 25]


def test_a_canary_with_errors_goes_back_at_once(workspace, laws):
    _, second = start_canary(workspace, laws)
    answered(workspace, second, 20, errors=5)
    assert workspace.serving.tick()
    assert states(workspace) == {1: ("live", 100), 2: ("rolled_back", 0)}
    assert "failed requests" in workspace.serving.revision(second.id).reason


@pytest.mark.parametrize(("said", "most"), [(None, 1.0), (0.3, 0.3)])
def test_answers_may_differ_where_the_live_one_is_known_to_have_drifted(
    workspace, laws, said, most
):
    asked = []

    def drifted(_tx, endpoint, version):
        asked.append((endpoint, version))
        return True

    workspace.serving = Serving(
        workspace.db,
        workspace.repos,
        workspace.store,
        workspace.lineage,
        workspace.spool,
        drifted=drifted,
    )
    first, second = start_canary(workspace, laws, max_drift=said)
    assert asked == [("e", first.model_version)], "the first one has nothing to be compared with"
    with workspace.db.read() as tx:
        chosen = rollout_of(tx, row_of(tx, second.id))
    assert chosen.drift_bound == most
    assert ("answers may differ" in str(chosen)) == (said is None)
    (_, created) = workspace.db.events.after(0, ["revision.created"])
    assert ("has drifted" in created.data["reason"]) == (said is None)
    workspace.deploy(laws.matrix(), model_version=first.model_version)
    assert len(asked) == 1, "the same model with other functions has learned nothing"


def test_a_canary_that_nobody_asks_advances_after_a_while(workspace, laws):
    _, second = start_canary(workspace, laws)
    age(workspace, second, 4)
    assert not workspace.serving.tick()
    age(workspace, second, 2)
    assert workspace.serving.tick()
    assert states(workspace)[2] == ("canary", 50)


def test_a_deploy_during_a_canary_ends_it(workspace, laws):
    start_canary(workspace, laws)
    workspace.deploy(laws.matrix())
    assert states(workspace) == {1: ("live", 100), 2: ("retired", 0), 3: ("loading", 0)}


def test_a_rollback_during_a_canary_ends_it(workspace, laws):
    first, _ = start_canary(workspace, laws)
    assert workspace.serving.rollback("e", "I do not like it").id == first.id
    assert states(workspace) == {1: ("live", 100), 2: ("rolled_back", 0)}


def test_rollbacks_go_back_one_live_revision_at_a_time(workspace, laws):
    workspace.endpoint()
    for _ in range(3):
        workspace.deploy(laws.matrix())
        workspace.serving.tick()
    assert workspace.serving.rollback("e").number == 2
    assert workspace.serving.rollback("e").number == 1
    assert states(workspace) == {1: ("live", 100), 2: ("rolled_back", 0), 3: ("rolled_back", 0)}
    with pytest.raises(Conflict, match="no revision to go back to"):
        workspace.serving.rollback("e")


def test_what_was_live_is_draining_and_then_retired(workspace, laws):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix())
    workspace.deploy(laws.matrix())
    workspace.serving.tick()
    age(workspace, first, 60)
    assert workspace.serving.tick()
    assert states(workspace)[1] == ("retired", 0)
    assert workspace.serving.rollback("e").id == first.id


def test_every_change_is_an_event_under_the_revisions_global_id(workspace, laws):
    workspace.endpoint()
    revision = workspace.deploy(laws.matrix(), global_id="g" * 16)
    events = workspace.db.events.after(0, global_id="g" * 16)
    assert [(each.kind, each.subject) for each in events] == [("revision.created", revision.id)]
    assert workspace.serving.of_change("g" * 16) == [revision]


def test_every_change_of_traffic_is_kept(workspace, laws):
    start_canary(workspace, laws)
    with workspace.db.read() as tx:
        rows = tx.execute(select(tables.traffic_changes).order_by(tables.traffic_changes.c.seq))
        assert [sorted(row.split.values()) for row in rows] == [[100], [10, 90]]


def test_a_revision_is_tied_to_its_model_version_and_verdict(workspace, laws):
    workspace.endpoint()
    with workspace.db.begin() as tx:
        for kind, id in (("model_version", "m" * 16), ("verdict", "v" * 16)):
            workspace.lineage.add(tx, Node(kind=kind, id=id, title=kind, global_id="g"))
    revision = workspace.deploy(laws.matrix(), model_version="m" * 16, verdict="v" * 16)
    _, edges = workspace.lineage.walk(revision.id, "up")
    assert {(edge.source, edge.label) for edge in edges} == {
        ("m" * 16, "serves"),
        ("v" * 16, "blessed by"),
    }


def test_a_process_that_is_gone_is_not_waited_for(workspace, laws):
    workspace.endpoint()
    process(workspace)
    table = tables.serving_processes
    workspace.deploy(laws.matrix())
    workspace.deploy(laws.matrix())
    assert not workspace.serving.tick()
    with workspace.db.begin() as tx:
        tx.execute(update(table).values(pid=2**22 + 1))
    assert workspace.serving.url() == ""
    assert workspace.serving.tick()
    assert states(workspace)[2] == ("live", 100)


@pytest.mark.parametrize("act", [{"promote": "1"}, {"weights": {"1": 20}}, {"shadow": {"1": 50}}])
def test_one_that_comes_back_by_hand_is_waited_for(workspace, laws, act):
    """Whoever had it in memory long ago does not have it now."""
    workspace.endpoint()
    process(workspace)
    first, second, third = (workspace.deploy(laws.matrix()) for _ in range(3))
    for revision in (first, second, third):
        loaded(workspace, revision)
    age(workspace, first, 60)
    workspace.serving.tick()
    assert states(workspace)[1] == ("retired", 0)
    workspace.serving.set_traffic("e", **act)
    workspace.serving.tick()
    assert states(workspace)[1] == ("loading", 0)
    assert states(workspace)[3] == ("live", 100)
    loaded(workspace, first)
    assert states(workspace)[1][0] in {"live", "arm", "shadow"}


def test_one_that_could_not_be_loaded_is_tried_again_by_hand(workspace, laws):
    workspace.endpoint()
    process(workspace)
    loaded(workspace, workspace.deploy(laws.matrix()))
    second = workspace.deploy(laws.matrix())
    loaded(workspace, second, error="OSError: the disk was full")
    assert states(workspace)[2] == ("failed", 0)
    workspace.serving.set_traffic("e", promote="2")
    workspace.serving.tick()
    assert states(workspace)[2] == ("loading", 0)
    loaded(workspace, second)
    assert states(workspace)[2] == ("live", 100)


def test_what_is_wrong_with_one_endpoint_stops_no_other(workspace, laws):
    for name in ("bad", "e"):
        workspace.endpoint(name, rollout=canary([50], hold_s=0, min_requests=20))
    process(workspace)
    found = {}
    for name in ("bad", "e"):
        loaded(workspace, workspace.deploy(laws.matrix(), endpoint=name))
        found[name] = workspace.deploy(laws.matrix(), endpoint=name)
        loaded(workspace, found[name])
    table = tables.revisions
    with workspace.db.begin() as tx:  # as another version of Clew might have written it
        values = {"rollout": {"kind": "canary", "steps": "many"}}
        tx.execute(update(table).where(table.c.id == found["bad"].id).values(values))
    answered(workspace, found["e"], 500)
    assert workspace.serving.tick()
    assert states(workspace)[2] == ("live", 100)


def test_counts_add_up_over_processes(workspace, laws):
    workspace.endpoint()
    revision = workspace.deploy(laws.matrix())
    answered(workspace, revision, 10, errors=1)
    answered(workspace, revision, 5)
    endpoint = workspace.serving.endpoint("e")
    assert (endpoint.requests, endpoint.errors) == (15, 1)
    assert 0.75 <= endpoint.p50_ms <= 1.0
    assert workspace.serving.revision(revision.id[:6]).requests == 15


def test_a_new_revision_is_awaited_until_it_is_known_whether_it_can_be_loaded(workspace, laws):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix())
    assert not workspace.serving.is_loading(None), "nobody serves: nobody will say"
    process(workspace)
    assert workspace.serving.is_loading(None)
    assert workspace.serving.is_loading(first.global_id)
    assert not workspace.serving.is_loading("another change")
    loaded(workspace, first)
    assert not workspace.serving.is_loading(None)
    second = workspace.deploy(laws.matrix())
    assert workspace.serving.is_loading(second.global_id)
    loaded(workspace, second)
    assert (workspace.state(second), workspace.serving.is_loading(None)) == ("live", False)
    third = workspace.deploy(laws.matrix())
    loaded(workspace, third, error="no such weights")
    assert (workspace.state(third), workspace.serving.is_loading(None)) == ("failed", False)


def test_a_revision_is_not_awaited_for_ever(workspace, laws):
    workspace.endpoint()
    revision = workspace.deploy(laws.matrix())
    process(workspace)
    assert workspace.serving.is_loading(revision.global_id)
    age(workspace, revision, 121)
    assert not workspace.serving.is_loading(revision.global_id)


def test_a_canary_that_lets_its_callers_wait_in_vain_goes_back(workspace, laws):
    first, second = start_canary(workspace, laws)
    answered(workspace, first, 300)
    answered(workspace, second, 0, expired=40)  # 504: nobody got anything, and it answered nothing
    workspace.serving.tick()
    assert states(workspace)[2] == ("rolled_back", 0)
    (ended,) = [one for one in workspace.serving.endpoint("e").revisions if one.number == 2]
    assert "100.0% failed requests against 0.0%" in ended.reason


def test_deadlines_that_both_miss_alike_are_no_reason_to_go_back(workspace, laws):
    first, second = start_canary(workspace, laws)
    answered(workspace, first, 300, expired=100)
    answered(workspace, second, 30, expired=10)
    workspace.serving.tick()
    assert states(workspace)[2][0] == "canary"
