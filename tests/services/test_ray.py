"""Calls, datums and trials on two real Ray nodes, one of which is killed now and then."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

import clew
from clew.compute import RayPool
from clew.store import Store
from clew.testing.compute import ComputeConformance

pytestmark = pytest.mark.timeout(600)
PIPELINE = """
import os, time
from pathlib import Path
import clew

RUNS = Path({runs!r})
p = clew.Pipeline("cluster")
numbers = p.source("numbers")


def ran(what):
    with RUNS.open("a") as file:
        file.write(f"{{what}} {{os.getpid()}} {{os.environ.get('NODE')}}\\n")


@p.step(numbers.glob("/*.txt"), per="file")
def doubled(one: bytes) -> bytes:
    time.sleep(0.08)
    ran(one.decode())
    print("doubled", one.decode())
    return str(2 * int(one)).encode()
"""
MORE = """

@p.step(numbers.glob("/*.txt"), per="file", resources={{"right": 1}})
def on_right(one: bytes) -> bytes:
    return os.environ["NODE"].encode()


@p.step(numbers.glob("/*.txt"), per="file", placement={{"zone": "left"}})
def on_left(one: bytes) -> bytes:
    return os.environ["NODE"].encode()
"""
WRONG = """

@p.step(numbers.glob("/*.txt"), per="file", resources={{"unicorn": 1}})
def nowhere(one: bytes) -> bytes:
    return one
"""
STUCK = """

@p.step(numbers.glob("/*.txt"), per="file")
def stuck(one: bytes) -> bytes:
    ran("stuck")
    time.sleep(600)
"""
GREEDY = """

@p.step(numbers.glob("/*.txt"), per="file", timeout_s=2)
def slow(one: bytes) -> bytes:
    if one == b"3":
        time.sleep(600)
    return one


@p.step(numbers.glob("/*.txt"), per="file", memory_bytes=400 << 20)
def greedy(one: bytes) -> bytes:
    if one == b"4":
        kept = bytearray(b"x" * (800 << 20))
        time.sleep(600)
    return one
"""


class Place:
    """A workspace whose server runs user code on a cluster."""

    def __init__(self, directory, cluster, address):
        self.directory = directory
        self.runs = directory / "runs"
        self.runs.touch()
        names = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "RAY_"))}
        self.environ = names | cluster.variables
        self.address = address
        self.process = None

    def clew(self, *arguments):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "clew.cli", *arguments],
            cwd=self.directory, env=self.environ, capture_output=True, text=True, timeout=170,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self):
        arguments = ["--compute", self.address, "--port", "0", "--serving-port", "0"]
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clew.cli", "server", *arguments],
                cwd=self.directory, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        if not any("endpoints" in line for line in self.process.stdout):
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError((self.directory / "server.log").read_text())
        url = json.loads((self.directory / ".clew" / "server.json").read_text())["url"]
        self.verbs = clew.connect(url)

    def apply(self, text):
        (self.directory / "cluster.py").write_text(text.format(runs=str(self.runs)))
        self.clew("apply", "cluster.py")

    def wait(self, commit):
        """The jobs of a change, when all have ended."""
        jobs = self.verbs.wait(commit.global_id, timeout_s=170)
        return {job.step: job for job in jobs}

    def put(self, first, count):
        """Numbers as files, and the change that they make."""
        files = {f"/{n:05d}.txt": str(n).encode() for n in range(first, first + count)}
        return self.verbs.put("cluster/numbers", files)

    def job(self, commit, step="doubled"):
        jobs = self.verbs.jobs(pipeline="cluster")
        return next(j for j in jobs if (j.global_id, j.step) == (commit.global_id, step))

    def read(self, repo):
        found = self.verbs.ls(f"cluster/{repo}", recursive=True)
        return {one.path: self.verbs.read(f"cluster/{repo}:{one.path}") for one in found}

    def lines(self):
        return self.runs.read_text().splitlines()

    def stop(self, how=signal.SIGINT):
        if self.process is not None and self.process.poll() is None:
            self.verbs.close()
            self.process.send_signal(how)
            self.process.wait(60)
        if self.process is not None:
            self.process.stdout.close()


def until(happened, what, *, seconds=120):
    """Wait for what another process does."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.fixture
def place(ray_cluster, tmp_path, request):
    """A workspace with its server, on the cluster as a node sees it."""
    found = Place(tmp_path, ray_cluster, getattr(request, "param", ray_cluster.address))
    found.clew("init")
    found.start()
    yield found
    found.stop()


class TestRayPool(ComputeConformance):
    """The law, on a machine where the store is at hand."""

    @pytest.fixture(autouse=True)
    def _joined(self, ray_cluster, monkeypatch):
        for name, value in ray_cluster.variables.items():
            monkeypatch.setenv(name, value)
        self.address = ray_cluster.address

    def make(self, directory):
        Store.open(directory / "store")
        return RayPool(self.address, str(directory / "store"), directory / "logs")


@pytest.mark.slow
class TestRayClient(TestRayPool):
    """The law, through Ray's client, where nothing of the engine's disk is at hand."""

    @pytest.fixture(autouse=True)
    def _joined(self, ray_cluster, monkeypatch):
        for name, value in ray_cluster.variables.items():
            monkeypatch.setenv(name, value)
        self.address = f"{ray_cluster.client_address}?store=relay"


# datums -------------------------------------------------------------------------------------


def doubled_up_to(count):
    return sorted(str(2 * n).encode() for n in range(count))


def test_two_hundred_datums_run_on_both_nodes_with_their_logs(place):
    place.apply(PIPELINE)
    commit = place.put(0, 200)
    place.clew("wait", commit.global_id)
    assert sorted(place.read("doubled").values()) == doubled_up_to(200)
    assert {line.split()[2] for line in place.lines()} == {"left", "right"}
    log = place.verbs.job_log(place.job(commit).id)
    assert all(f"doubled {n}\n" in log for n in range(200))


def test_a_step_runs_where_what_it_demands_is(place):
    place.apply(PIPELINE + MORE)
    commit = place.put(0, 8)
    place.clew("wait", commit.global_id)
    assert set(place.read("on_right").values()) == {b"right"}
    assert set(place.read("on_left").values()) == {b"left"}


def test_nodes_without_a_disk_in_common_work_through_the_server(ray_cluster, tmp_path):
    place = Place(tmp_path, ray_cluster, f"{ray_cluster.address}?store=relay")
    place.clew("init")
    place.start()
    try:
        place.apply(PIPELINE)
        commit = place.put(0, 40)
        place.clew("wait", commit.global_id)
        assert sorted(place.read("doubled").values()) == doubled_up_to(40)
        place.clew("fsck")
    finally:
        place.stop()


def test_what_no_node_has_fails_the_job_and_says_what_there_is(ray_cluster, tmp_path):
    place = Place(tmp_path, ray_cluster, f"{ray_cluster.address}?wait_s=1")
    place.clew("init")
    place.start()
    try:
        place.apply(PIPELINE + WRONG)
        commit = place.put(0, 1)
        until(lambda: place.job(commit, "nowhere").state == "failed", "it fails")
        reason = place.job(commit, "nowhere").reason
        assert "unicorn: 1" in reason
        assert "right: 2" in reason
    finally:
        place.stop()


def test_a_cancelled_job_ends_its_code_at_once_and_the_next_runs(place):
    place.apply(PIPELINE + STUCK)
    commit = place.put(0, 4)
    until(lambda: any(line.startswith("stuck") for line in place.lines()), "it runs")
    pids = [int(line.split()[1]) for line in place.lines() if line.startswith("stuck")]
    place.clew("cancel", place.job(commit, "stuck").id)
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "its processes end")
    until(lambda: place.job(commit, "stuck").state == "cancelled", "it is cancelled")
    place.apply(PIPELINE)
    place.clew("wait", place.put(4, 4).global_id)
    assert sorted(place.read("doubled").values()) == doubled_up_to(8)


def test_a_datum_that_takes_too_much_memory_or_time_fails_alone(place):
    place.apply(PIPELINE + GREEDY)
    commit = place.put(0, 6)
    until(lambda: place.job(commit, "slow").state == "failed", "slow fails")
    until(lambda: place.job(commit, "greedy").state == "failed", "greedy fails")
    for step, code in (("slow", "step.timeout"), ("greedy", "step.memory")):
        datums = place.verbs.datums(place.job(commit, step).id)
        codes = sorted(str(one.evidence.get("code", "")) for one in datums)
        assert codes == ["", "", "", "", "", code], step


def test_a_node_that_is_killed_in_mid_job_gives_its_datums_back(place, ray_cluster):
    kills_and_checks(place, ray_cluster, seed=1, kills=2)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twenty_five_killed_nodes_lose_nothing_and_repeat_nothing(place, ray_cluster):
    kills_and_checks(place, ray_cluster, seed=2, kills=25)


def kills_and_checks(place, cluster, *, seed, kills):
    """Kill a node of two at seeded moments, each in the middle of a job."""
    draw = random.Random(seed)
    place.apply(PIPELINE)
    for number in range(kills):
        before = len(place.lines())
        commit = place.put(number * 60, 60)
        moment = before + draw.randint(1, 45)
        until(lambda at=moment: len(place.lines()) >= at, "datums run")
        node = draw.choice([node for node in cluster.nodes if node.process.poll() is None])
        time.sleep(draw.uniform(0, 0.1))
        done = {path for path, state in states(place, commit) if state == "done"}
        seen = len(place.lines())
        node.kill()
        cluster.nodes.remove(node)
        back = threading.Thread(target=cluster.add, args=(node.name, 2, node.resources))
        back.start()
        place.clew("wait", commit.global_id)
        back.join()
        again = {f"/{int(line.split()[0]):05d}.txt" for line in place.lines()[seen:]}
        assert not done & again, f"kill {number}: committed work ran again"
        job = place.job(commit)
        assert (job.state, job.done, job.failed) == ("done", 60, 0), f"kill {number}"
    assert sorted(place.read("doubled").values()) == doubled_up_to(60 * kills)


def states(place, commit):
    """Path and state of the datums of a job that has rows."""
    for datum in place.verbs.datums(place.job(commit).id):
        yield next(iter(datum.inputs)), datum.state


def test_a_killed_server_leaves_nothing_behind_and_the_next_goes_on(place):
    place.apply(PIPELINE)
    commit = place.put(0, 120)
    until(lambda: len(place.lines()) >= 30, "datums run")
    pids = {int(line.split()[1]) for line in place.lines()}
    place.stop(signal.SIGKILL)
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "its workers end")
    place.start()
    place.clew("wait", commit.global_id)
    assert sorted(place.read("doubled").values()) == doubled_up_to(120)
