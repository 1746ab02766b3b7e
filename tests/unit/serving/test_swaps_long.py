"""Many swaps and many departures under load: not one request fails (`make test-long`)."""

from __future__ import annotations

import json
import os
import signal

import pytest

ROW = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}
BODY = json.dumps(ROW).encode()
pytestmark = pytest.mark.slow


@pytest.mark.timeout(900)
def test_200_hot_swaps_fail_no_request_and_every_answer_says_who_made_it(workspace, laws, load):
    workspace.endpoint()
    made = [workspace.deploy(laws.matrix(scale=1.0))]
    process = workspace.serve()

    def swap(report):
        for number in range(200):
            made.append(workspace.deploy(laws.matrix(scale=2.0 + number)))
            revision = made[-1].id
            workspace.wait(lambda revision=revision: report.revisions[revision])

    report = load.under_load(process, swap, BODY, concurrency=64)
    assert (report.failures, set(report.statuses)) == ([], {200})
    assert set(report.revisions) == {revision.id for revision in made}
    assert sum(report.revisions.values()) == report.answered


@pytest.mark.timeout(900)
def test_one_of_two_processes_leaves_20_times_and_no_request_fails(workspace, laws, load):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve(processes=2)

    def leave(report):
        for number in range(20):
            gone = process.pids[number % 2]
            os.kill(gone, signal.SIGTERM)
            workspace.wait(lambda gone=gone: gone not in process.pids and len(process.pids) == 2)
            answered = report.answered
            workspace.wait(lambda answered=answered: report.answered > answered + 500)

    report = load.under_load(process, leave, BODY, concurrency=64)
    assert (report.failures, set(report.statuses)) == ([], {200})
