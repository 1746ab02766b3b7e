"""kill -9 of a server with MLflow inside, or of MLflow alone, while an unmodified client logs.

What the client had an answer for is there, once, as it was said; what it had none for is there once
or not at all. The moments are drawn by a seed, counted in answers. The client goes on by itself: it
retries as MLflow's client does, so that a call may reach the server twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import clew
from clew.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Place, Server

pytestmark = pytest.mark.slow

KILLS = 20
BETWEEN = 120
"""At most so many answers come between two kills."""
KEYS = 20
CLIENT = """
import itertools, json, sys, threading
import mlflow
from mlflow.entities import Metric, Param, RunTag

client = mlflow.MlflowClient()
out, sys.stdout = sys.stdout, sys.stderr  # MLflow prints addresses of runs
ended, lock = threading.Event(), threading.Lock()
names = ("one", "batch", "file")
runs = {name: client.create_run("0", run_name=name).info.run_id for name in names}

def tell(*what):
    with lock:
        print(json.dumps(what), file=out, flush=True)

def one(n):
    client.log_metric(runs["one"], "loss", n * 0.5, timestamp=1000 + n, step=n)

def batch(n):
    metrics = [Metric(f"m{k}", n + k, 1000 + n, n) for k in range(KEYS)]
    client.log_batch(runs["batch"], metrics, [Param(f"p{n}", str(n))], [RunTag(f"t{n}", str(n))])

def file(n):
    client.log_text(runs["file"], f"text {n}", f"a/{n}.txt")

def run(n):
    made = client.create_run("0", run_name=f"run {n}").info.run_id
    client.log_param(made, "n", n)
    client.set_terminated(made)
    return made

def work(act):
    for n in itertools.count():
        if ended.is_set():
            return
        try:
            given = act(n)
        except Exception as error:
            tell("failed", n, f"{act.__name__}: {error}")
        else:
            tell(act.__name__, n, given)

tell("runs", 0, runs)
threads = [threading.Thread(target=work, args=(act,)) for act in (one, batch, file, run)]
for thread in threads:
    thread.start()
sys.stdin.read()
ended.set()
for thread in threads:
    thread.join()
""".replace("KEYS", str(KEYS))


class Client:
    """A program with the real client, and what it had answers for."""

    def __init__(self, directory: Path, url: str) -> None:
        program = directory / "client.py"
        program.write_text(CLIENT)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "MLFLOW_"))}
        environ = kept | {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
            "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
        }
        with (directory / "client.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-W", "ignore", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=directory,
                env=environ,
            )
        self.runs: dict[str, str] = {}
        self.had: dict[str, dict[int, str]] = {}
        self._count: Counter[str] = Counter()
        self._ended = False
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            act, n, given = json.loads(line)
            with self._more:
                if act == "runs":
                    self.runs = given
                else:
                    self.had.setdefault(act, {})[n] = given
                self._count[act] += 1
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def wait(self, more: int, act: str = "") -> None:
        """Until it had so many more answers, of one kind of act or of any."""
        with self._more:
            goal = self._answers(act) + more
            assert self._more.wait_for(lambda: self._answers(act) >= goal, 120), "no answer came"
            assert not self._ended, "the client ended"

    def _answers(self, act: str) -> int:
        if self._ended:
            return sys.maxsize
        return self._count[act] if act else self._count.total() - self._count["failed"]

    def end(self) -> None:
        """It makes an end of what it does, and ends."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(120)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.wait()
            self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass
class Strike:
    """Kills, and counts them."""

    place: Place
    draw: random.Random
    server: Server
    port: int
    hits: Counter[str] = field(default_factory=Counter)

    def once(self, client: Client) -> None:
        """Wait for some answers, then kill what answers."""
        if self.draw.random() < 0.2:
            client.wait(1, "run")  # MLflow's own application answers this one
        else:
            client.wait(self.draw.randint(1, BETWEEN))
        threading.Event().wait(self.draw.uniform(0, 0.02))  # the moment is the test
        if self.draw.random() < 0.35:
            self.kill_mlflow()
            return
        self.kill_server("server")
        if self.draw.random() < 0.2:  # the next one, while MLflow starts below it
            threading.Event().wait(self.draw.uniform(0, 2))
            self.kill_server("starting")

    def kill_mlflow(self) -> None:
        for process in self.server.family()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                if "clew.server.mlflow.mounted" in process.cmdline():
                    process.send_signal(signal.SIGKILL)
                    self.hits["mlflow"] += 1

    def kill_server(self, what: str) -> None:
        children = self.server.kill()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive, "nothing outlives its server"
        self.hits[what] += 1
        self.server = start(self.place, self.port)


def start(place: Place, port: int) -> Server:
    return place.server("--port", str(port), "--serving-port", "0")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill(place: Place, *, seed: int, kills: int) -> tuple[Strike, Client]:
    place.clew("init", "--bare", ".")
    port = free_port()
    strike = Strike(place, random.Random(seed), start(place, port), port)
    client = Client(place.directory, strike.server.url)
    try:
        while strike.hits.total() < kills:
            strike.once(client)
        client.wait(5)
    finally:
        client.end()
    return strike, client


class Asks:
    """MLflow's API, asked without its client."""

    def __init__(self, url: str) -> None:
        self._base = f"{url}/api/2.0"

    def get(self, path: str, /, **query: str) -> bytes:
        address = f"{self._base}/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return bytes(answer.read())

    def run(self, run: str) -> tuple[str, dict[str, dict[str, Any]]]:
        """Its status; metrics, params and tags by their names."""
        found = json.loads(self.get("mlflow/runs/get", run_id=run))["run"]
        kinds = ("metrics", "params", "tags")
        data = {kind: found["data"].get(kind, []) for kind in kinds}
        named = {kind: {one["key"]: one["value"] for one in data[kind]} for kind in kinds}
        return found["info"]["status"], named

    def steps(self, run: str, key: str) -> Counter[int]:
        """How often each step of a metric is there."""
        found: Counter[int] = Counter()
        token = ""
        while True:
            query = {"run_id": run, "metric_key": key, "max_results": "25000", "page_token": token}
            page = json.loads(self.get("mlflow/metrics/get-history", **query))
            found.update(one["step"] for one in page.get("metrics", []))
            token = page.get("next_page_token", "")
            if not token:
                return found


def every_step_is_there_once(client: Client, asks: Asks) -> None:
    steps = asks.steps(client.runs["one"], "loss")
    assert client.had["one"].keys() <= steps.keys(), "none is lost"
    assert set(steps.values()) == {1}, "none is doubled"
    assert steps.keys() <= set(range(max(client.had["one"]) + 2)), "none comes from nowhere"
    assert asks.run(client.runs["one"])[1]["metrics"]["loss"] == max(steps) * 0.5


def batches_are_whole(client: Client, asks: Asks) -> None:
    run = client.runs["batch"]
    first, *others = [asks.steps(run, f"m{k}") for k in range(KEYS)]
    assert all(one == first for one in others), "a batch is whole or not there"
    assert client.had["batch"].keys() <= first.keys()
    assert set(first.values()) == {1}
    _, data = asks.run(run)
    assert {int(value) for value in data["params"].values()} == first.keys()
    mine = {key[1:] for key in data["tags"] if key[0] == "t" and key[1:].isdigit()}
    assert {int(key) for key in mine} == first.keys()


def files_and_runs_are_there(client: Client, asks: Asks, url: str) -> None:
    run, files = client.runs["file"], client.had["file"]
    below = f"0/{run}/artifacts/a"
    found = json.loads(asks.get("mlflow-artifacts/artifacts", path=below))["files"]
    assert {f"{n}.txt" for n in files} <= {one["path"] for one in found}
    for n in files:
        assert asks.get(f"mlflow-artifacts/artifacts/{below}/{n}.txt") == f"text {n}".encode()
    with contextlib.closing(clew.connect(url)) as verbs:
        for n, run in client.had["run"].items():
            status, data = asks.run(run)
            assert (status, data["params"]) == ("FINISHED", {"n": str(n)})
            subject = verbs.why(run).subject
            assert subject.global_id == data["tags"]["clew.global_id"], "each is in lineage"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(700, 716))
def test_twenty_kills_while_a_client_logs_lose_no_step_and_double_none(
    place: Place, seed: int
) -> None:
    """Sixteen times: 320 kills in all."""
    strike, client = kill(place, seed=seed, kills=KILLS)
    answers = {act: len(had) for act, had in client.had.items()}
    print(f"seed {seed}: {dict(strike.hits)} kills, {answers} answers")
    asks = Asks(strike.server.url)
    every_step_is_there_once(client, asks)
    batches_are_whole(client, asks)
    files_and_runs_are_there(client, asks, strike.server.url)
    assert strike.server.stop() == 0
    assert Store.open(place.home / "store").fsck() == []
