"""Logging over HTTP as training does it: hot calls of MLflow against stock `mlflow server`.

Both on SQLite, both as they start without options; each request has a step of its own, so that each
makes a row. The servers run one at a time, in turn, and answer both calls while they run: a start
takes longer than a measurement. The client is raw asyncio streams in a process of its own (load
that MLflow's client cannot make: it spends milliseconds on a call).
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from measure import Row, more_is_better

from rows.predict import CLEW, _free_port, _get, _process, _until

ROUNDS = 3
SECONDS = 4.0
WARM_S = 1.0
CONNECTIONS = 16
BARS = {"log-metric": 8, "log-batch": 1}
"""How many times the requests of stock MLflow are asked of each call."""
CLIENT = Path(__file__).parents[1] / "mlflow_load.py"
STOCK = Path(sys.executable).parent / "mlflow"


def measure_rows() -> list[Row]:
    figures = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        for _ in range(ROUNDS):
            for start in (_clew, _stock):
                with start(Path(name)) as url:
                    for call in BARS:
                        figures[start, call].append(_throughput(url, call))
    return [
        more_is_better(
            f"mlflow_{call.replace('-', '_')}",
            statistics.median(figures[_clew, call]),
            "req/s",
            "mlflow server",
            statistics.median(figures[_stock, call]),
            rounds=ROUNDS,
            bar=f"at least {least} times",
            holds=lambda _, ratio, least=least: ratio >= least,
        )
        for call, least in BARS.items()
    ]


def _throughput(url: str, call: str) -> float:
    command = [sys.executable, CLIENT, url, call, str(CONNECTIONS)]
    subprocess.run([*command, str(WARM_S)], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([*command, str(SECONDS)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


@contextlib.contextmanager
def _clew(place: Path):
    home = place / "clew"
    if not home.exists():
        home.mkdir()
        subprocess.run([CLEW, "init", "--bare"], cwd=home, check=True, stdout=subprocess.DEVNULL)
    note = home / ".clew" / "server.json"
    with _process([CLEW, "server", "--port", "0", "--serving-port", "0"], home):
        url = _until(lambda: json.loads(note.read_text())["url"])
        _until(lambda: _get(_list(url)))
        yield url


@contextlib.contextmanager
def _stock(place: Path):
    home, port = place / "stock", _free_port()
    home.mkdir(exist_ok=True)
    store = f"sqlite:///{home / 'mlflow.db'}"
    with _process([STOCK, "server", "--port", port, "--backend-store-uri", store], home):
        url = f"http://127.0.0.1:{port}"
        _until(lambda: _get(_list(url)))
        yield url


def _list(url: str) -> str:
    return f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
