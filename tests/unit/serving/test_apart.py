"""A heavy model has a process of its own: what kills that costs its requests and nothing else."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import urllib.request

import psutil
import pytest

from .conftest import ROW, ask, children, told


def value(process, name):
    """What a model answers."""
    return told(ask(process, name))["prediction"]


def test_a_crash_costs_the_requests_under_way_and_another_process_is_started(
    workspace, laws, tmp_path
):
    begun, let_go = tmp_path / "begun", tmp_path / "let_go"
    let_go.touch()
    law = laws.matrix(scale=2.0, begun=str(begun), let_go=str(let_go))
    workspace.endpoint("heavy", isolate=True)
    workspace.endpoint("light", isolate=False)
    workspace.deploy(laws.matrix(), endpoint="light")
    workspace.deploy(law, endpoint="heavy")
    process = workspace.serve()
    (pid,) = children(process)
    assert value(process, "heavy") == [12.0]
    begun.unlink()
    let_go.unlink()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        dying = pool.submit(ask, process, "heavy")
        workspace.wait(begun.exists)
        os.kill(pid, signal.SIGKILL)
        assert value(process, "light") == [6.0]
        status, body = dying.result()
    let_go.touch()
    assert status == 500
    assert "was killed by SIGKILL while it computed this; another is started" in body["error"]
    assert value(process, "heavy") == [12.0]
    assert children(process) != [pid]
    assert len(children(process)) == 1


def test_what_the_model_raises_is_told_as_in_the_same_process(workspace, laws):
    workspace.endpoint("heavy", isolate=True)
    workspace.deploy(laws.matrix(fail_above=5), endpoint="heavy")
    process = workspace.serve()
    status, body = ask(process, "heavy")
    assert (status, body["error"]) == (
        500,
        "The model refused the input: RuntimeError: the model broke",
    )
    workspace.deploy(laws.matrix(refuse_above=5), endpoint="heavy")
    workspace.wait(lambda: ask(process, "heavy")[0] == 400)
    assert "a sum is too large" in ask(process, "heavy")[1]["error"]


def test_memory_goes_back_when_the_model_is_unloaded(workspace, laws):
    workspace.endpoint("heavy", isolate=True)
    workspace.deploy(laws.matrix(), endpoint="heavy")
    process = workspace.serve()
    (pid,) = children(process)
    address = f"{process.url}/v2/repository/models/heavy/unload"
    with urllib.request.urlopen(urllib.request.Request(address, b"{}"), timeout=60) as answer:
        assert answer.status == 200
    workspace.wait(lambda: not psutil.pid_exists(pid))
    assert children(process) == []


def test_a_model_that_takes_long_for_its_example_gets_a_process_by_itself(workspace, laws):
    workspace.endpoint("slow")
    workspace.endpoint("quick")
    workspace.endpoint("told", isolate=False)
    example = json.dumps(ROW).encode()
    workspace.deploy(laws.matrix(sleep_s=0.15), endpoint="slow", example=example)
    workspace.deploy(laws.matrix(), endpoint="quick", example=example)
    workspace.deploy(laws.matrix(sleep_s=0.15), endpoint="told", example=example)
    process = workspace.serve()
    assert len(children(process)) == 1
    assert [value(process, name) for name in ("slow", "quick", "told")] == [[6.0]] * 3


@pytest.mark.slow
def test_a_model_that_kills_its_process_while_it_is_loaded_fails_alone(workspace, laws):
    workspace.endpoint("heavy", isolate=True)
    workspace.endpoint("light")
    workspace.deploy(laws.matrix(), endpoint="light")
    deadly = workspace.deploy(laws.matrix(deadly=True), endpoint="heavy")
    process = workspace.serve()
    (server,) = process.pids
    workspace.wait(lambda: workspace.state(deadly) == "failed")
    assert value(process, "light") == [6.0]
    assert process.pids == [server]


@pytest.mark.slow
def test_the_process_of_a_model_ends_with_the_server(workspace, laws):
    workspace.endpoint("heavy", isolate=True)
    workspace.deploy(laws.matrix(), endpoint="heavy")
    process = workspace.serve()
    (pid,) = children(process)
    os.kill(process.pids[0], signal.SIGKILL)
    workspace.wait(lambda: not psutil.pid_exists(pid))
