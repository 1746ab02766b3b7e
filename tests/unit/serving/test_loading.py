"""Load and unload by a client: what it means for endpoints, in all processes and over restarts."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from clew.serving import canary, loading
from clew.serving.rollouts import definition_of

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}
).encode()


def ask(process, path, body=None):
    """Status and JSON of one answer, on a connection of its own."""
    asked = urllib.request.Request(process.url + path, data=body)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def statuses(process, times=20):
    return {ask(process, "/v2/models/e/infer", BODY)[0] for _ in range(times)}


def turn(process, what):
    return ask(process, f"/v2/repository/models/e/{what}", b"{}")


def kinds(workspace):
    return [each.kind for each in workspace.db.events.after(0) if each.kind.startswith("endpoint.")]


def test_an_unloaded_endpoint_is_refused_by_every_process_until_it_is_loaded(workspace, laws):
    workspace.endpoint()
    revision = workspace.deploy(laws.matrix())
    process = workspace.serve(processes=2)
    assert statuses(process) == {200}
    assert turn(process, "unload") == (200, {})
    assert statuses(process) == {404}
    assert "load it with POST" in ask(process, "/v2/models/e/infer", BODY)[1]["error"]
    (entry,) = ask(process, "/v2/repository/index", b"{}")[1]
    assert (entry["state"], entry["version"]) == ("UNAVAILABLE", "")
    assert ask(process, "/v2/models/e/ready")[0] == 404
    assert ask(process, "/v2/models/e")[0] == 404
    assert ask(process, "/v2/health/ready")[0] == 200, "it is meant to be so"
    assert turn(process, "unload")[0] == 200, "again changes nothing"
    assert workspace.state(revision) == "live", "it keeps its revision and its traffic"
    assert workspace.serving.endpoint("e").place.startswith("unloaded by a client")
    for _ in range(2):
        assert turn(process, "load") == (200, {})
        assert statuses(process) == {200}
    assert kinds(workspace) == ["endpoint.unloaded", "endpoint.loaded"]


@pytest.mark.slow
def test_an_endpoint_stays_unloaded_over_restarts_and_a_deploy_loads_it(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix(), cause="one")
    process = workspace.serve()
    turn(process, "unload")
    process.stop()
    process = workspace.serve()
    workspace.deploy(laws.matrix(), cause="one")  # what the engine says again after a restart
    assert statuses(process, 3) == {404}
    workspace.deploy(laws.matrix(scale=2.0))
    workspace.wait(lambda: statuses(process, 1) == {200})


def test_no_step_of_a_rollout_is_taken_while_an_endpoint_is_unloaded(workspace, laws):
    workspace.endpoint(rollout=canary(steps=[50, 100], hold_s=0.0, min_requests=1))
    workspace.deploy(laws.matrix())
    second = workspace.deploy(laws.matrix())
    assert workspace.serving.tick(), "with no process serving a rollout goes on at once"
    third = workspace.deploy(laws.matrix())
    with workspace.db.begin() as tx:
        loading.turn(tx, definition_of(tx, "e"), unloaded=True, reason="a test")
    assert not workspace.serving.tick()
    assert (workspace.state(second), workspace.state(third)) == ("live", "loading")


def test_a_model_that_cannot_be_loaded_again_is_told_to_who_asks(workspace, laws, tmp_path):
    workspace.endpoint()
    workspace.deploy(laws.matrix(unloadable_if=str(tmp_path / "gone")))
    process = workspace.serve()
    assert statuses(process, 1) == {200}
    ask(process, "/v2/models/stats")  # has answered, so it has been in memory
    turn(process, "unload")
    (tmp_path / "gone").touch()
    status, said = turn(process, "load")
    assert status == 400
    assert "no such weights" in said["error"]
    (tmp_path / "gone").unlink()
    turn(process, "unload")
    assert turn(process, "load")[0] == 200
    assert statuses(process, 1) == {200}
