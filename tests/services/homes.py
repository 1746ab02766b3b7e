"""One start for tests of services: a workspace with its `clew server`, as a user starts them, and
environments of packages that may not stand beside Clew's own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import clew

INSTALL_S = 1200
RUN_S = 300


def environ(**more: str) -> dict[str, str]:
    """The environment of a user who has set nothing but ``more``."""
    foreign = ("CLEW_", "AWS_", "MLFLOW_", "RAY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "COLUMNS": "200", **more}


class Home:
    """A directory of a user: `clew` words run in it, and a `clew server` serves it.

    Args:
        directory: Empty, or with files of the project.
        python: The interpreter of the server and of `clew` (of an environment with more packages).
        more: Variables of both.
    """

    def __init__(
        self, directory: Path, *, python: str | Path = sys.executable, more: Mapping[str, str] = {}
    ) -> None:
        self.directory = directory
        self.environ = environ(**more)
        self._python = str(python)
        self._process: subprocess.Popen[str] | None = None
        self.said = ""
        self.verbs: Any = None

    def clew(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `clew WORDS` here."""
        done = subprocess.run(
            self._line(*words), cwd=self.directory, env=self.environ, capture_output=True,
            text=True, timeout=RUN_S, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"clew {words}: {done.stdout}{done.stderr}"
        return done

    def make(
        self, files: Mapping[str, str | bytes], *, pipeline: str, puts: Mapping[str, str]
    ) -> None:
        """A workspace here with these files, one of them applied, others put into repos."""
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (self.directory / name).write_bytes(data)
        self.clew("init", "--bare", ".")
        self.clew("apply", pipeline)
        for repo, name in puts.items():
            self.clew("put", repo, name)

    def start(self, *options: str) -> None:
        """Start `clew server`; returns when it serves. ``verbs`` asks it over HTTP then."""
        line = self._line("server", "--port", "0", "--serving-port", "0", *options)
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                line, cwd=self.directory, env=self.environ, stdout=subprocess.PIPE, stderr=log,
                text=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        self.said = ""
        for line_said in self._process.stdout:
            self.said += line_said
            if "Ctrl-C" in line_said:
                break
        else:
            self.stop(check=False)
            logs = [one.read_text() for one in self.directory.rglob("*.log")]
            raise AssertionError("\n".join([self.said, *logs]))
        self.verbs = clew.connect(self._note["url"], token=self.environ.get("CLEW_TOKEN", ""))

    @property
    def serving(self) -> str:
        """Where the server answers what endpoints are asked."""
        return str(self._note["serving_url"])

    @property
    def grpc(self) -> str:
        """HOST:PORT of gRPC."""
        found = re.search(r"gRPC +(\S+:\d+)", self.said)
        assert found, self.said
        return found[1]

    def stop(self, how: int = signal.SIGTERM, *, check: bool = True) -> None:
        """End the server, if one runs."""
        if self.verbs is not None:
            self.verbs.close()
            self.verbs = None
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdout is not None
        if process.poll() is None:
            process.send_signal(how)
        process.stdout.read()
        code = process.wait(90)
        process.stdout.close()
        assert not check or code == 0 or how == signal.SIGKILL, f"the server ended with {code}"

    @property
    def _note(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / ".clew" / "server.json").read_text())
        return found

    def _line(self, *words: object) -> list[str]:
        return [self._python, "-P", "-m", "clew.cli", *map(str, words)]


def environment(name: str, packages: Sequence[str], *, beside: bool = False) -> Path:
    """The interpreter of an environment with these packages; made once. Skips, with the reason,
    where they cannot be had.

    ``beside``: it sees the packages of development too, after its own.
    """
    place = Path(tempfile.gettempdir()) / f"clew-tests-{os.getuid()}" / name
    done, python = place / "installed.json", place / "bin" / "python"
    if done.exists() and json.loads(done.read_text()) == list(packages):
        return python
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    for words in (
        ["venv", "--quiet", "--python", sys.executable, place],
        ["pip", "install", "--quiet", "--python", python, *packages],
    ):
        told = subprocess.run(
            [uv, *map(str, words)], capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        if told.returncode:
            pytest.skip(f"{', '.join(packages)} cannot be had: {told.stderr.strip()[-300:]}")
    if beside:
        (own,) = place.glob("lib/python*/site-packages")
        (own / "zz_development.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    done.write_text(json.dumps(list(packages)))
    return python
