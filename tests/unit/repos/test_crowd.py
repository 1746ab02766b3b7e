"""Many processes write while garbage is collected all the time: nothing is lost, nothing hangs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from clew.db import Database
from clew.repos import Repos
from clew.store import Store

WRITE = """
import sys
from pathlib import Path
from clew.db import Database
from clew.repos import Repos
from clew.store import Store
home, name, branch, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
db = Database.open(f"sqlite:///{home / 'clew.db'}"); db.create()
store = Store.open(home / "store"); store._leases.linger_s = 0.0
repos = Repos(db, store)
for number in range(count):
    # every content is garbage before and after, and shared with others: they lean on each other
    shared = b"shared %d" % (number % 5) * 50
    own = repos.commit("own", {"/x": shared + b"!"}, branch=name)
    commit = repos.commit("raw", {f"/{name}/{number}": shared, f"/{name}/own": name.encode()},
                          branch=branch)
    print(commit.id, flush=True)
    repos.drop(own.id)
db.close()
"""

COLLECT = """
import sys
from pathlib import Path
from clew.db import Database
from clew.repos import Repos
from clew.store import Store
home = Path(sys.argv[1])
db = Database.open(f"sqlite:///{home / 'clew.db'}"); db.create()
store = Store.open(home / "store"); store._leases.linger_s = 0.0
repos = Repos(db, store)
rounds = gone = 0
while not (home / "stop").exists():
    report = repos.collect([], thorough=bool(rounds % 2), wait_s=0.3)
    rounds += 1
    gone += report.objects
print(rounds, gone)
db.close()
"""


def start(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def crowd(home, writers, commits):
    """Half of the writers on one branch, half on branches of their own, one that collects."""
    db = Database.open(f"sqlite:///{home / 'clew.db'}")
    db.create()
    repos = Repos(db, Store.open(home / "store"))
    for name in ("raw", "own"):
        repos.create(name)
    collector = start(COLLECT, home)
    names = [f"w{number}" for number in range(writers)]
    branches = {name: "main" if at < writers // 2 else name for at, name in enumerate(names)}
    processes = {name: start(WRITE, home, name, branches[name], commits) for name in names}
    told = {}
    for name, process in processes.items():
        out, error = process.communicate(timeout=250)
        assert process.returncode == 0, error
        told[name] = out.split()
        assert len(told[name]) == commits
    (home / "stop").touch()
    out, error = collector.communicate(timeout=60)
    assert collector.returncode == 0, error
    rounds, gone = map(int, out.split())
    assert rounds > 3
    assert gone > 0
    check(repos, names, branches, told, commits)
    db.close()


def check(repos, names, branches, told, commits):
    for branch in {*branches.values()}:
        there = {commit.id for commit in repos.log("raw", branch, 10_000)}
        on_it = [name for name in names if branches[name] == branch]
        assert {id for name in on_it for id in told[name]} <= there
        files = {info.path for info in repos.entries(repos.head("raw", branch))}
        for name in on_it:
            assert {f"/{name}/{number}" for number in range(commits)} < files
        for info in repos.entries(repos.head("raw", branch)):
            assert repos._store.read(info.digest)
    assert repos.check([]).problems == ()
    repos.collect([], thorough=True, wait_s=30)
    assert repos.check([]).problems == ()


def test_writers_on_one_branch_and_on_their_own_beside_a_collector(tmp_path):
    crowd(tmp_path, 4, 5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_eight_writers_on_one_branch_and_eight_on_their_own_beside_a_collector(tmp_path):
    crowd(tmp_path, 16, 25)
