"""Single-row predict over gRPC: requests a second and latencies, against the peers that speak it.

The same models, row and placement as the row `serving`: one core for the server, everything of
Clew switched on. The load is the same bytes for all (`grpc_load.py`): one row of 30 FP64 in
`raw_input_contents`, as tritonclient and kserve send it, on 4 connections.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, more_is_better
from peers import python_of
from serving_servers import CORE, KSERVE, free_port, joblib_of, process, script_at, started, until

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = float(os.environ.get("SECONDS", "3"))
WARM_S = 1.0
CONCURRENCY = (1, 16, 64)
MODELS = tuple(os.environ.get("MODELS", "lr,forest").split(","))
OURS = "Clew"
HERE = Path(__file__).parents[1]


@contextlib.contextmanager
def clew(place: Path, model: str):
    port = free_port()
    with started(place, model, "--grpc-port", str(port)) as (url, content):
        name = json.loads(content)["inputs"][0]["name"]
        assert url
        yield f"127.0.0.1:{port}", model, name


@contextlib.contextmanager
def kserve(place: Path, model: str):
    python, port = python_of("kserve"), free_port()
    text = KSERVE.replace("enable_grpc=False", "enable_grpc=True")
    command = [python, script_at(place, "kserve_grpc", text), joblib_of(python, place, model),
               "--http_port", free_port(), "--grpc_port", port]  # fmt: skip
    with process(command, place):
        yield f"127.0.0.1:{port}", "bench", "input-0"


@contextlib.contextmanager
def mlserver(place: Path, model: str):
    python, port = python_of("mlserver"), free_port()
    home = place / f"mlserver-grpc-{model}"
    home.mkdir(exist_ok=True)
    uri = str(joblib_of(python, place, model))
    about = {"name": "bench", "implementation": "mlserver_sklearn.SKLearnModel",
             "parameters": {"uri": uri}}  # fmt: skip
    (home / "model-settings.json").write_text(json.dumps(about))
    settings = {"http_port": free_port(), "grpc_port": port, "parallel_workers": 0,
                "metrics_port": free_port(), "host": "127.0.0.1"}  # fmt: skip
    (home / "settings.json").write_text(json.dumps(settings))
    with process([python.parent / "mlserver", "start", "."], home):
        yield f"127.0.0.1:{port}", "bench", "input-0"


SERVERS = {OURS: clew, "KServe Python server": kserve, "MLServer": mlserver}


def measure_rows() -> list[Row]:
    wanted = os.environ.get("SERVING")
    servers = {name: SERVERS[name] for name in wanted.split(",")} if wanted else SERVERS
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        return [row for model in MODELS for row in _measure(place, model, servers)]


def _measure(place: Path, model: str, servers: dict) -> list[Row]:
    found: dict[tuple[str, int], list[dict]] = {}
    for round_number in range(ROUNDS):
        for name, start in servers.items():
            with start(place, model) as asked:
                until(lambda asked=asked: _load(*asked, 1, 0.2))
                for concurrency in CONCURRENCY:
                    _load(*asked, concurrency, WARM_S)
                    figures = _load(*asked, concurrency, SECONDS)
                    found.setdefault((name, concurrency), []).append(figures)
                    print(f"  {model} {name} × {concurrency}, round {round_number + 1}: "
                          f"{figures['per_s']:,.0f}/s p50 {figures['p50_ms']:.3f} ms "
                          f"p99 {figures['p99_ms']:.3f} ms", flush=True)  # fmt: skip
    medians = {
        key: statistics.median(one["per_s"] for one in values) for key, values in found.items()
    }
    return [
        more_is_better(
            f"serve_grpc_{model}_{concurrency}",
            medians[OURS, concurrency],
            "req/s",
            peer,
            medians[peer, concurrency],
            rounds=ROUNDS,
            bar="at least as fast",
            holds=lambda _, ratio: ratio >= 1,
        )
        for concurrency in CONCURRENCY
        for peer in servers
        if peer != OURS and OURS in servers
    ]


def _load(address: str, model: str, name: str, concurrency: int, seconds: float) -> dict:
    cores = sorted(set(range(os.cpu_count() or 1)) - {int(CORE)}) or [0]
    command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, HERE / "grpc_load.py",
               address, model, name, concurrency, seconds]  # fmt: skip
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr[-300:])
    found = json.loads(done.stdout)
    if found["failed"]:
        raise OSError(f"{address} failed {found['failed']} requests")
    return found
