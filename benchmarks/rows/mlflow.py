"""Logging over HTTP as training does it: hot calls of MLflow against stock `mlflow server`.

Both on SQLite, both as they start without options; each request has a step of its own, so that each
makes a row. The servers run one at a time, in turn; the client is raw asyncio streams in a process
of its own (load that MLflow's client cannot make: it spends milliseconds on a call).
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Row, more_is_better, paired

from rows.predict import CLEW, _free_port, _get, _process, _until

ROUNDS = 3
SECONDS = 4.0
WARM_S = 1.0
CONNECTIONS = 16
CLIENT = Path(__file__).parents[1] / "mlflow_load.py"
STOCK = Path(sys.executable).parent / "mlflow"


def measure_rows() -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for call, least in (("log-metric", 8), ("log-batch", 1)):
            ours, theirs = paired(
                ROUNDS,
                lambda call=call: _throughput(_clew, Path(name), call),
                lambda call=call: _throughput(_stock, Path(name), call),
            )
            rows.append(
                more_is_better(
                    f"mlflow_{call.replace('-', '_')}",
                    ours,
                    "req/s",
                    "mlflow server",
                    theirs,
                    rounds=ROUNDS,
                    bar=f"at least {least} times",
                    holds=lambda _, ratio, least=least: ratio >= least,
                )
            )
    return rows


def _throughput(start, place: Path, call: str) -> float:
    with start(place) as url:
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
