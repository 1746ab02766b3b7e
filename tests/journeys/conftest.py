"""What journeys share: a place to type commands in, servers of its own, and a trained workspace."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import clew
from clew.base.verbs import Verbs

PROJECTS = Path(__file__).parent / "projects"
COMMAND_S = 120


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command printed, and its exit status."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error that ``--json`` printed."""
        return json.loads(self.err)["error"]


class Server:
    """A real ``clew server`` in a process of its own, on free ports."""

    def __init__(self, directory: Path, environ: dict[str, str], arguments: Sequence[str]) -> None:
        self.log = directory / "server.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clew.cli", "server", *arguments],
                cwd=directory,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.home = directory / ".clew"
        assert self.process.stdout is not None
        for line in self.process.stdout:  # it says its last line when it answers
            if "endpoints" in line:
                break
        else:
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError(f"the server did not start: {self.log.read_text()}")
        told = json.loads((self.home / "server.json").read_text())
        self.url: str = told["url"]
        self.serving_url: str = told["serving_url"]

    def family(self) -> list[psutil.Process]:
        """The server and every process below it."""
        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> list[psutil.Process]:
        """kill -9 of the server alone; its children, which must end by themselves."""
        children = self.family()[1:]
        self.process.kill()
        self._over()
        return children

    def stop(self) -> int:
        """End it as Ctrl-C would; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self._over()

    def _over(self) -> int:
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()
        return code


class Place:
    """A directory with a project in it, where commands are typed."""

    def __init__(self, directory: Path, **environ: str) -> None:
        self.directory = directory
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CLEW_")}
        self.environ = kept | {"CLEW_AUTOLOG": "off"} | environ  # MLflow takes long to start
        for name in ("PYTHONDONTWRITEBYTECODE", "COLUMNS"):
            self.environ.pop(name, None)
        self.servers: list[Server] = []
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        return self.directory / ".clew"

    def clew(self, *arguments: str | Path, exits: int | None = 0, stdin: str = "") -> Said:
        """Type a command; it must end with this status, and never with a traceback of ours."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "clew.cli", *map(str, arguments)],
            cwd=self.directory,
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        said = Said(code=done.returncode, out=done.stdout, err=done.stderr)
        assert "clew/cli/app.py" not in said.err, said.err
        if exits is not None:
            assert said.code == exits, f"{arguments} ended with {said.code}: {said.out}{said.err}"
        return said

    def json(self, *arguments: str | Path, exits: int = 0, stdin: str = "") -> Any:
        """What a command prints with ``--json``."""
        return self.clew(*arguments, "--json", exits=exits, stdin=stdin).json

    def refused(self, *arguments: str | Path, exits: int) -> dict[str, str]:
        """The error of a command: the same code for people as for programs, with a next step."""
        error = self.clew(*arguments, "--json", exits=exits).error
        plain = self.clew(*arguments, exits=exits)
        assert error["code"] in plain.err
        assert "Traceback" not in plain.err
        assert error["hint"]
        return error

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def edit(self, name: str, old: str, new: str) -> None:
        """Change one spot of a file."""
        text = (self.directory / name).read_text()
        assert text.count(old) == 1, f"{old!r} is not once in {name}"
        (self.directory / name).write_text(text.replace(old, new))

    def server(self, *arguments: str) -> Server:
        """Start a server on this directory's workspace; it ends with the test."""
        ports = () if "--port" in arguments else ("--port", "0", "--serving-port", "0")
        server = Server(self.directory, self.environ, (*ports, *arguments))
        self.servers.append(server)
        return server

    @contextmanager
    def verbs(self) -> Iterator[Verbs]:
        """The same workspace on an object, as from a notebook in this directory."""
        verbs = clew.connect(self.environ.get("CLEW_URL", ""), directory=self.directory)
        try:
            yield verbs
        finally:
            verbs.close()

    def close(self) -> None:
        for server in self.servers:
            if server.process.poll() is None:
                server.stop()


def csv_of(first: int, rows: int = 40, *, high: float = 100.0) -> str:
    """Numbers from 0 to ``high``, with ids of their own."""
    draw = random.Random(first)
    lines = [f"n{first + i:06d},{draw.uniform(0, high):.3f}" for i in range(rows)]
    return "\n".join(["id,x", *lines]) + "\n"


@pytest.fixture(scope="session")
def numbers() -> Callable[..., str]:
    """CSV text for the source of the project ``numbers``."""
    return csv_of


@pytest.fixture(scope="session")
def place_at() -> Callable[..., Place]:
    """Makes a place in a directory."""
    return Place


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty directory to type commands in."""
    found = Place(tmp_path / "here")
    yield found
    found.close()


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which ``numbers`` was applied and has trained once."""
    place = Place(tmp_path_factory.mktemp("trained") / "here")
    place.clew("init", "--bare")
    shutil.copytree(PROJECTS / "numbers", place.directory, dirs_exist_ok=True)
    place.write("data/a.csv", csv_of(1))
    place.write("data/b.csv", csv_of(1001))
    place.clew("apply", "numbers.py")
    place.clew("put", "numbers/raw", "data")
    return place.directory


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Iterator[Place]:
    """A copy of that workspace, for one test (that a copy works is one of the rules)."""
    shutil.copytree(trained_once, tmp_path / "here")
    found = Place(tmp_path / "here")
    yield found
    found.close()


@pytest.fixture(params=["embedded", "remote"])
def world(trained: Place, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """The trained workspace, on its files or over HTTP from a directory without a workspace."""
    if request.param == "embedded":
        return trained
    server = trained.server()
    away = Place(tmp_path / "away", CLEW_URL=server.url)
    shutil.copy(trained.directory / "numbers.py", away.directory)
    shutil.copytree(trained.directory / "data", away.directory / "data")
    return away
