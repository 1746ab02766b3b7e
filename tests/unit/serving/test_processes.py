"""Real serving processes under load: swaps, kills, drains, canaries, two on one socket."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import signal
import urllib.error
import urllib.request
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clew.base.errors import Unavailable
from clew.serving import canary

ROW = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}
BODY = json.dumps(ROW).encode()


def post(url, body=BODY, **headers):
    """Status, headers and JSON of one answer."""
    asked = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers, json.load(refused)


def infer(process, name="e", **more):
    return post(f"{process.url}/v2/models/{name}/infer", **more)


def test_every_answer_says_what_made_it_and_can_be_found_by_its_id(workspace, laws):
    workspace.endpoint()
    revision = workspace.deploy(laws.matrix(scale=2.0), version="7")
    process = workspace.serve()
    status, headers, body = infer(process)
    assert status == 200
    assert body["outputs"] == [
        {"name": "prediction", "datatype": "FP64", "shape": [1], "data": [12.0]}
    ]
    assert (body["model_name"], body["model_version"]) == ("e", "7")
    said = body["parameters"]
    assert said == {
        "clew-prediction-id": headers["clew-prediction-id"],
        "clew-global-id": revision.global_id,
        "clew-revision": revision.id,
        "clew-model-version": revision.model_version,
    }
    assert all(headers[name] == value for name, value in said.items())
    for _ in range(2):  # first from the spool, then from the commit
        found = workspace.serving.find_prediction(said["clew-prediction-id"])
        assert found.inputs == {"input": [[1.0, 2.0, 3.0]]}
        assert found.outputs == {"prediction": [12.0]}
        assert (found.revision, found.model_version) == (revision.id, revision.model_version)
        workspace.serving.collect(force=True)


def test_swaps_under_load_lose_no_request(workspace, laws, load):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    made = []

    def swap(report):
        for at in range(6):
            revision = workspace.deploy(laws.matrix(scale=float(at)))
            made.append(revision.id)
            workspace.wait(lambda id=revision.id: report.revisions[id] > 20)

    report = load.under_load(process, swap, BODY)
    assert (report.failures, set(report.statuses)) == ([], {200})
    assert set(made) < set(report.revisions)


def test_no_prediction_that_was_answered_is_lost_by_kill_9(workspace, laws, load):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    place = urlsplit(process.url)
    clients = load.Load(
        place.hostname, place.port, load.request("/v2/models/e/infer", BODY), concurrency=16
    )

    async def run():
        task = asyncio.create_task(clients.run())
        for kills in range(3):
            answered = clients.report.answered
            while clients.report.answered < answered + 300 * (kills + 1):
                await asyncio.sleep(0.005)
            if kills == 1:
                await asyncio.to_thread(workspace.serving.collect, force=True)
            (pid,) = process.pids
            os.kill(pid, signal.SIGKILL)
            while process.pids in ([], [pid]):
                await asyncio.sleep(0.005)
        answered = clients.report.answered
        while clients.report.answered < answered + 300:
            await asyncio.sleep(0.005)
        clients.stop()
        return await task

    report = asyncio.run(run())
    assert set(report.statuses) <= {200, 503}  # 503: a process serves before its model is loaded
    some = [report.ids[at] for at in range(0, len(report.ids), 211)]
    assert all(workspace.serving.find_prediction(id) for id in some)  # spooled ones too
    workspace.serving.collect(force=True)
    logged = logged_ids(workspace)
    assert len(logged) == len(set(logged)), "no prediction is logged twice"
    assert set(report.ids) <= set(logged)


def logged_ids(workspace) -> list[str]:
    head = workspace.repos.head("p/e.predictions")
    return [
        id
        for file in workspace.repos.entries(head)
        for id in pq.read_table(io.BytesIO(workspace.store.read(file.digest)), columns=["id"])
        .column("id")
        .to_pylist()
    ]


def test_a_rollback_under_load_is_in_force_at_once_and_loses_no_request(workspace, laws, load):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix())
    process = workspace.serve()
    second = workspace.deploy(laws.matrix())

    def back(report):
        workspace.wait(lambda: report.revisions[second.id] > 20)
        workspace.serving.rollback("e", "a test")
        before = report.revisions[first.id]
        workspace.wait(lambda: report.revisions[first.id] > before + 200)
        settled = report.revisions[second.id]
        workspace.wait(lambda: report.revisions[first.id] > before + 1000)
        assert report.revisions[second.id] - settled <= 16

    report = load.under_load(process, back, BODY)
    assert (report.failures, set(report.statuses)) == ([], {200})


def test_rollbacks_one_after_the_other_lose_no_request(workspace, laws, load):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix(load_s=1.0))
    process = workspace.serve()
    others = []

    def back_twice(report):
        for _ in range(3):
            others.append(workspace.deploy(laws.matrix()).id)
            workspace.wait(lambda: report.revisions[others[-1]] > 20)
        for _ in others:
            workspace.serving.rollback("e", "a test")
        before = report.revisions[first.id]
        workspace.wait(lambda: report.revisions[first.id] > before + 200)
        settled = sum(report.revisions[one] for one in others)
        workspace.wait(lambda: report.revisions[first.id] > before + 1000)
        assert sum(report.revisions[one] for one in others) - settled <= 16

    report = load.under_load(process, back_twice, BODY)
    assert (report.failures, set(report.statuses)) == ([], {200})
    process.stop()  # which writes down what it has answered
    workspace.serving.collect(force=True)
    counted = {one.id: one.requests for one in workspace.serving.endpoints()[0].revisions}
    assert {one: counted[one] for one in others} == {one: report.revisions[one] for one in others}


def test_who_stands_in_and_is_deployed_again_answers_on(workspace, laws, load):
    workspace.endpoint()
    workspace.deploy(laws.matrix(load_s=2.0))
    process = workspace.serve()
    kept = {}

    def there_and_back(report):
        for _ in range(2):
            kept["last"] = workspace.deploy(laws.matrix())
            workspace.wait(lambda: report.revisions[kept["last"].id] > 20)
        for _ in range(2):
            workspace.serving.rollback("e", "a test")
        last = kept["last"].id
        workspace.serving.set_traffic("e", promote=last)
        workspace.wait(lambda: workspace.state(kept["last"]) == "live")
        before = report.revisions[last]
        workspace.wait(lambda: report.revisions[last] > before + 200)

    report = load.under_load(process, there_and_back, BODY)
    assert (report.failures, set(report.statuses)) == ([], {200})


def test_a_canary_takes_over_under_load(workspace, laws, load):
    workspace.endpoint(
        rollout=canary(steps=[20, 100], hold_s=0.3, min_requests=20, max_requests=60)
    )
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    second = workspace.deploy(laws.matrix())

    def wait(_):
        return workspace.wait(lambda: workspace.state(second) == "live")

    report = load.under_load(process, wait, BODY)
    assert (report.failures, set(report.statuses)) == ([], {200})


def test_a_canary_that_fails_goes_back_under_load(workspace, laws, load):
    workspace.endpoint(rollout=canary(steps=[20, 100], hold_s=30, min_requests=20))
    first = workspace.deploy(laws.matrix())
    process = workspace.serve()
    second = workspace.deploy(laws.matrix(fail_above=5))

    def wait(_):
        return workspace.wait(lambda: workspace.state(second) == "rolled_back")

    report = load.under_load(process, wait, BODY)
    assert set(report.statuses) == {200, 500}
    assert report.statuses[500] == report.revisions[second.id]
    assert workspace.state(first) == "live"


def test_a_model_that_cannot_be_loaded_fails_and_the_live_one_goes_on(workspace, laws):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix())
    process = workspace.serve()
    second = workspace.deploy(laws.matrix(unloadable=True))
    workspace.wait(lambda: workspace.state(second) == "failed")
    assert infer(process)[1]["clew-revision"] == first.id


def test_a_model_that_fails_at_its_own_example_fails_before_it_has_traffic(workspace, laws):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix())
    process = workspace.serve()
    second = workspace.deploy(laws.matrix(fail_above=5), example=BODY)
    workspace.wait(lambda: workspace.state(second) == "failed")
    assert "the model broke" in workspace.serving.revision(second.id).reason
    assert infer(process)[1]["clew-revision"] == first.id


def test_a_model_that_kills_its_process_is_given_up_and_the_live_one_goes_on(workspace, laws):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix())
    process = workspace.serve()
    deadly = workspace.deploy(laws.matrix(deadly=True))
    workspace.wait(lambda: workspace.state(deadly) == "failed", timeout_s=40)
    assert "died while they loaded it" in workspace.serving.revision(deadly.id).reason
    assert infer(process)[1]["clew-revision"] == first.id


def test_a_slow_load_delays_no_answer_and_no_rollback(workspace, laws):
    workspace.endpoint()
    first = workspace.deploy(laws.matrix())
    process = workspace.serve()
    slow = workspace.deploy(laws.matrix(load_s=30))
    assert infer(process)[1]["clew-revision"] == first.id
    workspace.serving.rollback("e")
    assert workspace.state(slow) == "rolled_back"
    process.stop()


def test_two_processes_share_a_socket_and_one_leaves_without_a_lost_request(workspace, laws, load):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve(processes=2)
    gone = process.pids[0]

    def leave(report):
        workspace.wait(lambda: report.answered > 500)
        os.kill(gone, signal.SIGTERM)
        workspace.wait(lambda: gone not in process.pids and len(process.pids) == 2)
        answered = report.answered
        workspace.wait(lambda: report.answered > answered + 500)

    report = load.under_load(process, leave, BODY)
    assert (report.failures, set(report.statuses)) == ([], {200})
    assert gone not in process.pids
    process.stop()
    workspace.serving.collect(force=True)
    assert sorted(logged_ids(workspace)) == sorted(report.ids)
    assert workspace.serving.endpoint("e").requests == report.answered


def test_processes_end_with_the_one_that_started_them(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    (child,) = process._children
    child.stdin.close()
    assert child.wait(60) == 0


def test_a_slow_model_answers_many_at_once(workspace, laws, load):
    workspace.endpoint()
    workspace.deploy(laws.matrix(sleep_s=0.02))
    process = workspace.serve()

    def wait(report):
        return workspace.wait(lambda: report.answered > 300)

    report = load.under_load(process, wait, BODY, concurrency=32)
    assert (report.failures, set(report.statuses)) == ([], {200})


def test_more_than_may_wait_is_answered_with_429(workspace, laws, load):
    workspace.endpoint(max_queue=4)
    workspace.deploy(laws.matrix(sleep_s=0.05))
    process = workspace.serve()

    def wait(report):
        return workspace.wait(lambda: report.statuses[429] and report.statuses[200])

    report = load.under_load(process, wait, BODY, concurrency=32)
    assert (report.failures, set(report.statuses)) == ([], {200, 429})


def test_a_full_disk_is_told_and_does_not_take_the_endpoint_down(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    (pid,) = process.pids

    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    status, headers, _ = infer(process)
    assert (status, headers["clew-logged"]) == (200, "false")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    status, headers, body = infer(process)
    assert (status, headers["clew-logged"]) == (200, None)
    assert workspace.serving.find_prediction(body["parameters"]["clew-prediction-id"])


def test_one_that_listens_everywhere_is_told_by_an_address_that_leads_to_it(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve(host="0.0.0.0", token="secret")
    assert urlsplit(process.url).hostname == "127.0.0.1"
    assert workspace.serving.url() == process.url
    for path, status in [("/v2/health/live", 200), ("/v2/health/ready", 200), ("/v2", 401)]:
        place = urlsplit(process.url)
        connection = HTTPConnection(place.hostname, place.port, timeout=60)
        try:
            connection.request("GET", path)
            assert connection.getresponse().status == status, path
        finally:
            connection.close()


def test_a_port_in_use_is_told(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    first = workspace.serve()
    with pytest.raises(Unavailable, match="cannot be used") as refused:
        workspace.serve(port=urlsplit(first.url).port)
    assert refused.value.code == "port.in_use"


def test_an_endpoint_without_a_revision_is_503_and_one_that_is_unknown_404(workspace, laws):
    workspace.endpoint()
    process = workspace.serve()
    status, headers, body = infer(process)
    assert (status, headers["retry-after"]) == (503, "1")
    assert "no revision loaded yet" in body["error"]
    assert infer(process, "other")[0] == 404
    workspace.deploy(laws.matrix())
    workspace.wait(lambda: infer(process)[0] == 200)


def test_metrics_count_what_was_answered(workspace, laws):
    workspace.endpoint()
    revision = workspace.deploy(laws.matrix(fail_above=100))
    process = workspace.serve()
    for _ in range(3):
        infer(process)
    infer(process, body=b"{}")
    infer(process, body=BODY.replace(b"[1, 2, 3]", b"[100, 2, 3]"))

    def counted(kind):
        with urllib.request.urlopen(f"{process.url}/metrics") as answer:
            text = answer.read().decode()
        samples = [
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"clew_{kind}_total" and sample.labels["revision"] == revision.id
        ]
        return sum(sample.value for sample in samples)

    assert (counted("requests"), counted("errors"), counted("rejected")) == (5, 1, 1)
    assert counted("rows") == 3


def test_an_endpoint_without_a_log_keeps_nothing(workspace, laws):
    workspace.endpoint(log=False)
    workspace.deploy(laws.matrix())
    process = workspace.serve()
    _, headers, body = infer(process)
    assert headers["clew-logged"] == "false"
    assert workspace.serving.find_prediction(body["parameters"]["clew-prediction-id"]) is None
