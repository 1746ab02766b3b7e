"""Logging over HTTP as training does it: hot calls of MLflow against stock `mlflow server`.

Both on SQLite, both as they start without options; each request has a step of its own, so that each
makes a row. Both run all the while, since a start takes longer than a measurement, and are asked in
turn. The client is raw asyncio streams in a process of its own (load that MLflow's client cannot
make: it spends milliseconds on a call). Stock MLflow starts four workers:
it is asked with one too. What stock MLflow fails to answer is printed and does not end the row (a
single worker runs out of database connections where the machine is slow); ours may fail nothing.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from measure import Row, more_is_better, paired
from serving_servers import CLEW, free_port, get, process, until

ROUNDS = 3
SECONDS = 2.0
WARM_S = 0.5
BARS = {
    "mlflow_log_metric": ("log-metric", 16, 8),
    "mlflow_log_metric_alone": ("log-metric", 1, 1),
    "mlflow_log_batch": ("log-batch", 16, 1),
}
"""The call of each row, over how many connections, and how many times stock MLflow is asked."""
CLIENT = Path(__file__).parents[1] / "mlflow_load.py"
MLFLOW = Path(sys.executable).parent / "mlflow"
OURS = "clew"
STOCK = "mlflow server"
PEERS = {STOCK: (), "mlflow server --workers 1": ("--workers", "1")}


def measure_rows() -> list[Row]:
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {OURS: stack.enter_context(_clew(place))}
        for peer, options in PEERS.items():
            urls[peer] = stack.enter_context(_stock(place, *options))
        return [row for name in BARS for row in _rows(name, urls)]


def _rows(name: str, urls: dict[str, str]) -> list[Row]:
    call, connections, least = BARS[name]
    asks = [partial(_throughput, whose, url, call, connections) for whose, url in urls.items()]
    ours, *theirs = paired(ROUNDS, *asks)
    return [
        more_is_better(
            name,
            ours,
            "req/s",
            peer,
            found,
            rounds=ROUNDS,
            bar=f"at least {least if peer == STOCK else 1} times",
            holds=lambda _, ratio, least=least if peer == STOCK else 1: ratio >= least,
        )
        for peer, found in zip(PEERS, theirs, strict=True)
    ]


def _throughput(whose: str, url: str, call: str, connections: int) -> float:
    command = [sys.executable, CLIENT, url, call, str(connections)]
    subprocess.run([*command, str(WARM_S)], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([*command, str(SECONDS)], check=True, stdout=subprocess.PIPE)
    figures = json.loads(done.stdout)
    if failed := figures["failed"]:
        told = f"{whose}, {call} over {connections}: failed {failed} ({figures['last'][0]})"
        if whose == OURS:
            raise RuntimeError(told)
        print(told)
    return figures["per_s"]


@contextlib.contextmanager
def _clew(place: Path):
    home = place / "clew"
    home.mkdir()
    subprocess.run([CLEW, "init", "--bare"], cwd=home, check=True, stdout=subprocess.DEVNULL)
    note = home / ".clew" / "server.json"
    command = [CLEW, "server", "--port", "0", "--serving-port", "0"]
    with process(command, home, pinned=False):
        url = until(lambda: json.loads(note.read_text())["url"])
        until(lambda: get(_list(url)))
        yield url


@contextlib.contextmanager
def _stock(place: Path, *options: str):
    home, port = place / "-".join(["stock", *options]), free_port()
    home.mkdir()
    store = f"sqlite:///{home / 'mlflow.db'}"
    command = [MLFLOW, "server", "--port", port, "--backend-store-uri", store, *options]
    with process(command, home, pinned=False):
        url = f"http://127.0.0.1:{port}"
        until(lambda: get(_list(url)))
        yield url


def _list(url: str) -> str:
    return f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
