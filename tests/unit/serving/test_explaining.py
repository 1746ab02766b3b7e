"""Explanations come from one process beside for each revision, and cost nobody else anything."""

from __future__ import annotations

import concurrent.futures

import pytest

from .conftest import ROW, ask, children, told

INPUT = ROW["inputs"][0]


def why(process, name="e", *, deadline_ms=None, body=None, version=""):
    """Status and body of one question."""
    limit = {} if deadline_ms is None else {"X-Request-Timeout-Ms": str(deadline_ms)}
    return ask(process, name, "explain", body=body, version=version, headers=limit)


def test_sixteen_at_once_ask_one_process(workspace, laws):
    workspace.endpoint("e")
    workspace.deploy(laws.matrix(scale=1.0, why={"sleep_s": 0.02}))
    process = workspace.serve()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: why(process), range(16)))
    assert [told(one)["attributions"] for one in answers] == [[1.0, 2.0, 3.0]] * 16
    assert len(children(process)) == 1


def test_who_waits_no_longer_costs_the_question_that_is_computed_nothing(workspace, laws, tmp_path):
    begun, let_go = tmp_path / "begun", tmp_path / "let_go"
    law = laws.matrix(why={"begun": str(begun), "let_go": str(let_go)})
    workspace.endpoint("e")
    workspace.deploy(law)
    process = workspace.serve()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(why, process)
        workspace.wait(begun.exists)
        before = children(process)
        status, body = why(process, deadline_ms=200)
        assert (status, "longer than" in body["error"]) == (504, True), body
        let_go.touch()
        assert told(first.result())["values"] == [6.0]
    assert children(process) == before, "and it is the same process"


def test_what_is_computed_for_nobody_ends_and_the_next_is_answered(workspace, laws, tmp_path):
    begun, let_go = tmp_path / "begun", tmp_path / "let_go"
    workspace.endpoint("e")
    workspace.deploy(laws.matrix(why={"begun": str(begun), "let_go": str(let_go)}))
    process = workspace.serve()
    assert why(process, deadline_ms=3000)[0] == 504
    let_go.touch()
    assert told(why(process))["values"] == [6.0]
    workspace.wait(lambda: len(children(process)) == 1)


def test_a_slow_one_holds_up_no_other_endpoint(workspace, laws, tmp_path):
    begun, let_go = tmp_path / "begun", tmp_path / "let_go"
    workspace.endpoint("slow")
    workspace.deploy(laws.matrix(why={"begun": str(begun), "let_go": str(let_go)}), "slow")
    workspace.endpoint("e")
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(why, process, "slow") for _ in range(8)]
        workspace.wait(begun.exists)
        assert told(why(process))["values"] == [6.0]
        let_go.touch()
        assert [told(one.result())["values"] for one in waiting] == [[6.0]] * 8


def test_behind_a_swap_the_new_model_is_explained_and_the_old_is_let_go_of(workspace, laws):
    workspace.endpoint("e")
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    assert told(why(process))["values"] == [6.0]
    (old,) = children(process)
    for scale in (2.0, 3.0):  # the one before stays in memory, to be gone back to
        next = workspace.deploy(laws.matrix(scale=scale))
        workspace.wait(lambda one=next: workspace.state(one) == "live")
        workspace.wait(lambda value=6 * scale: told(why(process))["values"] == [value])
    workspace.wait(lambda: old not in children(process))
    assert len(children(process)) == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"inputs": []}, "needs 'inputs'"),
        ({"inputs": [{**INPUT, "shape": [1, 2], "data": [1, 2]}]}, "shape"),
        ({"inputs": [{**INPUT, "data": ["a", "b", "c"]}]}, "got text"),
        ({"inputs": [{**INPUT, "shape": [101, 3], "data": [0] * 303}]}, "100 rows"),
    ],
)
def test_wrong_questions_are_refused_and_start_nothing(workspace, laws, body, said):
    workspace.endpoint("e")
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    status, answer = why(process, body=body)
    assert (status, said in answer["error"]) == (400, True), answer
    assert children(process) == []
    assert why(process, "nobody")[0] == 404
    assert why(process, version="99")[0] == 404
