"""An artifact of a gigabyte, by the real client: it comes back whole; no process grows by it."""

import hashlib
import os
import random
import subprocess
import sys
import threading

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MIB = 1 << 20
SIZE = 1 << 30
MOST_MIB = 384
"""So much may the server and what is below it grow together; half of that is usual."""

CLIENT = """
import json, sys
import mlflow
from pathlib import Path

def say(what):
    print(what, flush=True)
    sys.stdin.readline()

with mlflow.start_run() as run:
    mlflow.log_text("small", "warm.txt")
    mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="warm.txt")
    say(run.info.run_id)
    mlflow.log_artifact("large.bin", "files")
    say("up")
    Path("large.bin").unlink()
    mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="files/large.bin", dst_path="back")
    say("down")
"""


def write(path, size):
    """Random bytes, so that nothing is stored twice; their digest."""
    draw, digest = random.Random(7), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            block = draw.randbytes(MIB)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


class Peak:
    """The most memory that a server and what is below it have had together, in MiB."""

    def __init__(self, server):
        self._server = server
        self._ended = threading.Event()
        self.first_mib = self.most_mib = self._now()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _now(self):
        total = 0
        for process in self._server.family():
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / MIB

    def _look(self):
        while not self._ended.wait(0.02):
            self.most_mib = max(self.most_mib, self._now())

    def grown_mib(self):
        self._ended.set()
        self._thread.join()
        return self.most_mib - self.first_mib


def test_a_gigabyte_goes_up_and_down_in_bounded_memory(place):
    place.clew("init", "--bare", ".")
    server = place.server()
    digest = write(place.directory / "large.bin", SIZE)
    program = place.write("client.py", CLIENT)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "MLFLOW_"))}
    client = subprocess.Popen(
        [sys.executable, "-I", "-W", "ignore", program],
        cwd=place.directory,
        env=kept | {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    grown = {}
    with client:
        run = client.stdout.readline().strip()
        for way in ("up", "down"):
            peak = Peak(server)
            client.stdin.write("\n")
            client.stdin.flush()
            assert client.stdout.readline().strip() == way
            grown[way] = peak.grown_mib()
        client.stdin.write("\n")
        client.stdin.close()
        client.stdout.read()
    assert client.returncode == 0
    print(f"grown by {grown} MiB over {peak.first_mib:.0f}")
    back = next((place.directory / "back").rglob("large.bin"))
    with back.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    (kept,) = place.json("ls", f"mlflow:/0/{run}/artifacts/files")
    assert kept["size_bytes"] == SIZE
    assert max(grown.values()) < MOST_MIB
