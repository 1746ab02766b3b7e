"""A process that is killed at any step of a commit leaves the old state or the new one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sqlalchemy as sa

from clew.db import Database
from clew.repos import RepoChange, Repos
from clew.store import Store
from clew.testing.postgres import database_url

# Makes STEP directories with the same first commits, and in each lets a process of its own make
# the next change, which dies at its STEP-th write to disk, statement or commit.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from clew.db import Database
from clew.testing.postgres import database_url
from clew.repos import RepoChange, Repos
from clew.store import Store
from clew.store.local import Disk

class Death:
    def __init__(self, step): self.left = step
    def tick(self, *_, **__):
        self.left -= 1
        if self.left == 0: os.kill(os.getpid(), signal.SIGKILL)

class DyingDisk(Disk):
    def __init__(self, death): self.death = death
    def write(self, descriptor, parts):
        self.death.tick()
        for part in parts[:-1]: super().write(descriptor, [part])
        self.death.tick()
        super().write(descriptor, parts[-1:])
    def sync(self, descriptor):
        self.death.tick(); super().sync(descriptor)
    def rename(self, source, target):
        self.death.tick(); super().rename(source, target); self.death.tick()
    def sync_directory(self, directory):
        self.death.tick(); super().sync_directory(directory)

def open_at(home, disk=None):
    db = Database.open(database_url(home))
    db.create()
    repos = Repos(db, Store.open(home / "store", disk=disk))
    def listen(tx, commits, global_id):
        repos.open_commit("out", global_id=global_id, tx=tx, provenance=[c.id for c in commits])
    return db, repos, listen

def prepare(home):
    home.mkdir()
    db, repos, _ = open_at(home)
    for name in ("raw", "weather", "out"): repos.create(name)
    repos.commit_many([RepoChange(repo=r, puts={"/a": b"old"}) for r in ("raw", "weather")])
    db.close()

def change(home, step):
    death = Death(step)
    db, repos, listen = open_at(home, DyingDisk(death))
    repos.listeners.append(listen)
    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        sa.event.listen(db._engine, moment, death.tick)
    puts = {"/a": b"new", "/b": b"more"}
    repos.commit_many([RepoChange(repo=r, puts=puts) for r in ("raw", "weather")])
    death.tick()

root = Path(sys.argv[1])
for step in range(1, 1000):
    prepare(root / str(step))
    child = os.fork()
    if child == 0:
        change(root / str(step), step)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    root = tmp_path_factory.mktemp("crash")
    subprocess.run([sys.executable, "-c", SCRIPT, str(root)], check=True)
    return sorted(root.iterdir(), key=lambda home: int(home.name))


def content(repos, repo):
    head = repos.head(repo)
    return {info.path: repos.read(head, info.path) for info in repos.entries(head)}


OLD = {"/a": b"old"}
NEW = {"/a": b"new", "/b": b"more"}


def test_every_ref_is_old_or_new_and_no_half_commit_is_visible(homes):
    seen = []
    for home in homes:
        db = Database.open(database_url(home))
        db.create()
        store = Store.open(home / "store")
        repos = Repos(db, store)
        new = content(repos, "raw") == NEW
        expected = NEW if new else OLD
        assert content(repos, "raw") == content(repos, "weather") == expected, home.name
        assert len(repos.log("raw", None)) == len(repos.log("out", None)) + 1 == 1 + new
        assert len(db.events.after(0)) == (4 if new else 2)
        assert store.fsck() == []
        if database_url(home).startswith("sqlite"):
            with db.read() as tx:
                assert tx.execute(sa.text("pragma integrity_check")).scalar() == "ok"
        again = repos.commit_many([RepoChange(repo="raw", puts={"/c": b"after"})])[0]
        assert repos.read(again, "/c") == b"after"
        seen.append(new)
        db.close()
    assert seen == sorted(seen)  # once the commit stands, no later step takes it back
    assert seen[0] is False
    assert seen[-1] is True
    assert len(seen) > 20
