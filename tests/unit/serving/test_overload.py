"""More than may wait: refused at once and told when to come again; what was taken is answered."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}
).encode()
ROOM = 4


@pytest.fixture
def held(workspace, laws, tmp_path):
    """An endpoint with room for four, whose model computes until ``let_go`` is there."""
    let_go = tmp_path / "let_go"
    let_go.touch()
    law = laws.matrix(sleep_s=0.02, begun=str(tmp_path / "begun"), let_go=str(let_go))
    workspace.endpoint(max_queue=ROOM)
    workspace.deploy(law)
    process = workspace.serve(grpc_port=0)
    for _ in range(2):  # a model that is known to be slow computes in a thread
        assert post(process)[0] == 200
    let_go.unlink()
    yield process, let_go
    let_go.touch()


def post(process):
    asked = urllib.request.Request(f"{process.url}/v2/models/e/infer", BODY)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers, json.load(refused)


def post_on(connection, body):
    connection.request("POST", "/v2/models/e/infer", body)
    with connection.getresponse() as answer:
        answer.read()
        return answer.status


def in_flight(process):
    return counted(process, "clew_requests_in_flight")


def counted(process, name):
    with urllib.request.urlopen(f"{process.url}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_beyond_the_room_everybody_is_refused_and_within_it_everybody_is_answered(held, workspace):
    process, let_go = held
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(process)[0])) for _ in range(ROOM)
    ]
    for thread in threads:
        thread.start()
    workspace.wait(lambda: in_flight(process) == ROOM)
    for _ in range(10):
        status, headers, said = post(process)
        assert (status, headers["retry-after"]) == (429, "1")
        assert "retry later" in said["error"]
    place = urlsplit(process.url)
    kept = HTTPConnection(place.hostname, place.port, timeout=60)
    for body in (BODY, BODY + b" " * 1_000_000, b"no JSON at all"):  # it is not even read
        assert post_on(kept, body) == 429
    kept.request("POST", "/v2/models/nobody/infer", BODY)
    with kept.getresponse() as other:
        assert (other.status, other.read() != b"") == (404, True)
    assert in_flight(process) == ROOM
    assert counted(process, "clew_overloads_total") >= 13
    assert answers == []
    grpc = pytest.importorskip("grpc", reason="gRPC's client is not installed")
    pytest.importorskip("h2", reason='gRPC is not installed: pip install "clew[grpc]"')
    from clew.serving.messages import MESSAGES  # noqa: PLC0415 - protobuf is an extra

    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 3]}
    asked = MESSAGES["ModelInferRequest"](
        model_name="e", inputs=[tensor], raw_input_contents=[bytes(24)]
    )
    with grpc.insecure_channel(process.grpc_address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(asked.SerializeToString(), timeout=60)
        assert refused.value.code().name == "RESOURCE_EXHAUSTED"
    let_go.touch()
    for thread in threads:
        thread.join()
    assert answers == [200] * ROOM
    assert post(process)[0] == 200  # there is room again
    assert [post_on(kept, body) for body in (BODY, b"no JSON at all")] == [200, 400]
    kept.close()
