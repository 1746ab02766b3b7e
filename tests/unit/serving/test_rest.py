"""Every path of the protocol, by hand-written bytes, against a real serving process."""

from __future__ import annotations

import gzip
import json
import re
import struct
import zlib
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clew.serving import dashboard


class Client:
    """One connection; bodies are bytes, answers are JSON, or JSON and the raw bytes after it."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self.connection = HTTPConnection(place.hostname, place.port, timeout=60)

    def ask(self, method, path, body=b"", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body=body, headers=named)
        answer = self.connection.getresponse()
        found = answer.read()
        unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}
        if coding := answer.headers.get("content-encoding"):
            found = unpack[coding](found)
        self.headers = answer.headers
        head = int(answer.headers.get("inference-header-content-length", len(found)))
        self.raw = found[head:]
        self.size = len(found)
        self.text = found.decode(errors="replace")
        return answer.status, json.loads(found[:head]) if found[:1] in (b"{", b"[") else None

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, value=None, **headers):
        body = b"" if value is None else json.dumps(value).encode()
        return self.ask("POST", path, body, **headers)

    def infer(self, name, value, **headers):
        return self.post(f"/v2/models/{name}/infer", value, **headers)

    def binary(self, name, message, raw, **headers):
        head = json.dumps(message).encode()
        headers["Inference_Header_Content_Length"] = str(len(head))
        return self.ask("POST", f"/v2/models/{name}/infer", head + raw, **headers)


@pytest.fixture
def client(served):
    client = Client(served.process.url)
    yield client
    client.connection.close()


def tensor(name, datatype, shape, data=None, **parameters):
    found = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        found["data"] = data
    return found | ({"parameters": parameters} if parameters else {})


ROW = {"inputs": [tensor("x", "FP64", [1, 3], [1, 2, 3])]}
MIXED = {
    "distance": [1.5, 2.0],
    "delay": [None, 1.0],
    "stops": [1, 2],
    "carrier": ["UA", "é"],
}


# health and metadata ----------------------------------------------------------------------------


def test_health_is_told_of_the_server_of_models_and_of_their_versions(client):
    assert client.get("/v2/health/live") == (200, {"live": True})
    assert client.get("/")[1]["status"] == "alive"
    assert client.get("/v2/health/ready")[0] == 503  # an endpoint has nothing yet
    for path, status in [
        ("/v2/models/matrix/ready", 200),
        ("/v2/models/matrix/versions/3/ready", 200),
        ("/v2/models/matrix/versions/4/ready", 404),
        ("/v2/models/empty/ready", 503),
        ("/v2/models/nobody/ready", 404),
    ]:
        assert client.get(path)[0] == status, path
    assert client.get("/v2/models/matrix/ready")[1]["ready"] is True


def test_metadata_tells_true_inputs_and_outputs_and_the_versions(client):
    server = client.get("/v2")[1]
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(server["extensions"])
    for path in ("/v2/models/columns", "/v2/models/columns/versions/3"):
        told = client.get(path)[1]
        assert (told["name"], told["versions"]) == ("columns", ["3"])
        assert [(each["name"], each["datatype"], each["shape"]) for each in told["inputs"]] == [
            ("distance", "FP64", [-1]),
            ("delay", "FP64", [-1]),
            ("stops", "INT32", [-1]),
            ("carrier", "BYTES", [-1]),
        ]
        assert told["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]
    wide = client.get("/v2/models/wide")[1]["outputs"]
    assert [(each["name"], each["shape"]) for each in wide] == [("pair", [-1, 2]), ("name", [-1])]
    assert client.get("/v2/models/columns/versions/9")[0] == 404
    config = client.get("/v2/models/columns/versions/3/config")[1]
    assert [each["data_type"] for each in config["input"]][-1] == "TYPE_STRING"
    assert config["output"] == [{"name": "prediction", "data_type": "TYPE_FP64", "dims": [-1]}]


def test_the_index_has_each_version_and_says_why_one_does_not_answer(client):
    entries = client.post("/v2/repository/index", {})[1]
    by_name = {entry["name"]: entry for entry in entries}
    assert by_name["matrix"] == {
        "name": "matrix",
        "version": "3",
        "state": "READY",
        "reason": "",
    }
    assert by_name["empty"]["state"] == "UNAVAILABLE"
    assert by_name["empty"]["reason"]
    ready = client.post("/v2/repository/index", {"ready": True})[1]
    assert {entry["name"] for entry in ready} == by_name.keys() - {"empty"}
    assert client.ask("POST", "/v2/repository/index")[0] == 200
    assert client.post("/v2/repository/index", {"ready": 1})[0] == 400
    assert client.ask("POST", "/v2/repository/index", b"[")[0] == 400


# inference --------------------------------------------------------------------------------------


def test_each_output_comes_as_json_or_as_raw_bytes_as_it_is_asked_for(client):
    inputs = [tensor("x", "FP64", [2, 3], [1, 2, 3, 4, 5, 6])]
    pair, name = [6, -6, 15, -15], b"\1\0\0\0a" * 2
    status, body = client.infer("wide", {"inputs": inputs})
    assert [each["data"] for each in body["outputs"]] == [pair, ["a", "a"]]
    everything = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    status, body = client.infer("wide", everything)
    assert status == 200
    assert client.headers["content-type"] == "application/octet-stream"
    assert client.raw == np.array(pair, "<f8").tobytes() + name
    assert [each["parameters"]["binary_data_size"] for each in body["outputs"]] == [32, 10]
    status, body = client.infer(
        "wide", everything | {"outputs": [{"name": "pair", "parameters": {"binary_data": False}}]}
    )
    assert (client.raw, [each["name"] for each in body["outputs"]]) == (b"", ["pair"])
    one = {"name": "name", "parameters": {"binary_data": True}}
    status, body = client.infer("wide", {"inputs": inputs, "outputs": [{"name": "pair"}, one]})
    assert (client.raw, body["outputs"][0]["data"]) == (name, pair)
    assert body["outputs"][1]["name"] == "name"


def test_raw_text_and_mixed_columns_are_read_in_their_order(client):
    words = b"".join(struct.pack("<I", len(each)) + each for each in (b"UA", "é".encode()))
    inputs = [
        tensor("carrier", "BYTES", [2], binary_data_size=len(words)),
        tensor("distance", "FP32", [2, 1], binary_data_size=8),
        tensor("delay", "FP64", [2], [None, 1.0]),
        tensor("stops", "INT32", [2], binary_data_size=8),
    ]
    raw = words + np.array([1.5, 2], "<f4").tobytes() + np.array([1, 2], "<i4").tobytes()
    status, body = client.binary("columns", {"inputs": inputs}, raw)
    assert (status, body["outputs"][0]["data"]) == (200, [2.5, 5.0])
    status, body = client.infer(
        "text", {"id": "77", "inputs": [tensor("word", "BYTES", [2], ["day", "évening"])]}
    )
    assert body["outputs"][1]["data"] == ["day", "évening"]
    assert body["id"] == "77"


def test_the_bytes_of_the_only_input_are_a_whole_request(client):
    def raw(name, body):
        path = f"/v2/models/{name}/infer"
        return client.ask("POST", path, body, Inference_Header_Content_Length="0")

    status, body = raw("matrix", np.arange(6, dtype="<f8").tobytes())
    assert (status, body["outputs"][0]["shape"]) == (200, [2])
    assert np.frombuffer(client.raw, "<f8").tolist() == [6.0, 24.0]
    status, body = raw("text", b"one element")
    assert client.raw.endswith(b"\x0b\0\0\0one element")
    status, body = raw("matrix", b"\0" * 25)
    assert status == 400
    assert "24 bytes" in body["error"]
    assert raw("matrix", b"")[0] == 400
    assert "takes 'distance', 'delay'" in raw("columns", b"1234")[1]["error"]


def test_half_precision_comes_and_goes_as_raw_bytes_and_bfloat_only_so(client):
    halves = np.array([[1.5, 2.0]], "<f2")
    inputs = [tensor("x", "FP16", [1, 2], binary_data_size=4)]
    asked = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    status, body = client.binary("half", asked, halves.tobytes())
    assert (status, body["outputs"][0]["datatype"]) == (200, "FP16")
    assert np.frombuffer(client.raw, "<f2").tolist() == [3.5]
    brains = (np.array([[1.5, 2.0]], "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    inputs[0]["datatype"] = "BF16"
    status, body = client.binary("half", {"inputs": inputs}, brains)
    assert (status, body["outputs"][0]["data"]) == (200, [3.5])
    status, body = client.infer("half", {"inputs": [tensor("x", "BF16", [1, 2], [1.5, 2.0])]})
    assert status == 400
    assert "BF16 has no form in JSON" in body["error"]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bodies_are_compressed_in_both_directions(client, coding):
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}[coding]
    value = {"inputs": [tensor("x", "FP64", [500, 3], [1.0] * 1500)]}
    status, body = client.ask(
        "POST",
        "/v2/models/matrix/infer",
        pack(json.dumps(value).encode()),
        Content_Encoding=coding,
        Accept_Encoding=coding,
    )
    assert (status, body["outputs"][0]["data"]) == (200, [6.0] * 500)
    assert client.headers["content-encoding"] == coding
    message = {
        "inputs": [tensor("x", "FP64", [500, 3], binary_data_size=12000)],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(message).encode()
    status, body = client.ask(
        "POST",
        "/v2/models/matrix/infer",
        pack(head + b"\0" * 12000),
        Content_Encoding=coding,
        Accept_Encoding=f"br, {coding};q=0.5",
        Inference_Header_Content_Length=str(len(head)),
    )
    assert (status, client.raw) == (200, b"\0" * 4000)
    assert client.headers["content-encoding"] == coding
    client.infer("matrix", value, Accept_Encoding=f"{coding};q=0")
    assert "content-encoding" not in client.headers


X = ROW["inputs"][0]
WRONG = [
    ("/v2/models/nobody/infer", ROW, 404, "no endpoint 'nobody'"),
    ("/v2/models/matrix/versions/9/infer", ROW, 404, "version 3"),
    ("/v2/models/empty/infer", ROW, 503, "no revision"),
    ("/v2/models/matrix/infer", {"inputs": [X | {"shape": [3]}]}, 400, "shape [rows, 3]"),
    ("/v2/models/matrix/infer", {"inputs": [X | {"shape": [1, 4]}]}, 400, "shape [rows, 3]"),
    ("/v2/models/matrix/infer", {"inputs": [X | {"data": [1, 2]}]}, 400, "needs 3 elements"),
    ("/v2/models/matrix/infer", {"inputs": [X | {"datatype": "BYTES"}]}, 400, "FP64"),
    ("/v2/models/matrix/infer", {"inputs": [X | {"datatype": "FLOAT"}]}, 400, "one of BF16"),
    ("/v2/models/matrix/infer", {"inputs": [X | {"data": ["a", 2, 3]}]}, 400, "got text"),
    ("/v2/models/matrix/infer", {"inputs": [X, X | {"name": "y"}]}, 400, "one input"),
    ("/v2/models/matrix/infer", {}, 400, "'inputs'"),
    ("/v2/models/matrix/infer", [1], 400, "JSON object"),
    ("/v2/models/matrix/infer", ROW | {"outputs": [{"name": "z"}]}, 400, "no output 'z'"),
    ("/v2/models/matrix/infer", ROW | {"outputs": "z"}, 400, "'outputs'"),
    ("/v2/models/matrix/infer", ROW | {"parameters": []}, 400, "'parameters'"),
    (
        "/v2/models/matrix/infer",
        ROW | {"parameters": {"binary_data_output": "yes"}},
        400,
        "true or false",
    ),
    (
        "/v2/models/matrix/infer",
        ROW | {"outputs": [{"name": "prediction", "parameters": {"classification": -2}}]},
        400,
        "1 or more",
    ),
    ("/v2/models/matrix/infer", {"inputs": [X | {"data": [1e5, 2, 3]}]}, 400, "too large"),
    (
        "/v2/models/matrix/infer",
        {"inputs": [X | {"parameters": {"shared_memory_region": "r"}}]},
        400,
        "shared memory is an extension",
    ),
    ("/v2/systemsharedmemory/region/r/register", {}, 404, "Shared memory is an extension"),
    ("/v2/models/columns/infer", ROW, 400, "shape [rows, 4] in the order of 'distance'"),
    ("/v2/models/columns/infer", {"inputs": [X, X | {"name": "y"}]}, 400, "missing 'distance'"),
    ("/v2/models/text/infer", {"inputs": [tensor("word", "BYTES", [1], [1])]}, 400, "text"),
    ("/v1/models/matrix:predict", {"instances": [[1, 2]]}, 400, "3"),
    ("/v1/models/matrix:predict", {"instances": [[1, 2, 3]], "inputs": [[1]]}, 400, "not both"),
    ("/v1/models/matrix:predict", {"instances": [[1, 2, 3]], "signature_name": "x"}, 400, "one"),
    ("/v1/models/columns:predict", {"inputs": {"distance": [1]}}, 400, "missing 'delay'"),
    ("/v1/models/columns:predict", {"inputs": [1]}, 400, "an object"),
    ("/v1/models/nobody:predict", {"instances": [1]}, 404, "nobody"),
    ("/v2/repository/models/nobody/load", {}, 404, "nobody"),
    ("/v2/repository/models/nobody/unload", {}, 404, "nobody"),
    ("/v2/repository/models/empty/load", {}, 400, "no live revision"),
    ("/v2/repository/models/matrix/load", {"parameters": {"config": "{}"}}, 400, "'config'"),
    ("/v2/nothing", {}, 404, "nothing"),
    ("/v2", {}, 405, "GET"),
]


@pytest.mark.parametrize(("path", "value", "status", "says"), WRONG)
def test_what_is_wrong_is_answered_with_a_client_error_that_says_what(
    client, path, value, status, says
):
    found, body = client.post(path, value)
    assert (found, list(body)) == (status, ["error"])
    assert says in body["error"]


def test_a_model_that_breaks_is_the_servers_error(client):
    big = {"inputs": [X | {"data": [1e7, 0, 0]}]}
    status, body = client.infer("matrix", big)
    assert status == 500
    assert "the model broke" in body["error"]


# v1 ---------------------------------------------------------------------------------------------


def test_v1_takes_rows_and_columns_as_tensorflow_serving_does(client):
    def predict(name, **value):
        status, body = client.post(f"/v1/models/{name}:predict", value)
        assert status == 200, body
        return body

    rows = [dict(zip(MIXED, row, strict=True)) for row in zip(*MIXED.values(), strict=True)]
    assert predict("columns", instances=rows)["predictions"] == [2.5, 5.0]
    assert predict("columns", inputs=MIXED)["outputs"] == [2.5, 5.0]
    nested = {name: [[value] for value in values] for name, values in MIXED.items()}
    assert predict("columns", inputs=nested)["outputs"] == [2.5, 5.0]
    both = predict("wide", inputs=[[1, 2, 3]])["outputs"]
    assert both == {"pair": [[6.0, -6.0]], "name": ["a"]}
    assert predict("wide", instances=[[1, 2, 3]])["predictions"] == [
        {"pair": [6.0, -6.0], "name": "a"}
    ]
    assert predict("matrix", inputs={"x": [[1, 2, 3]]})["outputs"] == [12.0]
    words = predict("text", instances=["day", {"b64": "w6k="}])["predictions"]
    assert words == [{"length": 3, "word": "day"}, {"length": 1, "word": "é"}]
    _, body = client.post("/v1/models/text/versions/3:predict", {"inputs": ["a"]})
    assert body["outputs"] == {"length": [1], "word": ["a"]}
    assert client.post("/v1/models/text/versions/2:predict", {"inputs": ["a"]})[0] == 404


def test_v1_tells_the_state_of_each_version(client):
    for path in ("/v1/models/matrix", "/v1/models/matrix/versions/3"):
        told = client.get(path)[1]
        assert (told["name"], told["ready"]) == ("matrix", True)
        assert told["model_version_status"][0]["version"] == "3"
        assert told["model_version_status"][0]["state"] == "AVAILABLE"
    assert client.get("/v1/models/matrix/versions/2")[0] == 404
    assert "matrix" in client.get("/v1/models")[1]["models"]


def test_v1_columns_are_in_the_log_as_they_were_asked(client, served):
    status, body = client.post("/v1/models/columns:predict", {"inputs": MIXED})
    assert status == 200
    for _ in range(2):  # from the spool, then from the commit
        found = served.serving.find_prediction(body["parameters"]["clew-prediction-id"])
        assert found.inputs == MIXED
        assert found.outputs["predictions"] == [2.5, 5.0]
        served.serving.collect(force=True)


# statistics and metrics -------------------------------------------------------------------------


def stats(client, path="/v2/models/wide/stats"):
    (found,) = client.get(path)[1]["model_stats"]
    return found


def test_statistics_count_requests_rows_executions_and_their_time(client):
    before = stats(client)
    three = {"inputs": [tensor("x", "FP64", [3, 3], [1.0] * 9)]}
    for _ in range(5):
        assert client.infer("wide", three)[0] == 200
    assert client.infer("wide", {"inputs": []})[0] == 400
    now = stats(client)
    assert (now["name"], now["version"]) == ("wide", "3")
    assert now["inference_count"] - before["inference_count"] == 15
    assert now["execution_count"] - before["execution_count"] == 5
    assert now["last_inference"] > before["last_inference"]

    def more(kind):
        old, new = before["inference_stats"][kind], now["inference_stats"][kind]
        return new["count"] - old["count"], new["ns"] - old["ns"]

    answered, whole_ns = more("success")
    assert (answered, more("fail")[0]) == (5, 1)
    assert more("fail")[1] > 0
    parts = [more(kind) for kind in ("queue", "compute_input", "compute_infer", "compute_output")]
    assert [count for count, _ in parts] == [5] * 4
    assert 0 < more("compute_infer")[1] < whole_ns
    assert sum(ns for _, ns in parts) < whole_ns * 1.5  # the log is written within an answer
    batches = {each["batch_size"]: each["compute_infer"]["count"] for each in now["batch_stats"]}
    assert batches[3] == 5 + {
        each["batch_size"]: each["compute_infer"]["count"] for each in before["batch_stats"]
    }.get(3, 0)
    assert stats(client, "/v2/models/wide/versions/3/stats")["version"] == "3"
    every = client.get("/v2/models/stats")[1]["model_stats"]
    names = {"matrix", "columns", "wide", "text", "moments", "half"}
    assert {each["name"] for each in every} == names
    assert client.get("/v2/models/wide/versions/4/stats")[0] == 404
    assert client.get("/v2/models/nobody/stats")[0] == 404


def families(client):
    client.get("/metrics")
    assert client.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {each.name: each for each in text_string_to_metric_families(client.text)}


def test_metrics_have_their_types_labels_and_base_units(client):
    client.infer("matrix", ROW)
    found = families(client)
    kinds = {name: each.type for name, each in found.items()}
    assert kinds["clew_requests"] == kinds["clew_errors"] == kinds["clew_rows"] == "counter"
    assert kinds["clew_request_duration_seconds"] == kinds["clew_batch_rows"] == "histogram"
    assert kinds["clew_requests_in_flight"] == kinds["clew_revisions_loaded"] == "gauge"
    assert all(each.documentation for each in found.values())
    samples = [
        each for each in found["clew_requests"].samples if each.labels["endpoint"] == "matrix"
    ]
    (sample,) = samples
    assert sample.labels.keys() == {"endpoint", "model", "version", "revision", "arm"}
    assert (sample.labels["arm"], sample.labels["version"]) == ("live", "3")
    assert (sample.labels["model"], sample.name) == ("p/model", "clew_requests_total")
    assert sample.value > 0
    for name in ("clew_request_duration_seconds", "clew_batch_rows"):
        rows = [each for each in found[name].samples if each.labels["endpoint"] == "matrix"]
        buckets = [each.value for each in rows if each.name == f"{name}_bucket"]
        (count,) = [each.value for each in rows if each.name == f"{name}_count"]
        (total,) = [each.value for each in rows if each.name == f"{name}_sum"]
        assert buckets == sorted(buckets)
        assert buckets[-1] == count > 0
        assert total > 0
    (loaded,) = found["clew_revisions_loaded"].samples
    (processes,) = found["clew_serving_processes"].samples
    assert (loaded.value, processes.value) == (6, 1)


def test_the_dashboard_asks_for_metrics_that_there_are_and_its_panels_fit_the_grid(client):
    names = {line.split("{")[0].split()[0] for line in _metric_lines(client)}
    board = json.loads(json.dumps(dashboard()))
    panels = board["panels"]
    drawn = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(drawn) > 15
    for expression in drawn:
        asked = set(re.findall(r"clew_[a-z_]+", expression))
        assert asked
        assert asked <= names, expression
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24


def _metric_lines(client):
    client.get("/metrics")
    return [line for line in client.text.splitlines() if not line.startswith("#")]
