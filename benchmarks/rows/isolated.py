"""The same model in the serving process, in a process of its own, and in an environment of its own.

A logistic regression of 30 floats that scikit-learn itself answers (`convert=False`), one row a
request. Three endpoints of one server, asked in turn: `isolate=False`, `isolate=True`, and a
training with `requirements=`, whose packages are the same versions as here, so that the way to the
process is all that differs. Not pinned: the process computes beside the serving process.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
from measure import Row, more_is_better, paired
from serving_servers import CLEW, body, get, post, process, until
from sklearn.datasets import load_breast_cancer

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = float(os.environ.get("SECONDS", "4"))
WARM_S = 1.0
CONCURRENCY = (1, 16, 64)
HERE = Path(__file__).parents[1]
PLACES = {"here": "in the serving process", "apart": "apart", "own": "own environment"}
PROJECT = """
import clew
import polars as pl

p = clew.Pipeline("bench")
rows = p.source("rows")

def fitted(data: pl.DataFrame):
    from sklearn.linear_model import LogisticRegression

    x, y = data.drop("y").to_numpy(), data["y"].to_numpy()
    return LogisticRegression(max_iter=2000).fit(x, y)

@p.train(rows, target="y", test=clew.holdout(0.2), convert=False)
def plain(data: pl.DataFrame, trial: clew.Trial):
    return fitted(data)

@p.train(rows, target="y", test=clew.holdout(0.2), convert=False, requirements=OWN)
def packaged(data: pl.DataFrame, trial: clew.Trial):
    return fitted(data)

p.endpoint("here", plain, isolate=False)
p.endpoint("apart", plain, isolate=True)
p.endpoint("own", packaged)
"""


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        _make(home)
        command = [CLEW, "server", "--port", "0", "--serving-port", "0"]
        with process(command, home, pinned=False) as server:
            return _rows(_ready(home, server.pid), home)


def _rows(url: str, home: Path) -> list[Row]:
    rows = []
    for connections in CONCURRENCY:
        runs = [
            lambda name=name, c=connections: _throughput(f"{url}/{name}", home, c)
            for name in PLACES
        ]
        here, *others = paired(ROUNDS, *runs)
        for name, found in zip(list(PLACES)[1:], others, strict=True):
            rows.append(
                more_is_better(
                    f"isolated_{name}_concurrency_{connections}", found, "req/s", PLACES["here"],
                    here, rounds=ROUNDS, bar="reported", holds=lambda *_: True,
                )
            )  # fmt: skip
    return rows


def _make(home: Path) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    frame = pl.DataFrame((x - x.mean(0)) / x.std(0), schema=[f"f{n}" for n in range(30)])
    frame.with_columns(y=pl.Series(y)).write_parquet(home / "rows.parquet")
    names = ("scikit-learn", "numpy", "scipy")
    own = [f"{name}=={importlib.metadata.version(name)}" for name in names]
    (home / "bench.py").write_text(PROJECT.replace("OWN", repr(own)))
    for command in (
        ["init", "--bare"],
        ["apply", "bench.py"],
        ["put", "bench/rows", "rows.parquet"],
    ):
        subprocess.run([CLEW, *command], cwd=home, check=True, stdout=subprocess.DEVNULL)


def _ready(home: Path, pid: int) -> str:
    """Where the three answer."""
    note = home / ".clew" / "server.json"

    def serving() -> str:
        told = json.loads(note.read_text())
        if told["pid"] != pid:
            raise OSError("that is the note of another server")
        return f"{told['serving_url']}/v2/models"

    url = until(serving)
    for name in PLACES:  # its environment may have to be built first
        until(lambda name=name: get(f"{url}/{name}/ready"), timeout_s=600)
    return url


def _throughput(url: str, place: Path, connections: int) -> float:
    inputs = get(url)["inputs"]
    content = body(inputs[0]["name"] if len(inputs) == 1 else "input")
    post(f"{url}/infer", content)
    file = place / "body.json"
    file.write_bytes(content)
    _load(f"{url}/infer", file, connections, WARM_S)
    found = _load(f"{url}/infer", file, connections, SECONDS)
    if found["failed"]:
        raise RuntimeError(f"{url} failed {found['failed']} requests")
    print(
        f"  {url.rpartition('/')[2]} {connections}: {found['per_s']:,.0f}/s, "
        f"p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms", flush=True,
    )  # fmt: skip
    return float(found["per_s"])


def _load(url: str, file: Path, connections: int, seconds: float) -> dict:
    command = [sys.executable, HERE / "load.py", url, file, str(connections), str(seconds)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
