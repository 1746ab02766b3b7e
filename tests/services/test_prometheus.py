"""A real Prometheus (Debian's package) scrapes a server with two serving processes, and what the
Grafana dashboard asks for has answers there.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from clew.serving import dashboard

UNIT = Path(__file__).parents[1] / "unit" / "serving" / "conftest.py"
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP64", "data": [1, 2, 3, 4, 5, 6]}]}
).encode()
PATIENCE_S = 60


def shared():
    """What the unit tests of serving share."""
    name = "serving_conftest"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, UNIT)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def served(tmp_path):
    workspace = shared().Workspace(tmp_path)
    workspace.endpoint()
    workspace.deploy(shared().fake.matrix(fail_above=100), version="3")
    workspace.process = workspace.serve(processes=2)
    yield workspace
    workspace.close()


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path, **asked):
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(asked)}") as answer:
            return json.load(answer)

    def query(self, expression):
        told = self.get("/api/v1/query", query=expression)
        assert told["status"] == "success"
        return told["data"]["result"]


@pytest.fixture
def prometheus(served, tmp_path):
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed: apt install prometheus")
    place = urlsplit(served.process.url).netloc
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: clew, static_configs: [{{targets: ['{place}']}}]}}]\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stderr=log,
        )
    yield Prometheus(f"http://127.0.0.1:{port}")
    process.terminate()
    process.wait(30)


def until(found, what):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if answer := found():
                return answer
        except OSError:
            pass  # it is not up yet
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come to pass")


def ask(url, times, body=BODY):
    for _ in range(times):  # a connection each: both processes answer some
        with urllib.request.urlopen(urllib.request.Request(url, data=body)) as answer:
            answer.read()


@pytest.mark.timeout(300)
def test_prometheus_sums_both_processes_and_no_counter_goes_back(served, prometheus):
    url = f"{served.process.url}/v2/models/e/infer"
    ask(url, 30)
    (target,) = until(
        lambda: [
            each
            for each in prometheus.get("/api/v1/targets")["data"]["activeTargets"]
            if each["health"] == "up"
        ],
        "a scrape",
    )
    assert target["lastError"] == ""
    counted = 'clew_requests_total{endpoint="e",version="3",arm="live",model="p/model"}'

    def value():
        found = prometheus.query(counted)
        return float(found[0]["value"][1]) if found else 0.0

    until(lambda: value() == 30, "30 requests")
    ask(url, 25)
    until(lambda: value() == 55, "55 requests")
    (rows,) = prometheus.query("clew_rows_total")
    assert float(rows["value"][1]) == 110
    assert prometheus.query("resets(clew_requests_total[5m])")[0]["value"][1] == "0"
    (count,) = prometheus.query("clew_request_duration_seconds_count")
    assert float(count["value"][1]) == 55
    (median,) = prometheus.query(
        "histogram_quantile(0.5, sum by (le) (rate(clew_request_duration_seconds_bucket[5m])))"
    )
    assert 0 < float(median["value"][1]) < 10
    (processes,) = prometheus.query("clew_serving_processes")
    assert float(processes["value"][1]) == 2
    kinds = prometheus.get("/api/v1/metadata")["data"]
    assert kinds["clew_requests_total"][0]["type"] == "counter"
    assert kinds["clew_batch_rows"][0]["type"] == "histogram"
    assert kinds["clew_requests_in_flight"][0]["type"] == "gauge"


@pytest.mark.timeout(300)
def test_every_panel_of_the_dashboard_has_data_there(served, prometheus):
    url = f"{served.process.url}/v2/models/e/infer"
    ask(url, 5)
    until(lambda: prometheus.query("clew_requests_total"), "a scrape")
    ask(url, 5)
    until(lambda: prometheus.query("sum(rate(clew_requests_total[1m])) > 0"), "a rate")
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            asked = target["expr"].replace("$__rate_interval", "1m").replace("$endpoint", "e")
            assert prometheus.query(asked), asked
