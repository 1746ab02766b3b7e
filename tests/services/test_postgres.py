"""The whole loop with its rows in PostgreSQL, and two machines on one workspace."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from clew.testing.postgres import PASSWORD


class Machine:
    """A directory with a home of its own, as on another machine; commands run in it."""

    def __init__(self, directory: Path, url: str) -> None:
        directory.mkdir()
        self.directory = directory
        # The password is in the environment alone, as libpq has it.
        self.url = re.sub(r":[^:@/]*@", "@", url)
        self.environment = os.environ | {"PGPASSWORD": PASSWORD}
        self.said = ""

    def clew(self, *words: str, status: int = 0) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "clew.cli", *words],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=170,
        )
        self.said += ended.stdout + ended.stderr
        assert ended.returncode == status, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def json(self, *words: str):
        return json.loads(self.clew(*words, "--json"))

    @contextmanager
    def server(self):
        with (self.directory / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "clew.cli", "server", "--port", "0", "--serving-port", "0"],
                cwd=self.directory,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        note = self.directory / ".clew" / "server.json"
        try:
            while not (note.exists() and json.loads(note.read_bytes())["pid"] == process.pid):
                assert process.poll() is None, (self.directory / "server.log").read_text()
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            process.wait(60)

    def log(self) -> str:
        return (self.directory / "server.log").read_text()


@pytest.fixture
def machine(postgres, tmp_path):
    return Machine(tmp_path / "one", postgres.schema(str(tmp_path)))


def until(true) -> None:
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def changes(machine) -> set[str]:
    return {job["state"] for job in machine.json("jobs")}


@pytest.mark.timeout(600)
def test_the_whole_loop_on_postgresql_outlives_kills_and_a_restart_of_the_database(
    machine, postgres
):
    machine.clew("init", "--db", machine.url)
    assert not (machine.directory / ".clew" / "clew.db").exists()
    with machine.server() as server:
        machine.clew("apply", "pipeline.py")
        machine.clew("put", "tumours/measurements", "data/first.csv")
        until(lambda: machine.json("endpoints")[0]["revisions"])
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
    with machine.server():
        end = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
        assert postgres.execute(end + "WHERE application_name LIKE 'clew server (%'") != []
        until(lambda: "is had again" in machine.log())
        machine.clew("put", "tumours/measurements", "data/second.csv")
        assert changes(machine) <= {"done", "refused"}
        postgres.stop()
        postgres.start()
        until(lambda: machine.log().count("is had again") == 2)
        machine.clew("status")
        machine.clew("log", "tumours/measurements")
    everything = machine.said + machine.log() + machine.clew("doctor")
    everything += "".join(
        file.read_text(errors="replace") for file in (machine.directory / ".clew").glob("*.toml")
    )
    everything += "".join(
        file.read_text(errors="replace")
        for file in (machine.directory / ".clew" / "logs").rglob("*")
        if file.is_file()
    )
    assert PASSWORD not in everything
    assert postgres.execute("SELECT 1") == [(1,)]


@pytest.mark.timeout(300)
def test_a_second_machine_joins_sees_everything_and_does_not_work_at_the_same_time(
    machine, tmp_path
):
    machine.clew("init", "--db", machine.url, "--store", str(tmp_path / "shared"))
    other = Machine(tmp_path / "two", machine.url)
    assert "workspace.taken" in other.clew("init", "--db", machine.url, status=4)
    assert not (other.directory / ".clew").exists()
    other.clew("init", "--join", "--db", machine.url)
    with machine.server():
        machine.clew("apply", "pipeline.py")
        assert "workspace.served" in other.clew("server", "--port", "0", status=4)
        # Its own command finds no server beside it: it writes rows itself, and the engine of the
        # first machine takes the work up.
        other.clew("put", "tumours/measurements", "data/first.csv", status=3)
        file = machine.directory / "data" / "first.csv"
        other.clew("put", "tumours/measurements", str(file))
        assert changes(other) <= {"done", "refused"}
        assert machine.json("log", "tumours/measurements") == other.json(
            "log", "tumours/measurements"
        )
    other.clew("put", "tumours/measurements", str(file))  # now it works for itself


def test_a_server_that_is_down_is_said_and_nothing_is_written(tmp_path):
    machine = Machine(tmp_path / "one", "postgresql://postgres:x@127.0.0.1:1/clew")
    said = machine.clew("init", "--db", machine.url, status=7)
    assert "db.unreachable" in said
    assert not (machine.directory / ".clew").exists()


def test_the_home_of_another_workspace_is_refused(machine, postgres, tmp_path):
    machine.clew("init", "--bare", "--db", machine.url)
    elsewhere = re.sub(r":[^:@/]*@", "@", postgres.schema(f"{tmp_path}/elsewhere"))
    other = Machine(tmp_path / "two", elsewhere)
    other.clew("init", "--bare", "--db", elsewhere)
    config = machine.directory / ".clew" / "config.toml"
    config.write_text(config.read_text().replace(machine.url, elsewhere))
    assert "workspace.other" in machine.clew("repos", status=4)
