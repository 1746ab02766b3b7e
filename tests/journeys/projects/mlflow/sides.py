"""Servers that MLflow's client is asked to tell apart: stock `mlflow server`, and `clew server`.

Knows how they are started and how flows are run against one; nothing of what is compared.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

RUNNER = Path(__file__).with_name("runner.py")
START_S = 120.0
FLOWS_S = 600.0


def environ(**more):
    """What is in the environment but for settings of Clew and MLflow."""
    ours = ("CLEW_", "MLFLOW_", "PYTHON", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"} | more


@contextmanager
def stock(place, store=""):
    """MLflow's own server on a store of rows (SQLite in ``place``); its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place.mkdir(parents=True, exist_ok=True)
    rows = store or f"sqlite:///{place / 'mlflow.db'}"
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--port", port, "--workers", "1"]
    with (place / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--backend-store-uri", rows],
            cwd=place,
            env=environ(),
            stdout=log,
            stderr=log,
        )
    try:
        _answers(process, f"http://127.0.0.1:{port}/health", place / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def flows(url, place, names, python=sys.executable):
    """What flows saw at a server, by their names; ``python`` has the client."""
    place.mkdir(parents=True, exist_ok=True)
    out = place / "seen.json"
    path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        [python, "-I", "-W", "ignore", RUNNER, out, *names],
        cwd=place,
        env=environ(  # an MLproject of the client says `python`
            MLFLOW_TRACKING_URI=url, MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false", PATH=path
        ),
        capture_output=True,
        text=True,
        timeout=FLOWS_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


def _answers(process, url, log):
    end = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, f"no answer: {log.read_text()}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
