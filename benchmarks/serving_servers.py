"""The servers of the serving row: ours, peers as their own documents start them, and two limits.

Each gives (url, body) of a request with one row of 30 floats, and answers with a label at least.
Each has one serving process on one core; peers run in environments of their own (``peers.py``).
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import polars as pl
import psutil
from peers import python_of
from sklearn.datasets import load_breast_cancer

HERE = Path(__file__).parent
CLEW = Path(os.environ.get("CLEW_COMMAND", HERE.parent / ".venv" / "bin" / "clew"))
CORE = "0"
ROW = [n / 30 for n in range(30)]

OURS = """
import polars as pl
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import clew

p = clew.Pipeline("bench")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.2))
def lr(data: pl.DataFrame, trial: clew.Trial):
    return LogisticRegression(max_iter=2000).fit(data.drop("y").to_numpy(), data["y"].to_numpy())

@p.train(rows, target="y", test=clew.holdout(0.2))
def forest(data: pl.DataFrame, trial: clew.Trial):
    model = RandomForestClassifier(n_estimators=100, random_state=0)
    return model.fit(data.drop("y").to_numpy(), data["y"].to_numpy())

@p.train(rows, target="y", test=clew.holdout(0.2), convert=False)
def original(data: pl.DataFrame, trial: clew.Trial):
    model = RandomForestClassifier(n_estimators=600, random_state=0)
    return model.fit(data.drop("y").to_numpy(), data["y"].to_numpy())

@p.train(rows, target="y", test=clew.holdout(0.2), convert=False)
def heavy(data: pl.DataFrame, trial: clew.Trial):
    model = RandomForestClassifier(n_estimators=2400, random_state=0)
    return model.fit(data.drop("y").to_numpy(), data["y"].to_numpy())

p.endpoint("lr", lr)
p.endpoint("heavy", heavy, isolate=False)
p.endpoint("original", original, isolate=False)
p.endpoint("forest", forest)
"""

MAKE = """
import sys
import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
x, y = load_breast_cancer(return_X_y=True)
lr = LogisticRegression(max_iter=2000)
model = lr if sys.argv[2] == "lr" else RandomForestClassifier(n_estimators=100, random_state=0)
joblib.dump(model.fit((x - x.mean(0)) / x.std(0), y), sys.argv[1])
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

BENTO = """
import os
import bentoml
import joblib
import numpy as np

@bentoml.service(workers=1)
class Bench:
    def __init__(self):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[int]:
        return self.model.predict(np.asarray(rows)).tolist()
"""

LITSERVE = """
import sys
import joblib
import litserve
import numpy as np

class Bench(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(sys.argv[1])

    def decode_request(self, request):
        return np.asarray(request["rows"])

    def predict(self, rows):
        return self.model.predict(rows)

    def encode_response(self, output):
        return {"label": np.asarray(output).tolist()}

class Batched(Bench):
    def decode_request(self, request):
        return np.asarray(request["rows"][0])

    def encode_response(self, output):
        return {"label": int(output)}

if __name__ == "__main__":
    most = int(sys.argv[3])
    api = Batched(max_batch_size=most, batch_timeout=0.001) if most > 1 else Bench()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[2]), host="127.0.0.1", num_api_servers=1,
               generate_client_file=False, log_level="warning", access_log=False)
"""

RAY = """
import sys
import time
import joblib
import numpy as np
import ray
from ray import serve
from starlette.requests import Request

@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
class Bench:
    def __init__(self, path):
        self.model = joblib.load(path)

    async def __call__(self, request: Request):
        rows = (await request.json())["rows"]
        return {"label": self.model.predict(np.asarray(rows)).tolist()}

if __name__ == "__main__":
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Bench.bind(sys.argv[1]), route_prefix="/predict")
    while True:
        time.sleep(1)
"""

MLFLOW = """
import sys
import joblib
import mlflow
mlflow.sklearn.save_model(joblib.load(sys.argv[1]), sys.argv[2], serialization_format="cloudpickle")
"""

GRAPH = """
import sys
import joblib
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
model = joblib.load(sys.argv[1])
options = {id(model): {"zipmap": False}}
made = to_onnx(model, initial_types=[("x", FloatTensorType([None, 30]))], options=options)
open(sys.argv[2], "wb").write(made.SerializeToString())
"""

BARE = """
import sys
import numpy as np
import onnxruntime as ort
import orjson
import uvicorn

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    tensor = orjson.loads(body)["inputs"][0]
    x = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
    label, scores = session.run(None, {"x": x})
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [1], "data": label.tolist()},
        {"name": "probability", "datatype": "FP32", "shape": [1], "data": scores[:, 1].tolist()},
    ]
    answer = orjson.dumps({"model_name": "bench", "outputs": outputs})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), loop="uvloop", http="httptools",
                access_log=False, log_level="warning")
"""

FLOOR = """
import asyncio
import sys
import httptools
import numpy as np
import onnxruntime as ort
import orjson
import uvloop

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

class Client(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_message_begin(self):
        self.body = b""

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        tensor = orjson.loads(self.body)["inputs"][0]
        x = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
        label, scores = session.run(None, {"x": x})
        answer = orjson.dumps({"label": label.tolist(), "probability": scores[:, 1].tolist()})
        self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\n"
                             b"content-length: %d\\r\\n\\r\\n" % len(answer) + answer)

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Client, "127.0.0.1", int(sys.argv[2]), backlog=4096)
    await server.serve_forever()

if __name__ == "__main__":
    uvloop.run(main())
"""


def ours(place: Path, model: str):
    return started(place, model)


@contextlib.contextmanager
def started(place: Path, model: str, *more: str):
    """A `clew server` with these options too."""
    home = place / "clew"
    if not home.exists():
        make_ours(home)
    command = [CLEW, "server", "--port", "0", "--serving-port", "0", *more]
    with process(command, home, pinned=False) as server:
        note = home / ".clew" / "server.json"
        url = until(lambda: json.loads(note.read_text())["serving_url"]) + f"/v2/models/{model}"
        inputs = until(lambda: get(url))["inputs"]
        until(lambda: get(f"{url}/ready"))
        pin(server.pid)
        yield f"{url}/infer", body(inputs[0]["name"] if len(inputs) == 1 else "input")


def pin(server: int) -> None:
    """The serving process has its core for itself; the engine, which no peer has, the others."""
    rest = sorted(set(range(os.cpu_count() or 1)) - {int(CORE)}) or [int(CORE)]
    whole = psutil.Process(server)
    for one in [whole, *whole.children(recursive=True)]:
        serves = "clew.serving.process" in one.cmdline()
        for thread in one.threads():
            os.sched_setaffinity(thread.id, {int(CORE)} if serves else rest)


def make_ours(home: Path) -> None:
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
def kserve(place: Path, model: str):
    python, port = python_of("kserve"), free_port()
    command = [python, script_at(place, "kserve", KSERVE), joblib_of(python, place, model),
               "--http_port", port]  # fmt: skip
    with process(command, place):
        url = f"http://127.0.0.1:{port}/v2/models/bench"
        until(lambda: get(f"{url}/ready"))
        yield f"{url}/infer", body("input-0")


@contextlib.contextmanager
def mlserver(place: Path, model: str):
    python, port = python_of("mlserver"), free_port()
    home = place / f"mlserver-{model}"
    home.mkdir(exist_ok=True)
    uri = str(joblib_of(python, place, model))
    about = {"name": "bench", "implementation": "mlserver_sklearn.SKLearnModel",
             "parameters": {"uri": uri}}  # fmt: skip
    (home / "model-settings.json").write_text(json.dumps(about))
    settings = {"http_port": port, "grpc_port": free_port(), "parallel_workers": 0,
                "metrics_port": free_port(), "host": "127.0.0.1"}  # fmt: skip
    (home / "settings.json").write_text(json.dumps(settings))
    with process([python.parent / "mlserver", "start", "."], home):
        url = f"http://127.0.0.1:{port}/v2/models/bench"
        until(lambda: get(f"{url}/ready"))
        yield f"{url}/infer", body("input-0")


@contextlib.contextmanager
def bentoml(place: Path, model: str):
    python, port = python_of("bentoml"), free_port()
    script = script_at(place, "bento", BENTO)
    more = {"BENCH_MODEL": str(joblib_of(python, place, model)), "BENTOML_DO_NOT_TRACK": "1"}
    command = [python, "-m", "bentoml", "serve", f"{script.stem}:Bench", "--port", port,
               "--host", "127.0.0.1"]  # fmt: skip
    with process(command, place, more):
        url = f"http://127.0.0.1:{port}"
        until(lambda: get(f"{url}/readyz"))
        yield f"{url}/predict", rows_body()


def litserve(batch: int):
    @contextlib.contextmanager
    def start(place: Path, model: str):
        python, port = python_of("litserve"), free_port()
        command = [python, script_at(place, "litserve", LITSERVE), joblib_of(python, place, model),
                   port, batch]  # fmt: skip
        with process(command, place):
            url = f"http://127.0.0.1:{port}"
            until(lambda: get(f"{url}/health"))
            yield f"{url}/predict", rows_body()

    return start


@contextlib.contextmanager
def rayserve(place: Path, model: str):
    python, port = python_of("rayserve"), free_port()
    command = [python, script_at(place, "ray", RAY), joblib_of(python, place, model), port]
    with process(command, place, {"RAY_USAGE_STATS_ENABLED": "0"}):
        url = f"http://127.0.0.1:{port}"
        until(lambda: get(f"{url}/-/healthz"))
        until(lambda: post(f"{url}/predict", rows_body()))
        yield f"{url}/predict", rows_body()


@contextlib.contextmanager
def mlflow(place: Path, model: str):
    python, port = python_of("mlflow"), free_port()
    saved = place / f"mlflow-{model}"
    if not saved.exists():
        command = [python, script_at(place, "save_mlflow", MLFLOW), joblib_of(python, place, model)]
        subprocess.run([*command, saved], check=True, capture_output=True)
    command = [python, "-m", "mlflow", "models", "serve", "-m", saved, "--env-manager", "local",
               "-p", port, "-w", "1"]  # fmt: skip
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    with process(command, place, {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}):
        url = f"http://127.0.0.1:{port}"
        until(lambda: get(f"{url}/health"))
        yield f"{url}/invocations", json.dumps({"inputs": [ROW]}).encode()


def limit(name: str, script: str):
    """A server without any of what ours does, with ONNX Runtime in our own environment."""

    @contextlib.contextmanager
    def start(place: Path, model: str):
        python, port = Path(sys.executable), free_port()
        graph = place / f"{model}.onnx"
        if not graph.exists():
            made = joblib_of(python, place, model)
            subprocess.run([python, script_at(place, "graph", GRAPH), made, graph], check=True)
        with process([python, script_at(place, name, script), graph, port], place):
            url = f"http://127.0.0.1:{port}/v2/models/bench/infer"
            until(lambda: post(url, body("x")))
            yield url, body("x")

    return start


PEERS = {
    "KServe Python server": kserve,
    "MLServer": mlserver,
    "BentoML": bentoml,
    "LitServe": litserve(1),
    "LitServe, batching": litserve(64),
    "Ray Serve": rayserve,
    "MLflow": mlflow,
}
LIMITS = {
    "bare ASGI + ONNX Runtime": limit("bare", BARE),
    "bare asyncio + httptools": limit("floor", FLOOR),
}


def script_at(place: Path, name: str, text: str) -> Path:
    file = place / f"serve_{name}.py"
    file.write_text(text)
    return file


def joblib_of(python: Path, place: Path, model: str) -> Path:
    file = place / f"{python.parent.parent.name}-{model}.joblib"
    if not file.exists():
        subprocess.run([python, "-c", MAKE, file, model], check=True)
    return file


def body(name: str) -> bytes:
    """A request of the Open Inference Protocol."""
    tensor = {"name": name, "shape": [1, 30], "datatype": "FP64", "data": ROW}
    return json.dumps({"inputs": [tensor]}).encode()


def rows_body() -> bytes:
    """The same row for servers with a protocol of their own."""
    return json.dumps({"rows": [ROW]}).encode()


@contextlib.contextmanager
def process(command: list, cwd: Path, more: dict[str, str] | None = None, *, pinned: bool = True):
    """A server with all its processes on one core, one thread in each model."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    pin = ["taskset", "-c", CORE] if pinned else []
    whole = [*pin, *(str(part) for part in command)]
    with (cwd / "server.log").open("wb") as log:
        child = subprocess.Popen(
            whole, cwd=cwd, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **threads, **(more or {})},
        )  # fmt: skip
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def get(url: str):
    """What is at an address, read as JSON where it is."""
    with urllib.request.urlopen(url, timeout=5) as reply:
        text = reply.read()
    try:
        return json.loads(text) if text else True
    except ValueError:
        return True


def post(url: str, content: bytes):
    """The answer to a request."""
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=30) as reply:
        return reply.read()


def until(ask, timeout_s: float = 90.0):
    """What ``ask`` gives, when it gives something."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except (OSError, urllib.error.URLError, KeyError, ValueError) as error:
            if time.monotonic() > end:
                raise RuntimeError(f"not ready after {timeout_s} s") from error
            time.sleep(0.1)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
