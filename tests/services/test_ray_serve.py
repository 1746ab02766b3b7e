"""Endpoints on two real Ray nodes by Ray Serve, one of which is killed."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
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
    """A user whose server has its endpoints on the cluster, where ``url`` answers."""

    def __init__(self, home: Any, cluster: Any, **options: object) -> None:
        port = free_port()
        home.environ |= cluster.variables
        told = {"min": 2, "max": 2, "port": port, "cpus": 1, **options}
        asked = "&".join(f"{name}={value}" for name, value in told.items())
        self._home, self._serving = home, f"{cluster.address}?{asked}"
        self.models = f"http://127.0.0.1:{port}/v2/models"
        self.url = f"{self.models}/late"

    def start(self, *more: str) -> None:
        self._home.start("--serving", self._serving, *more)

    def stop(self, how: int = signal.SIGINT) -> None:
        self._home.stop(how)

    @property
    def verbs(self) -> Any:
        return self._home.verbs

    @property
    def home(self) -> str:
        return str(self._home.serving)

    @property
    def grpc(self) -> str:
        return str(self._home.grpc)


@pytest.fixture
def laid_out(home, ray_cluster):
    """Start a server for a file of pipelines; what it lays out on the cluster ends with it."""
    places: list[Place] = []

    def made(text: str, puts: dict[str, bytes], *more: str, **options: object) -> Place:
        (home.directory / "shop.py").write_text(text)
        home.clew("init", "--bare", ".")
        place = Place(home, ray_cluster, **options)
        places.append(place)
        place.start(*more)
        place.verbs.apply(home.directory / "shop.py")
        for repo, content in puts.items():
            place.verbs.put(repo, {"/rows.csv": content})
        place.verbs.wait(timeout_s=240)
        return place

    yield made
    for place in places:
        place.stop()
    ended = (
        "import ray, sys; from ray import serve; ray.init(sys.argv[1], log_to_driver=False); "
        "serve.shutdown()"
    )
    address = ray_cluster.address.removeprefix("ray+gcs://")
    subprocess.run(
        [sys.executable, "-c", ended, address], env=home.environ, timeout=120, check=False,
        capture_output=True,
    )  # fmt: skip


@pytest.fixture
def place(laid_out):
    return laid_out(FILE, {"shop/rows": rows(0)})


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


WHOLE = """
import clew
import polars as pl
from sklearn.linear_model import LogisticRegression

p = clew.Pipeline("shop")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.25))
def model(data, trial):
    return LogisticRegression().fit(data.select("a", "b"), data["y"])

def half(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(a=pl.col("twice") / 2, b=pl.col("b"))

p.endpoint("late", model)
p.endpoint("half", model, preprocess=half, inputs={"twice": float, "b": int})
p.graph("both", clew.ensemble("late", clew.node("late", name="again"), combine="mean"))
gold = clew.node("both", name="golden")
p.graph("by-size", clew.switch(
    ("a > 80", "both"), ('headers["x-tier"] == "gold"', gold), default="late"
))
"""


def by_name(told: Any) -> dict[str, Any]:
    return {one["name"]: one["data"] for one in told["outputs"]}


def test_functions_graphs_explanations_and_grpc_are_there_on_ray_too(laid_out):
    place = laid_out(WHOLE, {"shop/rows": rows(0)}, "--grpc-port", "0", min=1, max=1, cpus=0.5)
    for name in ("late", "half", "both", "by-size"):
        until(lambda name=name: place.verbs.endpoint(name).revisions, f"{name} is deployed")
        until(lambda name=name: is_ready_model(place, name), f"{name} answers on the cluster")
    right = by_name(ask(f"{place.url}/infer", ASKED)[0])
    # functions around the model run in the replica
    twice = {"name": "twice", "datatype": "FP64", "shape": [2], "data": [120.0, 200.0]}
    halved = ask(f"{place.models}/half/infer", {"inputs": [twice, ASKED["inputs"][1]]})[0]
    assert by_name(halved)["probability"] == pytest.approx(right["probability"])
    # a graph asks its nodes in its own replica; each has a prediction in the log
    for url in (f"{place.models}/both/infer", f"{place.home}/v2/models/both/infer"):
        told, headers = ask(url, ASKED)
        assert by_name(told)["probability"] == pytest.approx(right["probability"])
    whole = headers["clew-prediction-id"]
    nested = by_name(ask(f"{place.models}/by-size/infer", ASKED)[0])
    assert nested["probability"] == pytest.approx(right["probability"])
    assert ask(f"{place.models}/by-size")[0]["inputs"][0]["name"] == "a"

    def parts() -> Any:
        found = [one for one in place.verbs.predictions("both", limit=1000) if one.id == whole]
        return found and len(found[0].parts) == 2

    until(parts, "the graph's prediction is home, with those of its nodes")
    asked_before = place.verbs.endpoint("late").requests
    for _ in range(5):
        ask(f"{place.models}/both/infer", ASKED)
    until(
        lambda: place.verbs.endpoint("late").requests >= asked_before + 10,
        "what nodes answered inside a graph is counted as theirs",
    )
    # gRPC at the server's door goes on to the cluster
    check_grpc(place, right)
    check_explanations(place, right)
    # a rollout of the model moves the graph's node too
    place.verbs.put("shop/rows", {"/rows.csv": rows(5)})
    place.verbs.wait(timeout_s=240)

    def asked_nodes() -> set[str]:
        told = ask(f"{place.models}/both/infer", ASKED)[0]["parameters"]["clew-nodes"]
        return {one["version"] for one in json.loads(told).values()}

    until(lambda: asked_nodes() == {"2"}, "the graph asks the new version")


def is_ready_model(place: Any, name: str) -> bool:
    try:
        return bool(ask(f"{place.models}/{name}/ready")[0]["ready"])
    except OSError:
        return False


def check_grpc(place: Any, right: Any) -> None:
    from clew.serving.messages import MESSAGES  # noqa: PLC0415 - of an extra

    grpc = pytest.importorskip("grpc")
    request = MESSAGES["ModelInferRequest"](model_name="late")
    for given in ASKED["inputs"]:
        tensor = request.inputs.add(name=given["name"], datatype="INT64", shape=[2])
        tensor.contents.int64_contents.extend(given["data"])
    with grpc.insecure_channel(place.grpc) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["ModelInferResponse"].FromString,
        )
        answer = call(request, timeout=60)
        unknown = MESSAGES["ModelInferRequest"](model_name="nobody")
        with pytest.raises(grpc.RpcError) as refused:
            call(unknown, timeout=60)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    at = [one.name for one in answer.outputs].index("probability")
    found = (
        struct.unpack("<2d", answer.raw_output_contents[at])
        if answer.raw_output_contents
        else answer.outputs[at].contents.fp64_contents
    )
    assert list(found) == pytest.approx(right["probability"])


def check_explanations(place: Any, right: Any) -> None:
    """Asked of the cluster and of the server's own port; summed up they are the answers."""
    if importlib.util.find_spec("shap") is None:
        with pytest.raises(HTTPError) as refused:
            ask(f"{place.url}/explain", ASKED, timeout=120)
        said = refused.value.read().decode()
        assert "shap" in said, said
        return
    for url in (f"{place.url}/explain", f"{place.home}/v2/models/late/explain"):
        found = by_name(ask(url, ASKED, timeout=120)[0])
        values = [sum(row) for row in zip(*[iter(found["attributions"])] * 2, strict=True)]
        sums = [base + value for base, value in zip(found["base_values"], values, strict=True)]
        assert sums == pytest.approx(found["values"])
    v1 = f"{place.home}/v1/models/late:explain"
    old = ask(v1, {"instances": [{"a": 60, "b": 3}]}, timeout=120)[0]
    assert set(old["explanations"][0]["attributions"]) == {"a", "b"}


def test_arms_and_shadows_share_the_traffic_of_replicas(laid_out):
    place = laid_out(FILE, {"shop/rows": rows(0)}, min=1, max=1, cpus=0.5)
    until(lambda: answers(place.url), "the endpoint answers on the cluster")
    place.verbs.put("shop/rows", {"/rows.csv": rows(5)})
    place.verbs.wait(timeout_s=240)
    until(lambda: ask(f"{place.url}/infer", ASKED)[0]["model_version"] == "2", "version 2 serves")
    place.verbs.deploy("late", "shop/model@1", rollout=clew.split(50))
    with Load(place.url) as load:
        until(lambda: {"1", "2"} <= set(load.versions[-200:]), "both arms answer")
    assert not load.failed, load.failed[:3]
    place.verbs.deploy("late", "shop/model@2", rollout=clew.shadow())
    until(
        lambda: any(one.state == "shadow" for one in place.verbs.endpoint("late").revisions),
        "the shadow is held",
    )

    def copied() -> bool:
        ask(f"{place.url}/infer", ASKED)
        logged = place.verbs.predictions("late", limit=100_000)
        return any(one.arm == "shadow" for one in logged)

    until(copied, "copies are answered, and come home with the log")
