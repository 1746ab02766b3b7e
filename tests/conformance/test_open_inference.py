"""The Open Inference Protocol as a client on the wire sees it, against a real serving process."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

UNIT = Path(__file__).parents[1] / "unit" / "serving" / "conftest.py"


def _workspace_class():
    name = "serving_conftest"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, UNIT)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


class Server:
    """A serving process with a matrix model, a frame model and one of two outputs."""

    def __init__(self, home: Path) -> None:
        shared = _workspace_class()
        self.workspace, laws = shared.Workspace(home), shared.fake
        for name, law in [
            ("matrix", laws.matrix(scale=2.0)),
            ("frame", laws.columns()),
            ("wide", laws.matrix(wide=True)),
            ("grapes", laws.grapes()),
            ("picky", laws.matrix(refuse_above=50, fail_above=1000)),
        ]:
            self.workspace.endpoint(name)
            self.workspace.deploy(law, endpoint=name, version="3")
        self.workspace.endpoint("empty")
        process = self.workspace.serve(limit_bytes=1 << 20)
        self.place = urlsplit(process.url)

    def ask(self, method, path, body=None, **headers):
        """Status, headers and raw body."""
        connection = HTTPConnection(self.place.hostname, self.place.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self.ask("GET", path)
        return status, json.loads(body)

    def infer(self, name, request, **headers):
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        status, said, answer = self.ask("POST", f"/v2/models/{name}/infer", body, **headers)
        return status, said, json.loads(answer)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("serving"))
    yield server
    server.workspace.close()


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


MATRIX = {"inputs": [tensor("input", "FP64", [1, 3], [1, 2, 3])]}
FRAME = [
    tensor("distance", "FP64", [2], [1.5, 2.5]),
    tensor("delay", "FP64", [2], [None, 1.0]),
    tensor("stops", "INT32", [2, 1], [1, 0]),
    tensor("carrier", "BYTES", [2], ["UA", "é"]),
]


def test_health(server):
    assert server.get("/v2/health/live") == (200, {"live": True})
    status, body = server.get("/v2/health/ready")  # "empty" has no model: not ready
    assert (status, body) == (503, {"live": False, "ready": False})
    assert server.get("/v2/models/matrix/ready")[1]["ready"] is True
    assert server.get("/v2/models/matrix/versions/3/ready")[0] == 200
    assert server.get("/v2/models/matrix/versions/9/ready")[0] == 404
    assert server.get("/v2/models/empty/ready")[0] == 503


def test_server_metadata(server):
    status, body = server.get("/v2")
    assert (status, body["name"]) == (200, "clew")
    assert "binary_tensor_data" in body["extensions"]


def test_model_metadata_has_the_true_inputs_and_outputs(server):
    body = server.get("/v2/models/frame")[1]
    assert body["versions"] == ["3"]
    assert body["inputs"] == [
        {"name": "distance", "datatype": "FP64", "shape": [-1]},
        {"name": "delay", "datatype": "FP64", "shape": [-1]},
        {"name": "stops", "datatype": "INT32", "shape": [-1]},
        {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
    ]
    body = server.get("/v2/models/wide/versions/3")[1]
    assert body["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 3]}]
    assert body["outputs"] == [
        {"name": "pair", "datatype": "FP64", "shape": [-1, 2]},
        {"name": "name", "datatype": "BYTES", "shape": [-1]},
    ]


def test_a_classifier_names_its_classes_in_the_order_of_its_probabilities(server):
    body = server.get("/v2/models/grapes")[1]
    classes = ["barbera", "barolo", "c"]
    assert body["parameters"]["clew-task"] == "multiclass"
    assert body["parameters"]["clew-classes"] == classes
    label, probabilities = body["outputs"]
    assert probabilities["parameters"] == {"clew-classes": classes}
    assert "parameters" not in label
    answer = server.infer("grapes", MATRIX)[2]["outputs"][1]
    assert json.loads(answer["parameters"]["clew-classes"]) == classes


def test_repository(server):
    status, _, body = server.ask("POST", "/v2/repository/index", b"{}")
    index = {entry["name"]: entry["state"] for entry in json.loads(body)}
    assert (status, index["matrix"], index["empty"]) == (200, "READY", "UNAVAILABLE")
    assert server.ask("POST", "/v2/repository/models/matrix/load", b"")[0] == 200
    status, _, body = server.ask("POST", "/v2/repository/models/matrix/unload", b"")
    assert (status, json.loads(body)) == (200, {})
    assert server.infer("matrix", MATRIX)[0] == 404
    assert server.ask("POST", "/v2/repository/models/matrix/load", b"")[0] == 200
    assert server.infer("matrix", MATRIX)[0] == 200


def test_an_id_comes_back_and_a_missing_one_is_the_prediction_id(server):
    assert server.infer("matrix", MATRIX | {"id": 'my "id"'})[2]["id"] == 'my "id"'
    _, headers, body = server.infer("matrix", MATRIX)
    assert body["id"] == headers["clew-prediction-id"] == body["parameters"]["clew-prediction-id"]


def test_columns_by_name(server):
    status, _, body = server.infer("frame", {"inputs": FRAME})
    assert (status, body["outputs"][0]["data"]) == (200, [2.5, 3.5])


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_flat_and_nested_data(server, data):
    request = {"inputs": [tensor("x", "FP32", [2, 3], data)]}
    assert server.infer("matrix", request)[2]["outputs"][0]["data"] == [12.0, 30.0]


def test_a_version_is_addressable_and_an_unknown_one_is_404(server):
    body = json.dumps(MATRIX).encode()
    assert server.ask("POST", "/v2/models/matrix/versions/3/infer", body)[0] == 200
    status, _, answer = server.ask("POST", "/v2/models/matrix/versions/4/infer", body)
    assert (status, "version 3" in json.loads(answer)["error"]) == (404, True)


def test_json_without_a_content_type_is_taken(server):
    assert server.infer("matrix", MATRIX, Content_Type="")[0] == 200


def raw_request(tensors, **more):
    inputs = [
        {"name": n, "datatype": d, "shape": s, "parameters": {"binary_data_size": len(raw)}}
        for n, d, s, raw in tensors
    ]
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + b"".join(raw for *_, raw in tensors), str(len(head))


def test_raw_tensors_in_and_out(server):
    words = b"".join(struct.pack("<I", len(w)) + w for w in (b"UA", b"AA"))
    body, head = raw_request(
        [
            ("distance", "FP32", [2], np.array([1, 2], "<f4").tobytes()),
            ("delay", "FP64", [2], np.array([np.nan, 5]).tobytes()),
            ("stops", "INT64", [2], np.array([1, 1], "<i8").tobytes()),
            ("carrier", "BYTES", [2], words),
        ],
        parameters={"binary_data_output": True},
    )
    status, headers, answer = server.ask(
        "POST", "/v2/models/frame/infer", body, Inference_Header_Content_Length=head
    )
    length = int(headers["inference-header-content-length"])
    said = json.loads(answer[:length])
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    assert said["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(answer[length:]).tolist() == [2.0, 8.0]
    found = server.workspace.serving.find_prediction(said["parameters"]["clew-prediction-id"])
    assert found.inputs["carrier"] == ["UA", "AA"]
    assert found.inputs["delay"] == [None, 5.0]
    assert found.outputs == {"prediction": [2.0, 8.0]}


def test_outputs_are_chosen_by_name_each_as_json_or_raw(server):
    request = MATRIX | {
        "outputs": [{"name": "name", "parameters": {"binary_data": True}}, {"name": "pair"}]
    }
    _, headers, answer = server.ask("POST", "/v2/models/wide/infer", json.dumps(request).encode())
    length = int(headers["inference-header-content-length"])
    name, pair = json.loads(answer[:length])["outputs"]
    assert (name["name"], pair["data"]) == ("name", [6.0, -6.0])
    assert answer[length:] == b"\x01\x00\x00\x00a"
    status, _, body = server.infer("wide", MATRIX | {"outputs": [{"name": "nope"}]})
    assert (status, "'pair', 'name'" in body["error"]) == (400, True)


def test_gzip(server):
    packed = gzip.compress(json.dumps(MATRIX).encode())
    assert server.infer("matrix", packed, Content_Encoding="gzip")[0] == 200


def test_v1_predict(server):
    def predict(name, instances):
        body = json.dumps({"instances": instances}).encode()
        status, _, answer = server.ask("POST", f"/v1/models/{name}:predict", body)
        return status, json.loads(answer)

    assert predict("matrix", [[1, 2, 3], [0, 0, 1]])[1]["predictions"] == [12.0, 2.0]
    rows = [{"distance": 1, "delay": None, "stops": 2, "carrier": "x"}]
    assert predict("frame", rows)[1]["predictions"] == [3.0]
    body = predict("wide", [[1, 2, 3]])[1]
    assert body["predictions"] == [{"pair": [6.0, -6.0], "name": "a"}]
    said = body["parameters"]["clew-prediction-id"]
    assert server.workspace.serving.find_prediction(said).outputs["name"] == ["a"]
    assert predict("frame", [{"distance": 1}])[0] == 400
    assert server.get("/v1/models/matrix")[1].items() >= {"name": "matrix", "ready": True}.items()
    assert "matrix" in server.get("/v1/models")[1]["models"]
    assert "matrix" in server.get("/v2/models")[1]["models"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nope/infer", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/nope/ready", 404),
        ("GET", "/v2/models/empty", 503),
        ("POST", "/v2/models/empty/infer", 503),
        ("GET", "/v2/models/matrix/infer", 405),
        ("PUT", "/v2/health/live", 405),
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/%ff", 404),
        ("GET", "/v2/models/matrix/versions", 404),
        ("POST", "/v1/models/nope:predict", 404),
    ],
)
def test_wrong_questions_are_told_as_such(server, method, path, status):
    body = json.dumps(MATRIX).encode() if method == "POST" else None
    found, _, answer = server.ask(method, path, body)
    assert found == status
    assert set(json.loads(answer)) == {"error"}


def test_what_is_allowed_is_named(server):
    assert server.ask("GET", "/v2/models/matrix/infer")[1]["allow"] == "POST"


@pytest.mark.parametrize(
    ("request_body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"inputs": 1}', "needs 'inputs'"),
        ({"inputs": [tensor("x", "FP64", [1, 2], [1, 2])]}, "[rows, 3]"),
        ({"inputs": [tensor("x", "BYTES", [1, 3], ["a", "b", "c"])]}, "got BYTES"),
        ({"inputs": [tensor("x", "FP64", [1, 3], [1, 2, None])]}, "missing"),
        (MATRIX | {"id": 7}, "'id' must be text"),
    ],
)
def test_bad_input_is_400_says_why_and_is_logged(server, request_body, says):
    status, headers, body = server.infer("matrix", request_body)
    assert (status, says in body["error"]) == (400, True), body
    found = server.workspace.serving.find_prediction(headers["clew-prediction-id"])
    assert says in found.outputs["error"][0]


def test_a_value_error_of_the_model_is_the_requests_fault_anything_else_its_own(server):
    def asking(value):
        return server.infer("picky", {"inputs": [tensor("x", "FP64", [1, 3], [value, 0, 0])]})

    assert asking(10)[0] == 200
    status, _, body = asking(60)
    assert (status, "a sum is too large" in body["error"]) == (400, True)
    status, _, body = asking(2000)
    assert (status, "the model broke" in body["error"]) == (500, True)


def test_one_bad_request_of_a_batch_fails_alone(server):
    def asking(value):
        request = {"inputs": [tensor("x", "FP64", [1, 3], [value, 0, 0])]}
        return server.infer("picky", request)[0]

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(asking, [60 if at % 7 == 0 else at % 7 for at in range(140)]))
    assert found == [400 if at % 7 == 0 else 200 for at in range(140)]


def test_a_body_over_the_limit_is_413(server):
    assert server.infer("matrix", b" " * ((1 << 20) + 1))[0] == 413


# fuzz -------------------------------------------------------------------------------------------

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
)
_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["input", "distance", "delay", "stops", "carrier", ""]) | _values,
        "datatype": st.sampled_from(["FP64", "INT32", "BOOL", "BYTES", "FP16", "x"]) | _values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | _values,
        "data": st.lists(_scalars, max_size=8) | _values,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 20)}) | _values,
    },
)
_requests = st.fixed_dictionaries(
    {},
    optional={
        "id": _values,
        "inputs": st.lists(_tensors, max_size=4) | _values,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.text()}), max_size=2) | _values,
        "parameters": st.dictionaries(st.sampled_from(["clew-key", "x"]), _values) | _values,
        "instances": st.lists(st.lists(_scalars, max_size=4), max_size=3) | _values,
    },
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["/v2/models/{}/infer", "/v1/models/{}:predict"]),
    st.sampled_from(["matrix", "frame"]),
    _requests | _values,
    st.binary(max_size=24),
    st.none() | st.integers(-5, 200),
)
def test_whatever_is_sent_is_answered_and_never_with_5xx(server, path, name, request, tail, head):
    body = json.dumps(request).encode() + tail
    headers = {} if head is None else {"Inference_Header_Content_Length": str(head)}
    status, _, answer = server.ask("POST", path.format(name), body, **headers)
    assert status in {200, 400}, answer
    if status == 400:
        assert json.loads(answer)["error"]


def test_all_that_was_sent_can_be_committed_and_read_again(server):
    request = b'{"instances": [["\\ud800", 1, 2]]}'  # half a character
    assert server.ask("POST", "/v1/models/matrix:predict", request)[0] == 400
    for name in ("matrix", "wide", "picky"):
        server.infer(name, MATRIX)
    server.infer("frame", {"inputs": FRAME})
    server.workspace.serving.collect(force=True)
    for name in ("matrix", "frame", "wide", "picky"):
        assert server.workspace.serving.predictions(name, 1000)
    assert server.workspace.serving.collect(force=True) == 0


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_on_the_wire_leave_the_server_standing(server, data):
    async def throw():
        reader, writer = await asyncio.open_connection(server.place.hostname, server.place.port)
        writer.write(data)
        writer.write_eof()
        said = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return said

    said = asyncio.run(throw())
    assert not said.startswith(b"HTTP/1.1 5")
    assert server.get("/v2/health/live")[0] == 200
