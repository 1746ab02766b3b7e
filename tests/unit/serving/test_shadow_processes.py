"""Real serving processes with several arms: shadows, sampling, redaction, rollback, kills."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections import Counter

import pytest

from clew.base.records.traffic import Feedback
from clew.serving.definitions import bandit, shadow, split
from clew.serving.keeping import is_sampled
from clew.serving.router import Arm, Router
from clew.serving.spool import records, segments


def ask(process, data=(1, 2, 3), *, version="", key=""):
    """Headers of one answer."""
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP64", "data": list(data)}
    place = f"/versions/{version}" if version else ""
    request = urllib.request.Request(
        f"{process.url}/v2/models/e{place}/infer",
        data=json.dumps({"inputs": [tensor]}).encode(),
        headers={"Clew-Key": key} if key else {},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        return answer.headers


def spooled(workspace):
    return [
        record
        for segment in segments(workspace.spool)
        for record, _ in records(segment.read(0, -1))
    ]


def with_second(workspace, laws, rollout, law=None, **more):
    workspace.endpoint(**more)
    first = workspace.deploy(laws.matrix(), version="1")
    process = workspace.serve()
    second = workspace.deploy(law or laws.matrix(), rollout=rollout)
    return first, second, process


def test_a_shadow_answers_nobody_is_logged_and_compared(workspace, laws):
    first, second, process = with_second(workspace, laws, shadow(), laws.matrix(scale=2.0))
    workspace.wait(lambda: workspace.state(second) == "shadow")

    def compared():
        assert ask(process)["clew-revision"] == first.id
        workspace.serving.collect(force=True)
        arm = workspace.serving.traffic("e").arms[1]
        return arm.compared >= 5 and arm

    arm = workspace.wait(compared)
    assert arm.disagreed == arm.compared
    process.stop()
    workspace.serving.collect(force=True)
    mine = workspace.serving.predictions_of_revision(second.id, 100)
    theirs = {one.id: one for one in workspace.serving.predictions_of_revision(first.id, 1000)}
    assert mine
    for one in mine:
        assert (one.arm, one.outputs) == ("shadow", {"prediction": [12.0]})
        assert theirs[one.copy_of].outputs == {"prediction": [6.0]}


def test_a_shadow_that_fails_or_hangs_harms_no_answer(workspace, laws):
    law = laws.matrix(fail_above=-1, sleep_s=0.05)
    _first, second, process = with_second(workspace, laws, shadow(), law)
    workspace.wait(lambda: workspace.state(second) == "shadow")
    ids = {ask(process)["clew-prediction-id"] for _ in range(30)}
    assert len(ids) == 30
    workspace.wait(lambda: workspace.serving.revision(second.id).errors > 0)
    process.stop()
    arm = workspace.serving.traffic("e").arms[1]
    assert arm.compared + arm.dropped == 30
    assert arm.disagreed == arm.compared == arm.errors
    endpoint = workspace.serving.endpoint("e")
    assert (endpoint.requests, endpoint.errors) == (30, 0)


def test_each_prediction_says_its_arm_and_propensity(workspace, laws):
    _first, second, process = with_second(workspace, laws, split(30))
    workspace.wait(lambda: workspace.state(second) == "arm")
    workspace.wait(lambda: ask(process)["clew-revision"] == second.id)
    ids = {ask(process)["clew-prediction-id"] for _ in range(40)}
    pinned = ask(process, version="1")["clew-prediction-id"]
    process.stop()
    workspace.serving.collect(force=True)
    found = {one.id: one for one in workspace.serving.predictions("e", 1000)}
    kinds = Counter((found[id].arm, found[id].propensity) for id in ids)
    assert set(kinds) <= {("live", 0.7), ("arm", 0.3)}
    assert (found[pinned].arm, found[pinned].propensity) == ("pinned", 1.0)


def test_a_key_stays_with_its_arm_in_every_process(workspace, laws):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix())
    process = workspace.serve(processes=2)
    second = workspace.deploy(laws.matrix(), rollout=split(50))
    workspace.wait(lambda: workspace.state(second) == "arm")
    keys = [f"customer {at}" for at in range(12)]
    router = Router([Arm(each.id, each.id, 50) for each in (first, second)])
    expected = [router.choose(key).name for key in keys]
    assert len(set(expected)) == 2

    def settled():  # both processes follow, and are asked by turns
        return all(
            [ask(process, key=key)["clew-revision"] for key in keys] == expected for _ in range(4)
        )

    workspace.wait(settled)
    units = {record.unit for record in spooled(workspace) if record.unit}
    assert len(units) == 12
    assert not any("customer" in unit for unit in units)


def test_the_log_keeps_the_share_that_ids_say(workspace, laws):
    workspace.endpoint(log=0.4)
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    headers = [ask(process) for _ in range(60)]
    ids = [each["clew-prediction-id"] for each in headers]
    kept = {id for id in ids if is_sampled(id, 0.4)}
    assert {record.id for record in spooled(workspace)} == kept
    assert 0 < len(kept) < 60
    told = workspace.serving.feedback([Feedback(id=id, reward=1) for id in ids])
    assert set(told.kept) == kept
    assert set(told.unsampled) == set(ids) - kept


def test_redacted_columns_are_never_on_the_disk(workspace, laws):
    workspace.endpoint(redact=("carrier", "prediction"))
    workspace.deploy(laws.columns())
    process = workspace.serve()
    values = {"distance": 1.5, "delay": None, "stops": 2, "carrier": "SECRETLY"}
    kinds = {"distance": "FP64", "delay": "FP64", "stops": "INT32", "carrier": "BYTES"}
    inputs = [
        {"name": name, "datatype": kinds[name], "shape": [1], "data": [value]}
        for name, value in values.items()
    ]
    bodies = [json.dumps({"inputs": each}).encode() for each in (inputs, inputs[1:])]
    for body in bodies:  # one that is answered, and one that is refused
        request = urllib.request.Request(f"{process.url}/v2/models/e/infer", data=body)
        try:
            urllib.request.urlopen(request, timeout=60).close()
        except urllib.error.HTTPError as refused:
            refused.close()
    process.stop()
    for path in workspace.spool.iterdir():
        assert b"SECRETLY" not in path.read_bytes()
    workspace.serving.collect(force=True)
    good, bad = sorted(workspace.serving.predictions("e"), key=lambda one: "error" in one.outputs)
    assert good.inputs == {"distance": [1.5], "delay": [None], "stops": [2]}
    assert good.outputs == {}
    assert "redacted" in bad.outputs["error"][0]


def test_with_everything_on_a_rollback_is_one_command(workspace, laws):
    first, second, process = with_second(workspace, laws, bandit(floor=0.3), log=0.5)
    workspace.wait(lambda: workspace.state(second) == "arm")
    third = workspace.deploy(laws.matrix(), rollout=shadow())
    workspace.wait(lambda: workspace.state(third) == "shadow")
    workspace.wait(lambda: ask(process)["clew-revision"] == second.id)
    assert workspace.serving.rollback("e").id == first.id

    def settled():
        return all(ask(process)["clew-revision"] == first.id for _ in range(20))

    workspace.wait(settled)
    assert workspace.state(third) == "shadow"


@pytest.mark.skipif(not hasattr(os, "kill"), reason="no signals here")
def test_a_bandit_learns_from_feedback_and_survives_kills(workspace, laws):
    _first, second, process = with_second(
        workspace, laws, bandit(floor=0.1, every_s=0.2), laws.matrix(scale=2.0)
    )
    workspace.wait(lambda: workspace.state(second) == "arm")

    def learned():
        headers = [ask(process) for _ in range(20)]
        said = [
            Feedback(id=one["clew-prediction-id"], reward=one["clew-revision"] == second.id)
            for one in headers
        ]
        assert not workspace.serving.feedback(said).unknown
        return {arm.revision: arm.weight for arm in workspace.serving.traffic("e").arms}.get(
            second.id
        ) == 90

    workspace.wait(learned)
    known = workspace.serving.traffic("e").arms[1].outcomes
    for pid in process.pids:
        os.kill(pid, signal.SIGKILL)
    arm = workspace.serving.traffic("e").arms[1]
    assert (arm.weight, arm.outcomes >= known > 0) == (90, True)
    workspace.wait(lambda: answers(process))
    assert workspace.serving.traffic("e").arms[1].outcomes >= known


def answers(process) -> bool:
    try:
        ask(process)
    except OSError:
        return False
    return True
