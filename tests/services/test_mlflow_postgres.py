"""MLflow inside a workspace whose rows are in PostgreSQL: a client sees what it sees with MLflow's
own server on PostgreSQL, what is logged at once is written once, and a kill loses nothing of it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1200)

FLOWS = Path(__file__).parents[1] / "journeys" / "projects" / "mlflow"
NAMES = ["runs", "search", "datasets", "registry", "traces", "prompts", "evaluations"]
CLEW = [sys.executable, "-P", "-m", "clew.cli"]


@pytest.fixture(scope="module")
def sides():
    """How stock MLflow and flows are started."""
    spec = importlib.util.spec_from_file_location("mlflow_sides", FLOWS / "sides.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def workspace(postgres, tmp_path_factory):
    """A directory with a workspace on PostgreSQL."""
    place = tmp_path_factory.mktemp("here")
    command = [*CLEW, "init", "--bare", "--db", postgres.schema(str(place)), "."]
    subprocess.run(command, cwd=place, env=environ(), check=True)
    return place


def environ():
    return {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "MLFLOW_"))}


@contextmanager
def served(place, *, end=subprocess.Popen.terminate):
    """A `clew server` on a workspace; its URL."""
    process = subprocess.Popen(
        [*CLEW, "server", "--port", "0", "--serving-port", "0"],
        cwd=place,
        env=environ(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        yield json.loads((place / ".clew" / "server.json").read_text())["url"]
    finally:
        end(process)
        process.stdout.read()
        process.wait(60)
        process.stdout.close()


def post(url, call, body):
    address = f"{url}/api/2.0/mlflow/{call}"
    head = {"Content-Type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(address, json.dumps(body).encode(), head)
    ) as answer:
        return json.load(answer)


def test_a_client_sees_what_it_sees_with_mlflow_on_postgresql(sides, workspace, postgres, tmp_path):
    postgres.execute("CREATE DATABASE stock", database="postgres")
    rows = postgres.url.removesuffix("/clew") + "/stock"
    rows = rows.replace("postgresql://", "postgresql+psycopg://")
    with sides.stock(tmp_path / "stock", rows) as url:
        theirs = sides.flows(url, tmp_path / "theirs", NAMES)
    with served(workspace) as url:
        ours = sides.flows(url, tmp_path / "ours", NAMES)
    for name in NAMES:
        assert theirs[name]["the end"] is None
        assert ours[name] == theirs[name]
    assert not list((workspace / ".clew").glob("mlflow.db*")), "no rows are beside the others"


def test_what_was_acknowledged_is_there_once_after_a_kill(workspace):
    known, run = set(), ""
    for _ in range(3):
        with served(workspace, end=subprocess.Popen.kill) as url:
            run = run or post(url, "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]

            def log(first, url=url, run=run):
                body = {"run_id": run, "key": "loss", "timestamp": 1}
                for step in range(first, first + 100, 4):
                    post(url, "runs/log-metric", body | {"step": step, "value": step})
                    known.add(step)

            threads = [threading.Thread(target=log, args=(len(known) + n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    with served(workspace) as url:
        query = f"run_id={run}&metric_key=loss"
        address = f"{url}/api/2.0/mlflow/metrics/get-history?{query}"
        with urllib.request.urlopen(address) as answer:
            found = [one["step"] for one in json.load(answer)["metrics"]]
    assert sorted(found) == sorted(known)
    assert len(known) == 300
