"""kill -9 of the server or of a worker while datums run: each ends right, and none twice.

A kill counts only where it hit: what runs writes down when it begins and when it ends, and what
was killed had begun and not ended. The moments are drawn by a seed, counted in datums. What has
committed is read after each kill of the server, so that a row that is lost, or made anew, is seen.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import clew
from clew.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Place, Server

PROJECT = """
import os, time
import clew

p = clew.Pipeline("kills")
raw = p.source("raw")

def note(what):
    line = f"{what} {os.getpid()} {time.time_ns() // 1000}\\n"
    with open(os.environ["KILLS_RUNS"], "ab", buffering=0) as file:
        file.write(line.encode())

@p.step(raw, per="file", retries=50, backoff=0.01)
def up(raw: str) -> str:
    note(f"begin {raw}")
    print("working on", raw)
    time.sleep(0.03)
    note(f"end {raw}")
    return raw.upper()

@p.step(up, retries=50, backoff=0.01)
def join(up: list[str]) -> str:
    note(f"begin join-{len(up)}")
    note(f"end join-{len(up)}")
    return "+".join(sorted(up))
"""
AT_ONCE = 60
"""So many files are committed at a time: their job commits datums before it ends."""

COMMITTED = """
    select datums.key, datums.finished_us, jobs.state from datums join jobs on jobs.id = datums.job
    where datums.state = 'done'
"""


class Runs:
    """What runs have written down; only what is new is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.lines: list[tuple[str, str, int, int]] = []
        """begin or end, what, pid, microseconds: in the order in which they were written."""
        self.ended: set[str] = set()

    def look(self) -> int:
        """Read on; how many lines there are."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        for line in whole.decode().splitlines():
            act, what, pid, at_us = line.split()
            self.lines.append((act, what, int(pid), int(at_us)))
            if act == "end":
                self.ended.add(what)
        return len(self.lines)


@dataclass
class Strike:
    """Commits, kills, and counts the kills that hit."""

    place: Place
    runs: Runs
    draw: random.Random
    server: Server
    hits: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)
    ghosts: list[psutil.Process] = field(default_factory=list)
    committed: dict[str, int] = field(default_factory=dict)
    """Keys of datums that were done when the server was killed last, and since when."""
    amid: int = 0
    """How often some datums of a job had committed, and others not."""

    def once(self) -> None:
        """Wait until some more datums have begun, then kill what runs them."""
        self.feed()
        goal = self.runs.look() + self.draw.randint(1, AT_ONCE)
        self.until(lambda: self.runs.look() >= goal or self.left() == 0)
        threading.Event().wait(self.draw.uniform(0, 0.02))  # the moment is the test
        if self.draw.random() < 0.5:
            self.kill_worker()
            return
        self.kill_server()
        if self.draw.random() < 0.2:  # the next one, while it takes up what was left
            threading.Event().wait(self.draw.uniform(0, 0.3))
            self.kill_server("taking up")

    def feed(self) -> None:
        """Commit more files where few are left to run."""
        if self.left() >= AT_ONCE:
            return
        first = len(self.files)
        more = {f"/{n:05d}.txt": f"n{n:05d}" for n in range(first, first + AT_ONCE)}
        with contextlib.closing(clew.connect(self.server.url)) as verbs:
            verbs.put("kills/raw", {path: text.encode() for path, text in more.items()})
        self.files |= more

    def left(self) -> int:
        self.runs.look()
        return len(self.files) - sum(not what.startswith("join-") for what in self.runs.ended)

    def until(self, so: Callable[[], bool]) -> None:
        pause = threading.Event()
        while not so():
            assert self.server.process.poll() is None, self.server.log.read_text()
            pause.wait(0.003)

    def workers(self) -> list[psutil.Process]:
        found = []
        for process in self.server.family()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                if "clew.compute.worker" in process.cmdline():
                    found.append(process)
        return found

    def kill_worker(self) -> None:
        workers = self.workers()
        if not workers:
            self.missed["worker"] += 1
            return
        target = self.draw.choice(workers)
        with contextlib.suppress(psutil.NoSuchProcess):
            target.send_signal(signal.SIGKILL)
            target.wait(30)
        self.count("worker", {target.pid})

    def kill_server(self, what: str = "server") -> None:
        pids = {one.pid for one in self.workers()}
        children = self.server.kill()
        psutil.wait_procs(children, timeout=30)  # what they still write is no run of the next one
        self.ghosts += children
        self.count(what, pids)
        self.see_what_committed()
        self.server = self.place.server()

    def count(self, what: str, pids: set[int]) -> None:
        """A hit: one of these processes had begun something and not ended it."""
        self.runs.look()
        last = {pid: act for act, _, pid, _ in self.runs.lines}
        if any(last.get(pid) == "begin" for pid in pids):
            self.hits[what] += 1
        else:
            self.missed[what] += 1

    def see_what_committed(self) -> None:
        """Read a copy: the next server finds all as the last one left it."""
        with tempfile.TemporaryDirectory() as directory:
            for path in self.place.home.glob("clew.db*"):
                if not path.name.endswith("-shm"):
                    shutil.copy(path, directory)
            with contextlib.closing(sqlite3.connect(Path(directory) / "clew.db")) as db:
                rows = db.execute(COMMITTED).fetchall()
        now = {key: at_us for key, at_us, _ in rows}
        assert self.committed.items() <= now.items(), "what has committed stays, and is not redone"
        self.committed = now
        self.amid += any(state == "running" for *_, state in rows)


def kill_until(place: Place, *, seed: int, hits: int) -> Strike:
    runs = place.directory / "runs.txt"
    runs.touch()
    place.environ["KILLS_RUNS"] = str(runs)
    place.write("kills.py", PROJECT)
    place.clew("init", "--bare")
    place.clew("apply", "kills.py")
    strike = Strike(place, Runs(runs), random.Random(seed), place.server())
    while strike.hits.total() < hits:
        strike.once()
    with contextlib.closing(clew.connect(strike.server.url)) as verbs:
        verbs.wait(timeout_s=150)
    assert strike.server.stop() == 0
    strike.see_what_committed()
    _, alive = psutil.wait_procs(strike.ghosts, timeout=30)
    assert not alive, "nothing outlives its server"
    return strike


def all_ended_right(strike: Strike) -> None:
    with strike.place.verbs() as verbs:
        jobs = verbs.jobs(limit=100_000)
        assert {job.state for job in jobs} == {"done"}
        assert len(jobs) == 2 * len(verbs.log("kills/raw", limit=100_000)), "one of a step for each"
        output = {one.path: verbs.read(f"kills/up:{one.path}") for one in verbs.ls("kills/up")}
        assert output == {path: text.upper().encode() for path, text in strike.files.items()}
        joined = "+".join(sorted(text.upper() for text in strike.files.values()))
        assert verbs.read("kills/join:/join.txt").decode() == joined
        said = "".join(verbs.job_log(job.id) for job in jobs if job.step == "up")
        assert all(f"working on {text}\n" in said for text in strike.files.values())
    assert Store.open(strike.place.home / "store").fsck() == []


def nothing_committed_ran_again(strike: Strike) -> None:
    query = "select outputs, finished_us from datums where state = 'done'"
    store = Store.open(strike.place.home / "store")
    with contextlib.closing(sqlite3.connect(strike.place.home / "clew.db")) as db:
        rows = [(json.loads(outputs)[0], at_us) for outputs, at_us in db.execute(query)]
    datums = [(name_of(store.read(digest).decode()), at_us) for (_, digest, _), at_us in rows]
    finished = dict(datums)
    joins = {name for name in finished if name.startswith("join-")}
    assert set(finished) - joins == set(strike.files.values()), "none is lost"
    assert len(datums) == len(finished), "each is done once"
    begun: dict[str, list[int]] = {}
    strike.runs.look()
    for act, what, _, at_us in strike.runs.lines:
        if act == "begin":
            begun.setdefault(what, []).append(at_us)
    for what, at_us in finished.items():
        assert max(begun[what]) <= at_us, f"{what} ran although it had committed"


def name_of(made: str) -> str:
    """How the datum that made a text called itself in what it wrote down."""
    return made.lower() if "+" not in made else f"join-{made.count('+') + 1}"


def check(place: Place, *, seed: int, hits: int) -> Strike:
    strike = kill_until(place, seed=seed, hits=hits)
    all_ended_right(strike)
    nothing_committed_ran_again(strike)
    assert strike.hits.total() >= hits
    return strike


@pytest.mark.slow  # the thirty kills of test_crashes.py are each time
@pytest.mark.timeout(300)
def test_kills_of_what_runs_lose_nothing_and_repeat_nothing(place: Place) -> None:
    check(place, seed=4, hits=2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(500, 518))
def test_thirty_kills_of_what_runs_lose_nothing_and_repeat_nothing(place: Place, seed: int) -> None:
    """Eighteen times: 540 kills in all that hit, and as many moments between."""
    strike = check(place, seed=seed, hits=30)
    print(f"seed {seed}: {dict(strike.hits)} while datums ran, {dict(strike.missed)} between")
    print(f"{strike.amid} of the server's amid a job that had committed some of its datums")
    assert min(strike.hits["server"], strike.hits["worker"]) >= 5
    assert strike.amid >= 1
