"""What became of predictions: joined to the log by id, early and late, once."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from clew.base import clock
from clew.base.errors import Invalid, NotFound
from clew.base.ids import PredictionIds
from clew.base.records.traffic import Feedback
from clew.codecs import load_value
from clew.serving import tables
from clew.serving.feedback import compared
from clew.serving.keeping import is_sampled
from clew.serving.spool import Record, Spool, frame

IDS = PredictionIds()


@pytest.fixture
def revision(workspace, laws):
    workspace.endpoint()
    return workspace.deploy(laws.matrix())


def predicted(workspace, revision, *values, **more) -> str:
    """A prediction in the spool; its id."""
    rows = len(values)
    inputs = [{"name": "x", "datatype": "FP64", "shape": [rows, 3], "data": [1, 2, 3] * rows}]
    tensor = {"name": "prediction", "datatype": "FP64", "shape": [rows], "data": values}
    one = Record(
        id=IDS.next(), endpoint="e", revision=revision.id, model_version=revision.model_version,
        global_id=revision.global_id, at_us=1_700_000_000_000_000, latency_us=1, status=200,
        kind="v2", request_head=-1, request=json.dumps({"inputs": inputs}).encode(),
        answer_head=-1, answer=json.dumps({"outputs": [tensor]}).encode(), **more,
    )  # fmt: skip
    spool = Spool(workspace.spool)
    spool.append([frame(one)])
    spool.close()
    return one.id


def rows(workspace):
    with workspace.db.read() as tx:
        return tx.execute(select(tables.feedback).order_by(tables.feedback.c.prediction)).all()


def committed(workspace):
    try:
        head = workspace.repos.head("p/e.feedback")
    except NotFound:
        return None, []
    paths = [file.path for file in workspace.repos.entries(head)]
    frame = load_value(workspace.store, head.tree, paths, "polars.DataFrame")
    return head, frame.sort("at").to_dicts()


@pytest.mark.parametrize("late", [False, True])
def test_feedback_is_joined_to_its_prediction_before_and_after_it_is_committed(
    workspace, revision, late
):
    id = predicted(workspace, revision, 3.5, arm="canary", propensity=0.2, unit="k")
    if late:
        workspace.serving.collect(force=True)
    told = workspace.serving.feedback([Feedback(id=id, label=3.0, reward=1.0)])
    assert told.kept == (id,)
    (row,) = rows(workspace)
    assert (row.revision, row.arm, row.propensity, row.unit) == (revision.id, "canary", 0.2, "k")
    assert (row.correct, row.error, row.reward, row.label) == (0, 0.5, 1.0, 3.0)
    assert workspace.serving.outcome(id).feedback[0].error == 0.5


def test_feedback_comes_into_a_repo_with_the_commit_of_its_prediction(workspace, revision):
    id = predicted(workspace, revision, 3.5)
    workspace.serving.feedback([Feedback(id=id, label=3.5)])
    workspace.serving._feedback.commit()
    assert committed(workspace) == (None, []), "its prediction comes first"
    workspace.serving.collect(force=True)
    head, (row,) = committed(workspace)
    log = workspace.repos.head("p/e.predictions")
    assert (row["id"], row["label"], row["correct"]) == (id, "3.5", 1)
    assert row["log_commit"] == log.id
    assert [one for one in head.provenance if one == log.id] == [log.id]
    assert workspace.serving.outcome(id).feedback[0].commit == head.id


def test_the_same_feedback_again_changes_nothing(workspace, revision):
    id = predicted(workspace, revision, 1.0)
    said = [Feedback(id=id, reward=0.5)]
    assert workspace.serving.feedback(said).kept == (id,)
    workspace.serving.collect(force=True)
    assert workspace.serving.feedback(said).known == (id,)
    workspace.serving.collect(force=True)
    assert len(committed(workspace)[1]) == 1


def test_a_correction_takes_the_place_of_what_was_said(workspace, revision):
    id = predicted(workspace, revision, 1.0)
    workspace.serving.feedback([Feedback(id=id, reward=0.0)])
    workspace.serving.collect(force=True)
    assert workspace.serving.feedback([Feedback(id=id, reward=1.0)]).kept == (id,)
    workspace.serving.collect(force=True)
    assert [row.reward for row in rows(workspace)] == [1.0]
    assert [row["reward"] for row in committed(workspace)[1]] == [0.0, 1.0]


def test_a_label_leaves_the_reward_that_came_before_it_and_the_other_way_round(workspace, revision):
    id = predicted(workspace, revision, 3.5)
    workspace.serving.feedback([Feedback(id=id, reward=0.25)])
    workspace.serving.collect(force=True)
    assert workspace.serving.feedback([Feedback(id=id, label=3.0)]).kept == (id,)
    assert [(row.label, row.reward, row.error) for row in rows(workspace)] == [(3.0, 0.25, 0.5)]
    assert workspace.serving.feedback([Feedback(id=id, reward=0.25)]).known == (id,)
    said = [Feedback(id=id, reward=1.0), Feedback(id=id, label=3.5)]
    assert workspace.serving.feedback(said).kept == (id,)
    assert [(row.label, row.reward, row.correct) for row in rows(workspace)] == [(3.5, 1.0, 1)]
    workspace.serving.collect(force=True)
    assert [row["label"] for row in committed(workspace)[1]] == [None, "3.5"]


def test_unknown_ids_are_told_and_the_others_kept(workspace, revision):
    id = predicted(workspace, revision, 1.0)
    nobody = IDS.next()
    told = workspace.serving.feedback([Feedback(id=nobody, reward=1), Feedback(id=id, reward=1)])
    assert (told.kept, told.unknown) == ((id,), (nobody,))
    with pytest.raises(NotFound, match="no prediction"):
        workspace.serving.outcome(nobody)


def test_an_id_that_sampling_leaves_out_is_told_as_such(workspace, laws):
    workspace.endpoint(log=0.5)
    workspace.deploy(laws.matrix())
    ids = [IDS.next() for _ in range(40)]
    told = workspace.serving.feedback([Feedback(id=id, reward=1) for id in ids], endpoint="e")
    assert set(told.unsampled) == {id for id in ids if not is_sampled(id, 0.5)}
    assert set(told.unknown) == {id for id in ids if is_sampled(id, 0.5)}


def test_each_row_and_each_kind_has_feedback_of_its_own(workspace, revision):
    id = predicted(workspace, revision, 1.0, 2.0)
    said = [
        Feedback(id=id, row=0, label=1.0), Feedback(id=id, row=1, label=1.0),
        Feedback(id=id, row=1, name="click", reward=1.0),
    ]  # fmt: skip
    workspace.serving.feedback(said)
    found = {(row.row, row.name): row.correct for row in rows(workspace)}
    assert found == {(0, ""): 1, (1, ""): 0, (1, "click"): None}
    with pytest.raises(Invalid, match="2 rows, not a row 2"):
        workspace.serving.feedback([Feedback(id=id, row=2, label=1)])


@pytest.mark.parametrize(
    "wrong", [{}, {"reward": float("nan")}, {"label": "x" * 20_000}], ids=["none", "nan", "long"]
)
def test_feedback_that_says_nothing_is_refused(workspace, revision, wrong):
    id = predicted(workspace, revision, 1.0)
    with pytest.raises(Invalid, match="says nothing that can be kept"):
        workspace.serving.feedback([Feedback(id=id, reward=1), Feedback(id=id, **wrong)])
    assert rows(workspace) == []


@pytest.mark.parametrize(
    ("label", "outputs", "found"),
    [
        (1, {"label": 1, "probability": 0.8}, (1, 0.0)),
        ("1", {"label": 1}, (1, 0.0)),
        (True, {"label": 1}, (1, 0.0)),
        ("UA", {"label": "UA", "probabilities": [0.1, 0.9]}, (1, None)),
        ("AA", {"label": "UA"}, (0, None)),
        (3.0, {"prediction": 3.5}, (0, 0.5)),
        (3.0, {"a": 1.0, "b": 2.0}, (None, None)),
        (1, {"answer": 1}, (1, 0.0)),
        (True, {"probability": 0.9}, (None, None)),
        ("UA", {"probabilities": [0.1, 0.9]}, (None, None)),
        (None, {"label": 1}, (None, None)),
    ],
)
def test_a_label_is_compared_with_the_answer(label, outputs, found):
    assert compared(label, outputs) == found


def test_feedback_that_is_old_leaves_the_rows_and_stays_in_the_repo(workspace, revision):
    ids = [predicted(workspace, revision, value) for value in (1.0, 2.0, 3.0)]
    workspace.serving.collect(force=True)
    workspace.serving.feedback([Feedback(id=id, reward=1) for id in ids[:2]])
    workspace.serving.collect(force=True)
    workspace.serving.feedback([Feedback(id=ids[2], reward=1)])
    late = clock.now() + timedelta(days=1)
    assert workspace.serving.drop_feedback(clock.now() - timedelta(days=1)) == 0
    assert workspace.serving.drop_feedback(late) == 2
    assert [row.prediction for row in rows(workspace)] == [ids[2]], "it is not committed yet"
    assert len(committed(workspace)[1]) == 2
    assert workspace.serving.drop_feedback(late) == 0


def test_feedback_that_a_test_rests_on_stays_however_old_it_is(workspace, laws, revision):
    id = predicted(workspace, revision, 1.0)
    workspace.serving.feedback([Feedback(id=id, reward=1)])
    workspace.serving.collect(force=True)
    test = {
        "id": "t", "endpoint": "e", "rollout": {}, "state": "running", "arms": [], "base": {},
        "evidence": {}, "reason": "", "global_id": "g", "begun_us": 1, "looked_us": 1,
    }  # fmt: skip
    with workspace.db.begin() as tx:
        tx.execute(tables.traffic_tests.insert(), test)
    late = clock.now() + timedelta(days=1)
    assert workspace.serving.drop_feedback(late) == 0
    with workspace.db.begin() as tx:
        tx.execute(update(tables.traffic_tests).values(state="won"))
    assert workspace.serving.drop_feedback(late) == 1
