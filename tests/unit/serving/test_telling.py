"""What serving processes tell of themselves: lines of JSON, and spans to a collector."""

from __future__ import annotations

import gzip
import importlib.util
import json
import logging
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clew.serving.logs import JsonLines

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}
).encode()
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def post(url, body=BODY, **headers):
    """Status and headers of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers


def test_a_record_is_one_line_of_json_with_its_extra_and_its_error():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.getLogger("clew.serving").makeRecord(
            "clew.serving", logging.ERROR, "f", 1, "no %s", ("é",),
            (type(error), error, error.__traceback__), extra={"endpoint": "e"},
        )  # fmt: skip
    line = JsonLines().format(record)
    said = json.loads(line)
    assert "\n" not in line
    assert (said["message"], said["level"], said["logger"]) == ("no é", "error", "clew.serving")
    assert said["endpoint"] == "e"
    assert said["at"].endswith("+00:00")
    assert "ValueError: two" in said["error"]


def test_processes_log_lines_of_json_where_they_are_told_and_trace_nothing_untold(workspace, laws):
    workspace.endpoint()
    workspace.deploy(laws.matrix())
    process = workspace.serve(json_logs=True)
    given = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    _, headers = post(f"{process.url}/v2/models/e/infer", **given)
    assert headers["traceparent"] is None
    broken = workspace.deploy(laws.matrix(unloadable=True))
    workspace.wait(lambda: workspace.state(broken) == "failed")
    process.stop()
    lines = (workspace.home / "serving.log").read_text().splitlines()
    (line,) = [each for each in lines if "no such weights" in each]
    assert json.loads(line)["level"] == "warning"


@pytest.fixture
def collector():
    """Where spans go: the bodies of what was posted to /v1/traces."""
    found: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers.get("content-encoding") == "gzip"
            found.append(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.found = found
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def spans_of(collector):
    service = importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    return [
        span
        for body in collector.found
        for resource in service.ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_each_request_is_a_span_of_its_callers_trace(workspace, laws, collector, monkeypatch):
    if not has("opentelemetry.exporter.otlp.proto.http"):
        pytest.skip('The exporter is not installed: pip install "clew[otel]"')
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_address[1]}"
    )
    workspace.endpoint()
    revision = workspace.deploy(laws.matrix(fail_above=100), version="3")
    process = workspace.serve(traces=True)
    url = f"{process.url}/v2/models/e/infer"
    given = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b"}
    status, headers = post(url, **given)
    assert status == 200
    assert post(url, BODY.replace(b"[1, 2, 3]", b"[500, 2, 3]"))[0] == 500
    assert post(url, traceparent="nonsense")[0] == 200
    process.stop()  # sends what is left
    spans = spans_of(collector)
    assert len(spans) == 3
    (child,) = [span for span in spans if span.trace_id.hex() == TRACE]
    assert child.parent_span_id.hex() == PARENT
    assert headers["traceparent"] == f"00-{TRACE}-{child.span_id.hex()}-01"
    told = {each.key: each.value for each in child.attributes}
    assert told["clew.revision"].string_value == revision.id
    assert told["clew.prediction_id"].string_value == headers["clew-prediction-id"]
    assert told["http.response.status_code"].int_value == 200
    assert child.end_time_unix_nano > child.start_time_unix_nano
    (failed,) = [span for span in spans if span.status.code == 2]
    assert "the model broke" in failed.status.message
    assert len({span.trace_id for span in spans}) == 3


def test_a_span_says_nothing_of_what_an_endpoint_redacts(workspace, laws, collector, monkeypatch):
    if not has("opentelemetry.exporter.otlp.proto.http"):
        pytest.skip('The exporter is not installed: pip install "clew[otel]"')
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_address[1]}"
    )
    workspace.endpoint(redact=("x",))
    workspace.deploy(laws.matrix(fail_above=100))
    process = workspace.serve(traces=True)
    body = BODY.replace(b"[1, 2, 3]", b"[500, 2, 3]")
    assert post(f"{process.url}/v2/models/e/infer", body)[0] == 500
    process.stop()
    (span,) = spans_of(collector)
    assert "redacted" in span.status.message
    assert not any(b"the model broke" in body for body in collector.found)


def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
