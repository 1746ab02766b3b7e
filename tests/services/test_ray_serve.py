"""Endpoints on two real Ray nodes by Ray Serve, one of which is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

import clew

if importlib.util.find_spec("ray") is None or any(
    importlib.util.find_spec(name) is None for name in ("aiohttp", "opencensus", "grpc")
):
    pytest.skip(
        'Ray Serve is not installed: pip install "clew[ray-serve]"', allow_module_level=True
    )

pytestmark = pytest.mark.timeout(900)
FILE = """
import clew
import polars as pl
from sklearn.linear_model import LogisticRegression

p = clew.Pipeline("shop")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.25))
def model(data, trial):
    return LogisticRegression().fit(data.select("a", "b"), data["y"])

p.endpoint("late", model)
"""
ASKED = {
    "inputs": [
        {"name": "a", "datatype": "INT64", "shape": [2], "data": [60, 100]},
        {"name": "b", "datatype": "INT64", "shape": [2], "data": [3, 0]},
    ]
}


def rows(turn: int) -> bytes:
    lines = [f"{n},{n % 7},{int(n > 60 + turn)}\n" for n in range(120)]
    return ("a,b,y\n" + "".join(lines)).encode()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(holds: Any, what: str, seconds: float = 240) -> Any:
    """Wait for what other processes do."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


class Place:
    """A workspace whose server has its endpoints on the cluster."""

    def __init__(self, directory: Path, cluster: Any) -> None:
        self.directory, self.port = directory, free_port()
        names = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "RAY_"))}
        self.environ = names | cluster.variables
        self.serving = f"{cluster.address}?min=2&max=2&port={self.port}&cpus=1"
        self.url = f"http://127.0.0.1:{self.port}/v2/models/late"
        self.process: Any = None
        self.verbs: Any = None

    def start(self) -> None:
        line = ["server", "--serving", self.serving, "--port", "0", "--serving-port", "0"]
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clew.cli", *line],
                cwd=self.directory, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        if not any("endpoints" in line for line in self.process.stdout):
            self.stop()
            said = [one.read_text() for one in self.directory.rglob("*.log")]
            raise AssertionError("\n".join(said))
        note = json.loads((self.directory / ".clew" / "server.json").read_text())
        self.verbs, self.home = clew.connect(note["url"]), note["serving_url"]

    def stop(self, how: int = signal.SIGINT) -> None:
        if self.verbs is not None:
            self.verbs.close()
            self.verbs = None
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(90)
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def place(ray_cluster, tmp_path):
    subprocess.run(
        [sys.executable, "-P", "-m", "clew.cli", "init"], cwd=tmp_path, check=True,
        capture_output=True, env={k: v for k, v in os.environ.items() if not k.startswith("CLEW_")},
    )  # fmt: skip
    found = Place(tmp_path, ray_cluster)
    (tmp_path / "shop.py").write_text(FILE)
    found.start()
    found.verbs.apply(tmp_path / "shop.py")
    found.verbs.put("shop/rows", {"/rows.csv": rows(0)})
    found.verbs.wait(timeout_s=240)
    yield found
    found.stop()
    ended = (
        "import ray, sys; from ray import serve; ray.init(sys.argv[1], log_to_driver=False); "
        "serve.shutdown()"
    )
    address = ray_cluster.address.removeprefix("ray+gcs://")
    subprocess.run(
        [sys.executable, "-c", ended, address], env=found.environ, timeout=120, check=False,
        capture_output=True,
    )  # fmt: skip


def ask(url: str, body: Any = None, timeout: float = 30) -> tuple[Any, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=timeout) as reply:
        content = reply.read()
        plain = url.endswith("metrics")
        return content.decode() if plain else json.loads(content), reply.headers


def answers(url: str) -> bool:
    try:
        ask(f"{url}/infer", ASKED)
    except OSError:
        return False
    return True


def is_ready(home: str) -> bool:
    try:
        return bool(ask(f"{home}/v2/health/ready")[0]["ready"])
    except OSError:
        return False


class Load:
    """Asks again and again on several threads; keeps which version answered, and what failed."""

    def __init__(self, url: str, threads: int = 4) -> None:
        self.url, self.ended = url, threading.Event()
        self.versions: list[str] = []
        self.ids: set[str] = set()
        self.failed: list[str] = []
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                told, headers = ask(f"{self.url}/infer", ASKED)
            except OSError as error:
                said = error.read().decode() if isinstance(error, HTTPError) else str(error)
                self.failed.append(said)
            else:
                self.versions.append(told["model_version"])
                self.ids.add(headers["clew-prediction-id"])

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()


def test_an_endpoint_on_ray_answers_logs_changes_and_ends(place):
    until(lambda: answers(place.url), "the endpoint answers on the cluster")
    mine = place.verbs.predict("late", [{"a": 60, "b": 3}, {"a": 100, "b": 0}])
    told, headers = ask(f"{place.url}/infer", ASKED)
    assert {one["name"]: one["data"] for one in told["outputs"]} == mine.outputs
    live = place.verbs.endpoint("late").revisions[0]
    assert headers["clew-revision"] == told["parameters"]["clew-revision"] == live.id
    assert told["model_version"] == "1"
    assert ask(place.url)[0]["inputs"][0]["name"] == "a"
    with pytest.raises(HTTPError) as refused:
        ask(f"{place.url}/infer", {"inputs": ASKED["inputs"][:1]})
    assert refused.value.code == 400
    refused.value.close()
    # the server's own port passes predictions on, v1 too, and tells what there is
    assert ask(f"{place.home}/v2/models/late/infer", ASKED)[0]["outputs"] == told["outputs"]
    by_v1 = ask(f"{place.home}/v1/models/late:predict", {"instances": [{"a": 60, "b": 3}]})[0]
    assert by_v1["predictions"][0]["label"] == told["outputs"][0]["data"][0]
    until(lambda: is_ready(place.home), "every replica holds it")
    # a new version takes over while many ask: nobody is refused
    with Load(place.url) as load:
        until(lambda: len(load.versions) > 50, "it is asked")
        place.verbs.put("shop/rows", {"/rows.csv": rows(5)})
        place.verbs.wait(timeout_s=240)
        until(lambda: load.versions[-1] == "2", "the second version answers")
        after = len(load.versions)
        until(lambda: len(load.versions) > after + 50, "it is asked")
        place.verbs.rollback("late")
        until(lambda: load.versions[-1] == "1", "the first version answers again")
    assert not load.failed, load.failed[:3]
    assert set(load.versions) == {"1", "2"}
    # every prediction comes into the log, once
    wanted = load.ids | {headers["clew-prediction-id"], mine.prediction_id}
    found: list[str] = []

    def logged() -> bool:
        found[:] = [one.id for one in place.verbs.predictions("late", limit=1_000_000)]
        return wanted <= set(found)

    until(logged, "the log is home")
    assert len(found) == len(set(found))
    until(
        lambda: (
            'clew_requests_total{endpoint="late"' in ask(f"{place.home}/metrics")[0]
            and place.verbs.endpoint("late").requests >= len(load.ids)
        ),
        "what was answered is counted",
    )
    # unloading ends the replicas
    ask(f"{place.home}/v2/repository/models/late/unload", {})
    until(lambda: not answers(place.url), "the application is gone")
    ask(f"{place.home}/v2/repository/models/late/load", {})
    until(lambda: answers(place.url), "it is there again")


def test_a_machine_and_the_server_may_go_and_the_endpoint_goes_on(place, ray_cluster):
    until(lambda: answers(place.url), "the endpoint answers on the cluster")
    node = next(one for one in ray_cluster.nodes if one.name == "right")
    with Load(place.url) as load:
        until(lambda: len(load.versions) > 20, "it is asked")
        node.kill()
        ray_cluster.nodes.remove(node)
        killed = len(load.versions)
        until(lambda: len(load.versions) > killed + 200, "requests go on")
    ray_cluster.add("right", resources='{"right": 2}')
    # what the machine that died was computing may have failed, and nothing after it
    assert len(load.failed) <= 4 * 8, load.failed[:5]
    place.stop(signal.SIGKILL)
    last, headers = ask(f"{place.url}/infer", ASKED)
    assert last["model_version"] == "1"
    with Load(place.url) as load:  # nothing changes for those who ask
        place.start()
        until(lambda: is_ready(place.home), "the server has found what is served")
        asked = len(load.versions)
        until(lambda: len(load.versions) > asked + 50, "requests go on")
    assert not load.failed, load.failed[:3]
    wanted = headers["clew-prediction-id"]
    until(
        lambda: wanted in {one.id for one in place.verbs.predictions("late", limit=100_000)},
        "what was answered without the server is logged",
    )
