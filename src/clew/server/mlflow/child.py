"""MLflow's application in a child process: started when first asked, again where it has died.

Knows processes and one socket; nothing of what is asked.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from clew.base.errors import Unavailable

_STOP_S = 5.0
_log = logging.getLogger("clew.server")


class Child:
    """The process behind the door. Thread-safe. Nothing runs before :meth:`ready` is asked.

    ``variables`` are asked once for each start; ``log`` takes what the process says.
    """

    def __init__(self, variables: Callable[[], Mapping[str, str]], log: Path) -> None:
        self._variables = variables
        self._log_file = log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = ""
        self._closed = False

    def ready(self) -> str:
        """The path of the socket that it answers on. Takes seconds the first time.

        Raises:
            Unavailable: ``extra.missing`` without MLflow; ``mlflow.start`` where it ends at once.
        """
        with self._lock:
            if self._closed:
                raise Unavailable("server.stops", "The server stops.")
            if self._process is None or self._process.poll() is not None:
                self._start()
            return self.place

    @property
    def pid(self) -> int | None:
        """The process id; None where none runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def close(self) -> None:
        """End the process. Idempotent."""
        with self._lock:
            self._closed = True
            self._end()

    @property
    def place(self) -> str:
        """The path of the socket of the process that runs."""
        return str(Path(self._directory) / "mlflow")

    def _start(self) -> None:
        if self._process is not None:
            _log.warning("MLflow ended with %s; starting it again", self._process.returncode)
        self._end()
        if any(importlib.util.find_spec(name) is None for name in ("mlflow", "flask")):
            raise _missing()
        # Not below the home: the path of a Unix socket has 107 bytes at most.
        self._directory = tempfile.mkdtemp(prefix="clew-mlflow-")
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clew.server.mlflow.mounted", self.place],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**_inherited(), **self._variables()},
            )
        assert self._process.stdout is not None, "it was asked for"
        if self._process.stdout.readline() != b"ready\n":
            code = self._process.wait()
            self._end()
            raise Unavailable(
                "mlflow.start",
                f"MLflow ended with {code} before it served.",
                hint=f"See {self._log_file}.",
            )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""


def version() -> str:
    """That of the MLflow that is, or would be, behind the door. Starts nothing.

    A client asks once, for three seconds at most: without an answer it takes us for an old server.

    Raises:
        Unavailable: ``extra.missing``.
    """
    try:
        return importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        raise _missing() from None


def _missing() -> Unavailable:
    return Unavailable(
        "extra.missing",
        "MLflow inside needs mlflow, which is not installed where the server runs.",
        hint='Install it there: pip install "clew[standard]"',
    )


def _inherited() -> dict[str, str]:
    """The environment of this process without what would lead MLflow elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "_MLFLOW_"))
    }
