"""The protocol over gRPC, by messages of our own, against a real serving process."""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
import urllib.request

import numpy as np
import pytest

grpc = pytest.importorskip("grpc", reason='gRPC is not installed: pip install "clew[grpc]"')
pytest.importorskip("h2", reason='gRPC is not installed: pip install "clew[grpc]"')
from clew.serving.messages import MESSAGES  # noqa: E402 - it needs what is looked for above

INFER = "/inference.GRPCInferenceService/"


class Client:
    """One channel; ``ask`` sends a message by its name, and reads the answer as what it is."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
            ],
        )

    def ask(self, method, request=None, *, metadata=(), timeout=60, **fields):
        if request is None:
            request = MESSAGES[f"{method}Request"](**fields)
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        call = self.channel.unary_unary(INFER + method)
        answer, done = call.with_call(raw, metadata=metadata, timeout=timeout)
        self.trailing = dict(done.trailing_metadata())
        return MESSAGES[f"{method}Response"].FromString(answer)

    def refused(self, method, request=None, **fields):
        with pytest.raises(grpc.RpcError) as error:
            self.ask(method, request, **fields)
        self.trailing = dict(error.value.trailing_metadata() or ())
        return error.value.code().name, error.value.details()

    def is_taken(self):
        """Whether its connection is, now that it has tried again."""
        try:
            return self.ask("ServerLive").live
        except grpc.RpcError:
            return False

    def infer(self, name, inputs, raws=(), **more):
        return self.ask("ModelInfer", request(name, inputs, raws, **more))


@pytest.fixture
def client(served):
    client = Client(served.process.grpc_address)
    yield client
    client.channel.close()


def request(name, inputs, raws=(), outputs=(), **more):
    return MESSAGES["ModelInferRequest"](
        model_name=name,
        inputs=inputs,
        raw_input_contents=raws,
        outputs=[{"name": each} for each in outputs],
        **more,
    )


def tensor(name, datatype, shape, **contents):
    found = {"name": name, "datatype": datatype, "shape": shape}
    return found | ({"contents": contents} if contents else {})


X = tensor("x", "FP64", [1, 3], fp64_contents=[1, 2, 3])
RAW = np.array([1.0, 2, 3]).tobytes()


def test_health_metadata_and_index_say_what_rest_says(client):
    assert client.ask("ServerLive").live
    assert not client.ask("ServerReady").ready  # an endpoint has nothing yet
    for name, version, ready in [
        ("matrix", "", True),
        ("matrix", "3", True),
        ("matrix", "9", False),
        ("empty", "", False),
        ("nobody", "", False),
    ]:
        assert client.ask("ModelReady", name=name, version=version).ready is ready
    told = client.ask("ServerMetadata")
    assert (told.name, "statistics" in told.extensions) == ("clew", True)
    told = client.ask("ModelMetadata", name="columns")
    assert [(each.name, each.datatype, list(each.shape)) for each in told.inputs][-1] == (
        "carrier",
        "BYTES",
        [-1],
    )
    assert [each.name for each in told.outputs] == ["prediction"]
    assert list(told.versions) == ["3"]
    config = client.ask("ModelConfig", name="columns").config
    assert [each.data_type for each in config.input] == [12, 12, 8, 13]  # FP64, INT32, STRING
    index = client.ask("RepositoryIndex").models
    assert {each.name: each.state for each in index}["empty"] == "UNAVAILABLE"
    assert "empty" not in {each.name for each in client.ask("RepositoryIndex", ready=True).models}


def test_typed_contents_are_answered_typed_and_raw_ones_raw(client):
    answer = client.infer("wide", [X])
    assert list(answer.outputs[0].contents.fp64_contents) == [6, -6]
    assert list(answer.outputs[1].contents.bytes_contents) == [b"a"]
    assert not answer.raw_output_contents
    answer = client.infer("wide", [tensor("x", "FP64", [1, 3])], [RAW])
    assert list(answer.raw_output_contents) == [np.array([6.0, -6]).tobytes(), b"\1\0\0\0a"]
    assert not any(each.HasField("contents") for each in answer.outputs)
    assert [list(each.shape) for each in answer.outputs] == [[1, 2], [1]]


def test_an_answer_says_what_made_it_and_is_in_the_log_once(client, served):
    answer = client.infer("matrix", [X], id="77")
    assert (answer.id, answer.model_name, answer.model_version) == ("77", "matrix", "3")
    said = {name: value.string_param for name, value in answer.parameters.items()}
    assert said == {name: value for name, value in client.trailing.items() if name in said}
    for _ in range(2):  # from the spool, then from the commit
        found = served.serving.find_prediction(said["clew-prediction-id"])
        assert (found.inputs, found.outputs["prediction"]) == ({"input": [[1, 2, 3]]}, [12.0])
        served.serving.collect(force=True)


def test_mixed_columns_come_typed_or_raw_and_only_the_outputs_asked_for_go(client):
    inputs = [
        tensor("distance", "FP32", [2], fp32_contents=[1.5, 2]),
        tensor("delay", "FP64", [2, 1], fp64_contents=[float("nan"), 1]),
        tensor("stops", "INT8", [2], int_contents=[1, 2]),
        tensor("carrier", "BYTES", [2], bytes_contents=[b"UA", "é".encode()]),
    ]
    answer = client.infer("columns", inputs, outputs=["prediction"])
    assert list(answer.outputs[0].contents.fp64_contents) == [2.5, 5.0]
    words = b"".join(struct.pack("<I", len(each)) + each for each in (b"UA", "é".encode()))
    raws = [
        np.array([1.5, 2], "<f4").tobytes(),
        np.array([np.nan, 1]).tobytes(),
        np.array([1, 2], "i1").tobytes(),
        words,
    ]
    for each in inputs:
        each.pop("contents")
    answer = client.infer("columns", inputs, raws)
    assert np.frombuffer(answer.raw_output_contents[0]).tolist() == [2.5, 5.0]
    assert [each.name for each in client.infer("wide", [X], outputs=["name"]).outputs] == ["name"]


def test_half_precision_comes_and_goes_raw(client):
    halves = np.array([[1.5, 2.0]], "<f2").tobytes()
    answer = client.infer("half", [tensor("x", "FP16", [1, 2])], [halves])
    assert np.frombuffer(answer.raw_output_contents[0], "<f2").tolist() == [3.5]
    answer = client.infer("half", [tensor("x", "FP64", [1, 2], fp64_contents=[1.5, 2])])
    assert np.frombuffer(answer.raw_output_contents[0], "<f2").tolist() == [3.5]


WRONG = [
    (request("nobody", [X]), "NOT_FOUND", "nobody"),
    (request("matrix", [X], model_version="9"), "NOT_FOUND", "version 3"),
    (request("empty", [X]), "UNAVAILABLE", "no revision"),
    (request("matrix", [X | {"shape": [1, 2]}]), "INVALID_ARGUMENT", "needs 2 elements"),
    (request("matrix", [X | {"shape": [3]}]), "INVALID_ARGUMENT", "shape [rows, 3]"),
    (request("matrix", [X | {"shape": [-1, -3]}]), "INVALID_ARGUMENT", "shape"),
    (request("matrix", [X | {"datatype": "FP32"}]), "INVALID_ARGUMENT", "fp32_contents"),
    (request("matrix", [X | {"datatype": "FP16"}]), "INVALID_ARGUMENT", "raw_input_contents"),
    (request("matrix", [X | {"datatype": "FLOAT"}]), "INVALID_ARGUMENT", "one of BF16"),
    (request("matrix", [X], [RAW]), "INVALID_ARGUMENT", "give one of them"),
    (request("matrix", [tensor("x", "FP64", [1, 3])], [RAW] * 2), "INVALID_ARGUMENT", "2 entries"),
    (request("matrix", [tensor("x", "FP64", [1, 3])], [RAW[1:]]), "INVALID_ARGUMENT", "24 bytes"),
    (request("matrix", []), "INVALID_ARGUMENT", "'inputs'"),
    (request("matrix", [X], outputs=["z"]), "INVALID_ARGUMENT", "no output 'z'"),
    (
        request("columns", [tensor("stops", "INT8", [1], int_contents=[1000])]),
        "INVALID_ARGUMENT",
        "out of the range of INT8",
    ),
    (
        request("text", [tensor("word", "BYTES", [1], bytes_contents=[b"\xff"])]),
        "INVALID_ARGUMENT",
        "not UTF-8",
    ),
    (
        request("matrix", [X | {"contents": {"fp64_contents": [1e7, 0, 0]}}]),
        "INTERNAL",
        "the model broke",
    ),
    (b"\xff\xff\xff", "INVALID_ARGUMENT", "not a ModelInferRequest"),
]


@pytest.mark.parametrize(("asked", "code", "says"), WRONG)
def test_what_is_wrong_has_the_code_of_what_it_is(client, asked, code, says):
    found, said = client.refused("ModelInfer", asked)
    assert found == code
    assert says in said


def test_a_refused_request_is_counted_and_logged_as_over_rest(client, served):
    before = client.ask("ModelStatistics", name="matrix").model_stats[0].inference_stats.fail.count
    client.refused("ModelInfer", request("matrix", [X | {"datatype": "FP32"}]))
    found = served.serving.find_prediction(client.trailing["clew-prediction-id"])
    assert "fp32_contents" in found.outputs["error"][0]
    (stats,) = client.ask("ModelStatistics", name="matrix", version="3").model_stats
    assert stats.inference_stats.fail.count == before + 1


def test_statistics_over_grpc_are_those_of_rest(client, served):
    client.infer("wide", [X])
    (told,) = client.ask("ModelStatistics", name="wide").model_stats
    with urllib.request.urlopen(f"{served.process.url}/v2/models/wide/stats") as answer:
        (other,) = json.load(answer)["model_stats"]
    assert (told.inference_count, told.execution_count) == (
        other["inference_count"],
        other["execution_count"],
    )
    assert told.inference_stats.compute_infer.ns == other["inference_stats"]["compute_infer"]["ns"]
    assert [each.batch_size for each in told.batch_stats] == [
        each["batch_size"] for each in other["batch_stats"]
    ]
    assert len(client.ask("ModelStatistics").model_stats) == 6
    assert client.refused("ModelStatistics", name="nobody")[0] == "NOT_FOUND"
    assert client.refused("ModelMetadata", name="wide", version="9")[0] == "NOT_FOUND"


def test_repository_calls_act_as_over_rest(client):
    asked = {"model_name": "wide"}
    client.ask("RepositoryModelUnload", **asked, parameters={"unload_dependents": {}})
    assert client.refused("ModelInfer", request("wide", [X]))[0] == "NOT_FOUND"
    client.ask("RepositoryModelLoad", **asked)
    client.infer("wide", [X])
    config = {"config": {"string_param": "{}"}}
    code, said = client.refused("RepositoryModelLoad", **asked, parameters=config)
    assert (code, "'config'" in said) == ("INVALID_ARGUMENT", True)
    assert client.refused("RepositoryModelLoad", model_name="nobody")[0] == "NOT_FOUND"
    assert client.refused("RepositoryModelLoad", **asked, repository_name="x")[0] == (
        "INVALID_ARGUMENT"
    )


def test_a_stream_answers_each_request_in_its_order_and_survives_wrong_ones(client):
    asked = [
        request("matrix", [X], id="1").SerializeToString(),
        request("nobody", [X], id="2").SerializeToString(),
        b"\xff\xff",
        *(request("matrix", [X], id=str(at)).SerializeToString() for at in range(3, 200)),
    ]
    call = self_stream(client)(iter(asked), timeout=60)
    answers = [MESSAGES["ModelStreamInferResponse"].FromString(each) for each in call]
    assert [each.infer_response.id for each in answers] == ["1", "2", "", *map(str, range(3, 200))]
    assert [bool(each.error_message) for each in answers[:4]] == [False, True, True, False]


def self_stream(client):
    return client.channel.stream_stream(INFER + "ModelStreamInfer")


def test_a_deadline_that_is_over_is_told_and_the_server_goes_on(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix(sleep_s=0.5))
    client = Client(workspace.serve(grpc_port=0).grpc_address)
    try:
        code, _ = client.refused("ModelInfer", request("e", [X]), timeout=0.1)
        assert code == "DEADLINE_EXCEEDED"
        assert client.infer("e", [X]).outputs
    finally:
        client.channel.close()


def test_a_token_is_asked_for_but_for_health(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    client = Client(workspace.serve(grpc_port=0, token="secret").grpc_address)
    try:
        assert client.ask("ServerLive").live
        assert client.ask("ServerReady").ready
        assert client.refused("ServerMetadata")[0] == "UNAUTHENTICATED"
        assert client.refused("ModelInfer", request("e", [X]))[0] == "UNAUTHENTICATED"
        wrong = [("authorization", "Bearer wrong")]
        assert client.refused("ServerMetadata", metadata=wrong)[0] == "UNAUTHENTICATED"
        right = [("authorization", "Bearer secret")]
        assert client.ask("ModelInfer", request("e", [X]), metadata=right).outputs
        with pytest.raises(grpc.RpcError) as error:
            list(self_stream(client)(iter([]), timeout=60))
        assert error.value.code().name == "UNAUTHENTICATED"
    finally:
        client.channel.close()


def watch(client, service):
    call = client.channel.unary_stream(HEALTH + "Watch")
    asked = MESSAGES["HealthCheckRequest"](service=service).SerializeToString()
    call = call(asked, timeout=120)
    return call, (MESSAGES["HealthCheckResponse"].FromString(each).status for each in call)


HEALTH = "/grpc.health.v1.Health/"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


def test_health_is_told_by_name_as_a_list_and_of_nobody_not_at_all(client):
    def check(service, method="Check"):
        asked = MESSAGES["HealthCheckRequest"](service=service).SerializeToString()
        return client.channel.unary_unary(HEALTH + method)(asked, timeout=60)

    told = {
        name: MESSAGES["HealthCheckResponse"].FromString(check(name)).status
        for name in ("", "inference.GRPCInferenceService", "matrix", "empty")
    }
    assert list(told.values()) == [NOT_SERVING, NOT_SERVING, SERVING, NOT_SERVING]
    found = MESSAGES["HealthListResponse"].FromString(check("", "List")).statuses
    assert {name: found[name].status for name in told} == told
    with pytest.raises(grpc.RpcError) as error:
        check("nobody")
    assert error.value.code().name == "NOT_FOUND"


def test_who_watches_health_hears_of_each_change_and_of_the_end(workspace, laws):
    process = workspace.serve(grpc_port=0)
    client = Client(process.grpc_address)
    try:
        call, told = watch(client, "e")
        assert next(told) == SERVICE_UNKNOWN
        workspace.endpoint()
        assert next(told) == NOT_SERVING
        workspace.deploy(laws.matrix())
        assert next(told) == SERVING
        given_up, others = watch(client, "")
        assert next(others) == SERVING
        given_up.cancel()
        os.kill(process.pids[0], signal.SIGTERM)
        assert next(told) == NOT_SERVING
        with pytest.raises(grpc.RpcError):
            next(told)
        assert call.code().name == "UNAVAILABLE"
    finally:
        client.channel.close()


def test_connections_beyond_those_that_a_process_takes_are_refused_and_counted(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve(grpc_port=0, grpc_connections=2)
    clients = [Client(process.grpc_address) for _ in range(3)]
    try:
        for each in clients[:2]:
            assert each.ask("ServerLive").live
        assert clients[2].refused("ServerLive")[0] == "UNAVAILABLE"
        assert clients[0].infer("e", [X]).outputs
        with urllib.request.urlopen(f"{process.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        assert "clew_grpc_connections 2" in lines
        (refused,) = (each for each in lines if each.startswith("clew_grpc_connections_refused"))
        assert float(refused.split()[-1]) >= 1
        clients[0].channel.close()
        workspace.wait(lambda: clients[2].is_taken())
        assert clients[2].infer("e", [X]).outputs
    finally:
        for each in clients:
            each.channel.close()


@pytest.mark.slow
def test_who_ends_answers_what_was_asked_and_the_next_process_has_the_port(
    workspace, laws, tmp_path
):
    workspace.endpoint()
    workspace.deploy(laws.matrix(sleep_s=0.5, touch=str(tmp_path / "asked")))
    process = workspace.serve(grpc_port=0)
    (gone,) = process.pids
    (tmp_path / "asked").unlink()  # the model was asked before it had traffic
    clients = [Client(process.grpc_address)]
    asked = request("e", [X]).SerializeToString()
    try:
        call = clients[0].channel.unary_unary(INFER + "ModelInfer").future(asked)
        workspace.wait((tmp_path / "asked").exists)
        os.kill(gone, signal.SIGTERM)
        assert call.result(60)
        workspace.wait(lambda: process.pids not in ([], [gone]))
        clients.append(Client(process.grpc_address))
        grpc.channel_ready_future(clients[1].channel).result(60)
        workspace.wait(lambda: clients[1].ask("ModelReady", name="e").ready)
        assert clients[1].infer("e", [X]).outputs
    finally:
        for each in clients:
            each.channel.close()


def asking(clients, asked):
    """Closed loops of calls, two on each channel: what was answered, what failed, how to stop."""
    answered, failed, stop = [], [], threading.Event()

    def ask(client):
        call = client.channel.unary_unary(INFER + "ModelInfer")
        while not stop.is_set():
            try:
                answered.append(call(asked, timeout=60))
            except grpc.RpcError as error:
                failed.append((error.code().name, error.details()))

    threads = [threading.Thread(target=ask, args=(each,)) for each in clients for _ in range(2)]
    for thread in threads:
        thread.start()

    def stopped():
        stop.set()
        for thread in threads:
            thread.join()

    return answered, failed, stopped


def test_a_process_ends_under_load_and_no_call_fails(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve(grpc_port=0, processes=2)
    clients = [Client(process.grpc_address) for _ in range(4)]
    answered, failed, stop = asking(clients, request("e", [X]).SerializeToString())
    try:
        workspace.wait(lambda: len(answered) > 100)
        gone = process.pids[0]
        os.kill(gone, signal.SIGTERM)
        workspace.wait(lambda: gone not in process.pids and len(process.pids) == 2)
        before = len(answered)
        workspace.wait(lambda: len(answered) > before + 100)
    finally:
        stop()
        for each in clients:
            each.channel.close()
    assert failed == []


def test_messages_larger_than_any_window_come_and_go_whole(client):
    rows = (np.arange(600_000.0) % 7).reshape(-1, 3)
    asked = tensor("x", "FP64", list(rows.shape))
    answer = client.infer("matrix", [asked], [rows.tobytes()])
    assert np.frombuffer(answer.raw_output_contents[0]).tolist() == (rows.sum(axis=1) * 2).tolist()
    big = [request("matrix", [asked], [rows.tobytes()], id=str(at)) for at in range(3)]
    call = self_stream(client)(iter([each.SerializeToString() for each in big]), timeout=60)
    answers = [MESSAGES["ModelStreamInferResponse"].FromString(each) for each in call]
    assert [each.infer_response.id for each in answers] == ["0", "1", "2"]
    assert all(each.infer_response.raw_output_contents == answer.raw_output_contents
               for each in answers)  # fmt: skip


@pytest.mark.slow
def test_several_processes_answer_on_one_port(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve(grpc_port=0, processes=2)
    for _ in range(6):  # a connection each: whichever process is free takes it
        client = Client(process.grpc_address)
        assert client.infer("e", [X]).outputs
        client.channel.close()
