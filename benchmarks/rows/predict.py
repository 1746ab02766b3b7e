"""Single-row predict over HTTP at concurrency 1 and 16: the same scikit-learn model everywhere.

30 float features, logistic regression, Open Inference Protocol v2 JSON. Clew serves it as it serves
anything: prediction ids, prediction log, router and metrics on. The servers run one at a time, in
turn, one serving process each; the client is a process of its own.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import polars as pl
from measure import Row, more_is_better, paired
from peers import python_of
from sklearn.datasets import load_breast_cancer

ROUNDS = 3
SECONDS = 4.0
WARM_S = 1.0
HERE = Path(__file__).parent
CLEW = Path(os.environ.get("CLEW_COMMAND", HERE.parents[1] / ".venv" / "bin" / "clew"))

OURS = """
import polars as pl
from sklearn.linear_model import LogisticRegression

import clew

p = clew.Pipeline("bench")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.2))
def model(data: pl.DataFrame, trial: clew.Trial):
    x = data.drop("y").to_numpy()
    return LogisticRegression(max_iter=2000).fit(x, data["y"].to_numpy())

p.endpoint("bench", model)
"""

MAKE = """
import sys
import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
x, y = load_breast_cancer(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=2000).fit((x - x.mean(0)) / x.std(0), y), sys.argv[1])
"""

KSERVE = """
import sys
import uuid
import joblib
from kserve import InferOutput, InferResponse, Model, ModelServer

class Bench(Model):
    def __init__(self):
        super().__init__("bench")
        self.model = joblib.load(sys.argv.pop(1))
        self.ready = True

    def predict(self, payload, headers=None):
        result = self.model.predict(payload.inputs[0].as_numpy())
        output = InferOutput("label", list(result.shape), "INT64", data=result.tolist())
        return InferResponse(payload.id or str(uuid.uuid4()), "bench", [output])

if __name__ == "__main__":
    ModelServer(workers=1, enable_grpc=False).start([Bench()])
"""


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name))


def _measure(place: Path) -> list[Row]:
    rows = []
    servers = {"Clew": _clew, "KServe Python server": _kserve, "MLServer": _mlserver}
    for connections in (1, 16):
        runs = [
            lambda start=start, c=connections: _throughput(start, place, c)
            for start in servers.values()
        ]
        ours, kserve, mlserver = paired(ROUNDS, *runs)
        for name, theirs in (("KServe Python server", kserve), ("MLServer", mlserver)):
            least = 5 if (connections, name) == (16, "KServe Python server") else 1
            rows.append(
                more_is_better(
                    f"predict_concurrency_{connections}",
                    ours,
                    "req/s",
                    name,
                    theirs,
                    rounds=ROUNDS,
                    bar=f"at least {least} times",
                    holds=lambda _, ratio, least=least: ratio >= least,
                )
            )
    return rows


def _throughput(start, place: Path, connections: int) -> float:
    with start(place) as (url, body):
        file = place / "body.json"
        file.write_bytes(body)
        _load(url, file, connections, WARM_S)
        found = _load(url, file, connections, SECONDS)
    if found["failed"]:
        raise RuntimeError(f"{url} failed {found['failed']} requests")
    return found["per_s"]


def _load(url: str, body: Path, connections: int, seconds: float) -> dict:
    command = [sys.executable, HERE.parent / "load.py", url, body, str(connections), str(seconds)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@contextlib.contextmanager
def _clew(place: Path):
    home = place / "clew"
    if not home.exists():
        _make_ours(home)
    with _process([CLEW, "server", "--port", "0", "--serving-port", "0"], home):
        note = home / ".clew" / "server.json"
        url = _until(lambda: json.loads(note.read_text())["serving_url"]) + "/v2/models/bench"
        inputs = _until(lambda: _get(url))["inputs"]
        _until(lambda: _get(f"{url}/ready"))
        yield f"{url}/infer", _body(inputs[0]["name"] if len(inputs) == 1 else "input")


def _make_ours(home: Path) -> None:
    home.mkdir()
    x, y = load_breast_cancer(return_X_y=True)
    frame = pl.DataFrame((x - x.mean(0)) / x.std(0), schema=[f"f{n}" for n in range(30)])
    frame.with_columns(y=pl.Series(y)).write_parquet(home / "rows.parquet")
    (home / "bench.py").write_text(OURS)
    for command in (
        ["init", "--bare"],
        ["apply", "bench.py"],
        ["put", "bench/rows", "rows.parquet"],
    ):
        subprocess.run([CLEW, *command], cwd=home, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def _kserve(place: Path):
    python, port = python_of("kserve"), _free_port()
    model = _joblib(python, place / "kserve.joblib")
    (place / "serve_kserve.py").write_text(KSERVE)
    command = [python, "serve_kserve.py", model, "--http_port", str(port)]
    with _process(command, place):
        url = f"http://127.0.0.1:{port}/v2/models/bench"
        _until(lambda: _get(f"{url}/ready"))
        yield f"{url}/infer", _body("input-0")


@contextlib.contextmanager
def _mlserver(place: Path):
    python, port = python_of("mlserver"), _free_port()
    home = place / "mlserver"
    home.mkdir(exist_ok=True)
    _joblib(python, home / "model.joblib")
    (home / "model-settings.json").write_text(
        json.dumps(
            {
                "name": "bench",
                "implementation": "mlserver_sklearn.SKLearnModel",
                "parameters": {"uri": "./model.joblib"},
            }
        )
    )
    settings = {"http_port": port, "grpc_port": _free_port(), "parallel_workers": 0,
                "metrics_port": _free_port(), "host": "127.0.0.1"}  # fmt: skip
    (home / "settings.json").write_text(json.dumps(settings))
    with _process([python.parent / "mlserver", "start", "."], home):
        url = f"http://127.0.0.1:{port}/v2/models/bench"
        _until(lambda: _get(f"{url}/ready"))
        yield f"{url}/infer", _body("input-0")


def _joblib(python: Path, file: Path) -> Path:
    if not file.exists():
        subprocess.run([python, "-c", MAKE, file], check=True)
    return file


def _body(name: str) -> bytes:
    tensor = {
        "name": name,
        "shape": [1, 30],
        "datatype": "FP64",
        "data": [n / 30 for n in range(30)],
    }
    return json.dumps({"inputs": [tensor]}).encode()


@contextlib.contextmanager
def _process(command: list, cwd: Path):
    with (cwd / "server.log").open("wb") as log:
        child = subprocess.Popen(
            [str(c) for c in command], cwd=cwd, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _get(url: str):
    with urllib.request.urlopen(url, timeout=5) as reply:
        text = reply.read()
        return json.loads(text) if text else True


def _until(ask, timeout_s: float = 90.0):
    end = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except (OSError, urllib.error.URLError, KeyError, ValueError) as error:
            if time.monotonic() > end:
                raise RuntimeError(f"not ready after {timeout_s} s") from error
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
