"""Several writers at once, in threads and in processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import pairwise

from clew.db import Database
from clew.repos import Repos
from clew.store import Store
from clew.testing.postgres import database_url

WRITE = """
import sys
from pathlib import Path
from clew.db import Database
from clew.testing.postgres import database_url
from clew.repos import Repos
from clew.store import Store
home, name = Path(sys.argv[1]), sys.argv[2]
repos = Repos(Database.open(database_url(home)), Store.open(home / "store"))
for number in range(25):
    repos.commit("raw", {f"/{name}/{number}": name.encode(), "/last": f"{name}{number}".encode()})
"""


def check_nothing_is_lost(repos, names, count):
    log = repos.log("raw", limit=1000)
    assert len(log) == len(names) * count
    assert [commit.parent for commit in log] == [*(commit.id for commit in log[1:]), None]
    assert len({commit.global_id for commit in log}) == len(log)
    paths = {info.path for info in repos.entries(log[0])}
    assert paths == {f"/{name}/{n}" for name in names for n in range(count)} | {"/last"}
    for commit, parent in pairwise(log):
        changed = {change.path for change in repos.diff(parent, commit)}
        assert len(changed) == 2
        assert "/last" in changed


def test_processes_that_commit_to_one_branch_lose_nothing(repos, tmp_path):
    names = ["p", "q", "r", "s"]
    children = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), name]) for name in names
    ]
    assert [child.wait() for child in children] == [0] * 4
    check_nothing_is_lost(repos, names, 25)


def test_threads_that_commit_to_one_branch_lose_nothing(tmp_path):
    db = Database.open(database_url(tmp_path))
    db.create()
    repos = Repos(db, Store.open(tmp_path / "store"))
    repos.create("raw")

    def write(name):
        for number in range(10):
            puts = {f"/{name}/{number}": name.encode(), "/last": f"{name}{number}".encode()}
            repos.commit("raw", puts)

    threads = [threading.Thread(target=write, args=[name]) for name in "pqrs"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_nothing_is_lost(repos, "pqrs", 10)
    db.close()


def test_of_two_that_finish_on_the_same_parent_one_wins(repos):
    repos.create("trees")
    trees = [repos.commit("trees", {"/t": bytes([n])}).tree for n in range(8)]
    opened = [repos.open_commit("raw") for _ in trees]
    outcomes = {}

    def finish(commit, tree):
        try:
            outcomes[commit.id] = repos.finish(commit.id, tree).state
        except Exception as error:
            outcomes[commit.id] = error.code

    threads = [
        threading.Thread(target=finish, args=pair) for pair in zip(opened, trees, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes.values()) == ["branch.moved"] * 7 + ["finished"]
    winner = next(id for id, outcome in outcomes.items() if outcome == "finished")
    assert repos.head("raw").id == winner
