"""kill -9 at random moments of the loop: it goes on, and nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import clew
from clew.base.errors import ClewError
from clew.base.records import Commit
from clew.base.verbs import Verbs
from clew.store import Store

if TYPE_CHECKING:
    from .conftest import Place, Server

Csv = Callable[..., str]
PROJECTS = Path(__file__).parent / "projects"
LOOP_S = 2.5
"""About what one commit takes until its model is live: kills fall somewhere in it."""


@dataclass(kw_only=True)
class Client:
    """Commits and asks, on threads of their own, whatever happens to the server."""

    seed: int
    numbers: Csv
    place: Place
    commits: dict[str, Commit] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    predictions: list[str] = field(default_factory=list)
    surprises: list[BaseException] = field(default_factory=list)
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    wanted: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._feed), threading.Thread(target=self._ask)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            self.wanted.release()
            for thread in threads:
                thread.join()

    def more(self) -> None:
        """Let the feeder commit one more file."""
        self.wanted.release()

    def _feed(self) -> None:
        number = 0
        while self.wanted.acquire() and not self.over.is_set():
            number += 1
            path, text = f"/more-{number}.csv", self.numbers(self.seed + 1000 * number, 12)
            self.contents[path] = text.encode()
            done = self._insist(lambda v, p=path: v.put("numbers/raw", {p: self.contents[p]}))
            if done is not None:
                self.commits[path] = done

    def _ask(self) -> None:
        while not self.over.is_set():
            answer = self._insist(lambda v: v.predict("large", [{"x": 70.0}]))
            if answer is not None:
                self.predictions.append(answer.prediction_id)
            self.over.wait(0.1)

    def _insist(self, act: Callable[[Verbs], Any]) -> Any:
        """The same again until it is acknowledged; only a missing server may be the reason."""
        while not self.over.is_set():
            try:
                with contextlib.closing(clew.connect(self.url)) as verbs:
                    return act(verbs)
            except ClewError as error:
                if error.kind != "unavailable":
                    self.surprises.append(error)
                    return None
            except BaseException as error:
                self.surprises.append(error)
                return None
            self.over.wait(0.05)
        return None


@dataclass(kw_only=True)
class Killer:
    """Kills something, brings the server back, and knows how often."""

    place: Place
    moments: random.Random
    server: Server
    killed: Counter[str] = field(default_factory=Counter)
    last: str = ""
    ghosts: list[psutil.Process] = field(default_factory=list)

    def strike(self) -> None:
        """Wait until some moment of the loop, then kill -9."""
        threading.Event().wait(self.moments.uniform(0, LOOP_S))  # the moment is the test
        target = self.moments.choices(["server", "worker", "serving"], [3, 5, 2])[0]
        if target == "worker" and self.last == "worker":
            target = "server"  # what kills its worker twice is taken for the culprit, by rule
        if target != "serving":
            self.last = target
        if target != "server" and self._kill_child(f"clew.{_MODULES[target]}"):
            self.killed[target] += 1
            return
        self.ghosts += self.server.kill()
        self.killed["server"] += 1
        if self.moments.random() < 0.15:
            self._kill_while_starting()
        self.server = self.place.server()

    def _kill_child(self, module: str) -> bool:
        found = []
        for process in self.server.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                if module in process.cmdline():
                    found.append(process)
        if not found:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            self.moments.choice(found).send_signal(signal.SIGKILL)
        return True

    def _kill_while_starting(self) -> None:
        starting = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "clew.cli",
                "server",
                "--port",
                "0",
                "--serving-port",
                "0",
            ],
            cwd=self.place.directory,
            env=self.place.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            starting.wait(self.moments.uniform(0.2, 1.2))
        starting.kill()
        starting.wait()
        self.killed["starting"] += 1


DONE_DATUMS = """
    select inputs, finished_us from datums where state = 'done' and inputs like '%.csv%'
"""
_MODULES = {"worker": "compute.worker", "serving": "serving.process"}


def kill_and_check(place: Place, numbers: Csv, *, seed: int, kills: int) -> None:
    runs = place.directory / "runs.txt"
    place.environ["JOURNEY_RUNS"] = str(runs)
    shutil.copytree(PROJECTS / "numbers", place.directory, dirs_exist_ok=True)
    place.clew("init", "--bare")
    place.clew("apply", "numbers.py")
    place.write("data/first.csv", numbers(1))
    place.clew("put", "numbers/raw", "data")
    killer = Killer(place=place, moments=random.Random(seed), server=place.server())
    client = Client(seed=seed, numbers=numbers, place=place, url=killer.server.url)
    with client.running():
        while killer.killed.total() < kills:
            if killer.killed.total() % 2 == 0:
                client.more()
            killer.strike()
            client.url = killer.server.url
            assert not client.surprises, client.surprises
            there(place, client)
        with place.verbs() as verbs:
            verbs.wait(timeout_s=120)
    assert not client.surprises, client.surprises
    all_gone(killer.ghosts)
    assert killer.server.stop() == 0
    assert len(client.commits) >= kills // 4, "new data came through"
    assert client.predictions
    with place.verbs() as verbs:
        verbs.wait(timeout_s=60)
        all_is_whole(verbs)
        all_went_on(verbs, client)
        each_once(verbs)
    assert Store.open(place.home / "store").fsck() == []
    contents = {path: client.contents[path] for path in client.commits}
    contents["/first.csv"] = numbers(1).encode()
    nothing_ran_twice(place.home / "clew.db", runs, contents, killer.killed.total())


def all_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive, f"outlived the server: {[process.cmdline() for process in alive]}"


def there(place: Place, client: Client) -> None:
    """The last acknowledged commits are there and whole, right after the crash."""
    with place.verbs() as verbs:
        for path, commit in list(client.commits.items())[-3:]:
            found = verbs.commit(commit.id)
            assert (found.state, found.tree) == ("finished", commit.tree)
            assert verbs.read(f"numbers/raw@{commit.id}:{path}") == client.contents[path]


def all_is_whole(verbs: Verbs) -> None:
    """No half commit: each is finished (and every byte can be read) or aborted."""
    read: set[str] = set()
    for repo in verbs.repos():
        for branch in repo.branches:
            for commit in verbs.log(repo.name, branch=branch, limit=10_000):
                assert commit.state in {"finished", "aborted"}, commit
                if commit.state == "aborted":
                    continue
                for file in verbs.ls(f"{repo.name}@{commit.id}", recursive=True):
                    if file.digest not in read:
                        content = verbs.read(f"{repo.name}@{commit.id}:{file.path}")
                        assert len(content) == file.size_bytes
                        read.add(file.digest)


def all_went_on(verbs: Verbs, client: Client) -> None:
    """Every acknowledged change was carried out to its end, and every prediction is in the log."""
    for path, commit in client.commits.items():
        assert verbs.commit(commit.id).state == "finished"
        assert verbs.read(f"numbers/raw@{commit.id}:{path}") == client.contents[path]
        jobs = {job.step: job for job in verbs.change(commit.global_id).jobs}
        ended = {step: job.state for step, job in jobs.items()}
        assert ended == {"clean": "done", "model": "done", "model.gate": "done"}, jobs
    output = {file.path for file in verbs.ls("numbers/clean", recursive=True)}
    assert output >= {path.replace(".csv", ".parquet") for path in client.commits}
    logged = {one.id for one in verbs.predictions("large", limit=100_000)}
    assert set(client.predictions) <= logged


def each_once(verbs: Verbs) -> None:
    """One verdict for each version, one revision for each blessed version, one live."""
    versions = verbs.models("numbers/model")
    verdicts = Counter(verdict.model_version for verdict in verbs.verdicts("numbers/model"))
    assert verdicts == Counter(version.id for version in versions)
    assert len({(version.model, version.version) for version in versions}) == len(versions)
    revisions = verbs.endpoint("large").revisions
    blessed = Counter(version.id for version in versions if version.state == "blessed")
    assert Counter(one.model_version for one in revisions) == blessed
    assert sum(one.traffic for one in revisions) == 100
    newest = max(versions, key=lambda version: version.version)
    assert [one.model_version for one in revisions if one.state == "live"] == [newest.id]
    assert "champion" in newest.aliases
    assert len({one.job for one in versions}) == len(versions), "a job makes one version"


def nothing_ran_twice(database: Path, runs: Path, contents: dict[str, bytes], kills: int) -> None:
    """What had committed did not run again; what a trial reported is there once, without gaps."""
    started: dict[str, list[int]] = {}
    for line in runs.read_text().splitlines():
        what, at_us = line.rsplit(" ", 1)
        started.setdefault(what, []).append(int(at_us))
    with contextlib.closing(sqlite3.connect(database)) as db:
        done = db.execute(DONE_DATUMS).fetchall()
        points = db.execute("select trial, step from trial_points").fetchall()
        trials = dict(db.execute("select id, step from trials").fetchall())
        starts = db.execute("select count(*) from events where kind = 'job.started'").fetchone()[0]
        jobs = db.execute("select count(*) from jobs").fetchone()[0]
    assert len(done) == len(contents), "one committed datum for each file, and no more"
    for inputs, finished_us in done:
        path = json.loads(inputs)[0][1]
        runs_of = started[f"clean {contents[path].split()[1].decode().split(',')[0]}"]
        assert max(runs_of) <= finished_us, f"{path} ran although it had committed"
        assert len(runs_of) <= kills + 1
    steps: dict[str, list[int]] = {}
    for trial, step in points:
        steps.setdefault(trial, []).append(step)
    assert {trial: sorted(found) for trial, found in steps.items()} == {
        trial: list(range(1, step + 1)) for trial, step in trials.items() if step
    }
    assert starts > jobs, "no kill fell into a running job: the moments are wrong"


@pytest.mark.timeout(1200)  # a minute where nothing else runs
def test_random_kills_lose_nothing_and_double_nothing(place: Place, numbers: Csv) -> None:
    kill_and_check(place, numbers, seed=7, kills=15)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(5))
def test_many_random_kills_lose_nothing_and_double_nothing(
    place: Place, numbers: Csv, seed: int
) -> None:
    kill_and_check(place, numbers, seed=1000 + seed, kills=60)


def test_a_killed_server_starts_again_at_once_on_the_same_ports(trained: Place) -> None:
    server = trained.server()
    ports = [url.rpartition(":")[2] for url in (server.url, server.serving_url)]
    with trained.verbs() as verbs:
        before = verbs.predict("large", [{"x": 70.0}])
    children = server.kill()
    again = trained.server("--port", ports[0], "--serving-port", ports[1])
    assert (again.url, again.serving_url) == (server.url, server.serving_url)
    with trained.verbs() as verbs:
        assert verbs.predict("large", [{"x": 70.0}]).model_version == before.model_version
        assert verbs.why(before.prediction_id).subject.id == before.prediction_id
    all_gone(children)


def test_a_killed_command_is_taken_up_by_the_next(trained: Place, numbers: Csv) -> None:
    trained.write("data/c.csv", numbers(2001))
    moments = random.Random(3)
    trained.clew("put", "numbers/raw", "data", "--no-wait")
    for _ in range(3):
        waiting = subprocess.Popen(
            [sys.executable, "-P", "-m", "clew.cli", "wait"],
            cwd=trained.directory,
            env=trained.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            waiting.wait(moments.uniform(0.8, 2.0))
        waiting.kill()
        waiting.wait()
    trained.clew("wait")
    with trained.verbs() as verbs:
        all_is_whole(verbs)
        each_once(verbs)
        change = verbs.log("numbers/raw")[0].global_id
        assert {job.state for job in verbs.change(change).jobs} == {"done"}
