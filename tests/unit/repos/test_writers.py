"""Many processes on one branch and in one open commit: nothing is lost, also not by kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys

WRITE = """
import sys
from pathlib import Path
from clew.db import Database
from clew.testing.postgres import database_url
from clew.repos import Repos
from clew.store import Store
home, name, opened = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
repos = Repos(Database.open(database_url(home)), Store.open(home / "store"))
for number in range(4):
    repos.commit("raw", {f"/{name}/{number}": name.encode()}, appends={"/log": b"x"})
    repos.stage(opened, {f"/open/{name}/{number}": b""}, appends={"/open/log": b"y"})
    print(number, flush=True)
if len(sys.argv) > 4:
    sys.stdin.read()
"""


def writers(tmp_path, opened, names, *more, **options):
    return [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(tmp_path), name, opened, *more],
            stdout=subprocess.PIPE,
            **options,
        )
        for name in names
    ]


def test_eight_processes_commit_append_and_write_to_one_open_commit(repos, tmp_path):
    names = "abcdefgh"
    opened = repos.open_commit("raw", writable=True)
    for child in writers(tmp_path, opened.id, names):
        child.communicate()
        assert child.returncode == 0
    log = repos.log("raw", limit=1000, branch="main")
    finished = [commit for commit in log if commit.state == "finished"]
    assert len(finished) == 8 * 4
    assert [c.parent for c in finished] == [*(c.id for c in finished[1:]), None]
    head = repos.head("raw")
    wanted = {f"/{name}/{number}" for name in names for number in range(4)}
    assert {info.path for info in repos.entries(head)} == wanted | {"/log"}
    assert repos.read(head, "/log") == b"x" * 32
    done = repos.finish_staged(opened.id)
    paths = {info.path for info in repos.entries(done)}
    assert paths == wanted | {"/log", "/open/log"} | {f"/open{path}" for path in wanted}
    assert repos.read(done, "/open/log") == b"y" * 32


def test_what_was_put_into_an_open_commit_outlives_a_kill(repos, tmp_path):
    opened = repos.open_commit("raw", writable=True)
    (child,) = writers(tmp_path, opened.id, "z", "stay", stdin=subprocess.PIPE)
    with child:
        while child.stdout.readline().strip() != b"3":
            pass
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    done = repos.finish_staged(opened.id)
    found = {info.path for info in repos.entries(done, "/open")}
    assert found == {f"/open/z/{number}" for number in range(4)} | {"/open/log"}
