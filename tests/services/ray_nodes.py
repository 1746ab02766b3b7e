"""Real Ray nodes on this machine: a head and others, each a process tree that can be killed."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import clew

START_S = 120


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Node:
    """One node: what `ray start --block` started, with all below it."""

    def __init__(self, cluster, name, arguments, resources="{}"):
        self.name = name
        self.resources = resources
        self.log = cluster.directory / f"{name}-{secrets.token_hex(2)}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=cluster.environment | {"NODE": name},
                start_new_session=True,
            )
        self._up()

    def _up(self):
        until = time.monotonic() + START_S
        while b"Ray runtime started" not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(self.log.read_text()[-2000:])
            time.sleep(0.05)

    def processes(self):
        """All of the node, actors and what they started too."""
        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self):
        """kill -9 of every process of the node, as when its machine loses power."""
        found = self.processes()
        for process in found:
            try:
                process.send_signal(signal.SIGSTOP)  # nobody says good-bye
            except psutil.NoSuchProcess:
                continue
        for process in [*found, *self.processes()]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        psutil.wait_procs(found, timeout=30)

    def stop(self):
        """End it as `ray stop` would, but this one alone."""
        found = self.processes()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for process in psutil.wait_procs(found, timeout=10)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
                process.kill()
        self.process.wait()


class Cluster:
    """A head without cores for work and as many nodes as are added, all on this machine."""

    def __init__(self):
        # short: Ray puts Unix sockets below it
        self._temporary = tempfile.TemporaryDirectory(prefix="cr-", ignore_cleanup_errors=True)
        self.directory = Path(self._temporary.name)
        source = str(Path(clew.__file__).parents[1])
        self.token = secrets.token_hex(32)
        self.variables = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_health_check_initial_delay_ms": "0",
        }
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "CLEW_"))}
        self.environment = plain | self.variables | {"PYTHONPATH": source}
        self.port, self.client_port = _free_port(), _free_port()
        self.nodes = []
        self.head = Node(
            self,
            "head",
            [
                "--head", f"--port={self.port}", f"--ray-client-server-port={self.client_port}",
                "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self.directory}/h",
                "--object-store-memory=150000000",
            ],
        )  # fmt: skip

    @property
    def address(self):
        """As a driver on one of the nodes names it."""
        return f"ray+gcs://127.0.0.1:{self.port}"

    @property
    def client_address(self):
        """As Ray's client names it."""
        return f"ray://127.0.0.1:{self.client_port}"

    def add(self, name, cpus=2, resources="{}"):
        """A node more, with the label ``zone=NAME``."""
        node = Node(
            self,
            name,
            [
                f"--address=127.0.0.1:{self.port}", f"--num-cpus={cpus}", f"--labels=zone={name}",
                f"--resources={resources}", f"--temp-dir={self.directory}/{name}",
                "--object-store-memory=150000000",
            ],
            resources,
        )  # fmt: skip
        self.nodes.append(node)
        return node

    def close(self):
        """End every node."""
        for node in [*self.nodes, self.head]:
            if node.process.poll() is None:
                node.stop()
        self._temporary.cleanup()
