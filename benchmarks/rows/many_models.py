"""100 models in one server: what each takes in memory, and how soon the first answers come.

100 endpoints, each with a logistic regression of its own in memory (30 floats, in its ONNX form).
Once with all of them held, once with room for 10 (`--max-models 10`), where the others are loaded
when they are asked for.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import polars as pl
import psutil
from measure import Row, less_is_better
from serving_servers import CLEW, OURS, body, get, post, process, until
from sklearn.datasets import load_breast_cancer

ROUNDS = int(os.environ.get("ROUNDS", "3"))
COUNT = int(os.environ.get("COUNT", "100"))
ROOM = 10
PROJECT = OURS[: OURS.index("@p.train(rows", OURS.index("@p.train(rows") + 1)]


def measure_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        _make(home)
        rounds = [(_round(home), _round(home, "--max-models", str(ROOM))) for _ in range(ROUNDS)]
    all_held, few_held = (
        {key: statistics.median(each[at][key] for each in rounds) for key in rounds[0][0]}
        for at in (0, 1)
    )
    per_model = (all_held["mb"] - few_held["one_mb"]) / (COUNT - 1)
    against = f"--max-models {ROOM}"
    return [
        less_is_better(
            "many_models_memory", per_model, "MB/m", "10 MB for a model", 10.0,
            rounds=ROUNDS, bar="reported", holds=lambda *_: True,
        ),
        less_is_better(
            "many_models_held", few_held["mb"], "MB", "all 100 held", all_held["mb"],
            rounds=ROUNDS, bar="less", holds=lambda _, ratio: ratio > 1,
        ),
        less_is_better(
            "many_models_start", few_held["start_s"], "s", "all 100 held", all_held["start_s"],
            rounds=ROUNDS, bar="sooner", holds=lambda _, ratio: ratio > 1,
        ),
        less_is_better(
            "many_models_wake", few_held["first_ms"], "ms", "held: first answer",
            all_held["first_ms"], rounds=ROUNDS, bar="reported", holds=lambda *_: True,
        ),
        less_is_better(
            "many_models_warm", few_held["again_ms"], "ms", f"held, without {against}",
            all_held["again_ms"], rounds=ROUNDS, bar="reported", holds=lambda *_: True,
        ),
    ]  # fmt: skip


def _make(home: Path) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    frame = pl.DataFrame((x - x.mean(0)) / x.std(0), schema=[f"f{n}" for n in range(30)])
    frame.with_columns(y=pl.Series(y)).write_parquet(home / "rows.parquet")
    endpoints = f"for at in range({COUNT}):\n    p.endpoint(f'm{{at}}', lr)\n"
    (home / "bench.py").write_text(PROJECT + endpoints)
    for command in (
        ["init", "--bare"],
        ["apply", "bench.py"],
        ["put", "bench/rows", "rows.parquet"],
    ):
        subprocess.run([CLEW, *command], cwd=home, check=True, stdout=subprocess.DEVNULL)
    with _served(home, "--max-models", str(ROOM)) as url:  # everything is trained and deployed
        until(lambda: _ready(url), timeout_s=600)


def _ready(url: str) -> None:
    found = get(f"{url}/v2/health/ready")
    index = json.loads(post(f"{url}/v2/repository/index", b"{}"))
    if found is None or sum(each["version"] != "" for each in index) < COUNT:
        raise OSError("not all are there")


def _served(home: Path, *more: str):
    command = [CLEW, "server", "--port", "0", "--serving-port", "0", *more]
    return _Server(home, command)


class _Server:
    """A server with its serving process; its URL comes from the note beside the workspace."""

    def __init__(self, home: Path, command: list):
        self.home, self.process = home, process(command, home, pinned=False)

    def __enter__(self) -> str:
        self.child = self.process.__enter__()
        note = self.home / ".clew" / "server.json"
        return until(lambda: self._url(note))

    def _url(self, note: Path) -> str:
        told = json.loads(note.read_text())
        if told["pid"] != self.child.pid:
            raise OSError("that is the note of another server")
        return told["serving_url"]

    def __exit__(self, *given) -> None:
        self.process.__exit__(*given)

    def mb(self) -> float:
        """Resident memory of the serving process."""
        serving = next(
            each for each in psutil.Process(self.child.pid).children(recursive=True)
            if "clew.serving.process" in each.cmdline()
        )  # fmt: skip
        return serving.memory_info().rss / 1e6


def _round(home: Path, *more: str) -> dict[str, float]:
    begun = time.perf_counter()
    server = _served(home, *more)
    with server as url:
        first, again = [], []
        asked = None
        for at in range(COUNT):
            place = f"{url}/v2/models/m{at}"
            if asked is None:
                inputs = until(lambda place=place: get(place))["inputs"]
                asked = body(inputs[0]["name"] if len(inputs) == 1 else "input")
            began = time.perf_counter()
            until(lambda place=place, asked=asked: post(f"{place}/infer", asked))
            took_ms = (time.perf_counter() - began) * 1e3
            if at == 0:
                start_s, one_mb = time.perf_counter() - begun, server.mb()
            else:
                first.append(took_ms)
            began = time.perf_counter()
            post(f"{place}/infer", asked)
            again.append((time.perf_counter() - began) * 1e3)
        mb = server.mb()
    found = {
        "start_s": start_s, "first_ms": statistics.median(first), "mb": mb,
        "again_ms": statistics.median(again), "one_mb": one_mb,
    }  # fmt: skip
    print(f"  {' '.join(more) or 'all held'}: {found}", flush=True)
    return found
