"""Any order of work, upkeep and accidents on repos against a perfect model: dicts of lists."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clew.base.errors import Conflict
from clew.db import Database
from clew.repos import Repos
from clew.store import Store
from clew.store.local import Disk

REPOS = ("one", "two")
paths = st.sampled_from(["/a", "/b", "/d/x", "/d/y"])
contents = st.sampled_from([b"", b"x" * 200, b"y" * 3000, b"z" * 1_100_000])
repos = st.sampled_from(REPOS)
branches = st.sampled_from(["main", "side"])
steps = st.integers(1, 12)


class Accident(Exception):
    """The process is gone."""


class Frail(Disk):
    """Fails for good at the n-th step from :meth:`arm`; syncs nothing, as nobody pulls the plug."""

    def __init__(self):
        self.left = 0

    def arm(self, n):
        self.left = n

    def _step(self):
        if self.left:
            self.left -= 1
            if not self.left:
                self.left = -1
        if self.left < 0:
            raise Accident

    def write(self, descriptor, parts):
        self._step()
        super().write(descriptor, parts)

    def sync(self, descriptor):
        self._step()

    def rename(self, source, target):
        self._step()
        super().rename(source, target)

    def sync_directory(self, directory):
        self._step()

    def remove(self, path):
        self._step()
        super().remove(path)


class UpkeepMachine(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.directory = tempfile.TemporaryDirectory()
        self.home = Path(self.directory.name)
        self.db = Database.open(f"sqlite:///{self.home / 'clew.db'}")
        self.db.create()
        self.open()
        for name in REPOS:
            self.repos.create(name)
        self.accidents = 0
        self.model = {name: {} for name in REPOS}  # repo → branch → files of its commits

    def open(self):
        self.disk = Frail()
        store = Store.open(self.home / "store", disk=self.disk)
        store._leases.linger_s = 0.0
        self.repos = Repos(self.db, store)

    @rule(repo=repos, branch=branches, path=paths, content=contents)
    def put(self, repo, branch, path, content):
        self.repos.commit(repo, {path: content}, branch=branch)
        line = self.model[repo].setdefault(branch, [])
        line.append((line[-1] if line else {}) | {path: content})

    @rule(repo=repos, branch=branches, path=paths)
    def delete(self, repo, branch, path):
        line = self.model[repo].get(branch)
        if line and path in line[-1]:
            self.repos.commit(repo, {}, [path], branch=branch)
            line.append({name: data for name, data in line[-1].items() if name != path})

    @rule(repo=repos)
    def branch(self, repo):
        line = self.model[repo].get("main")
        if line and "copy" not in self.model[repo]:
            self.repos.create_branch(repo, "copy", at=self.repos.head(repo).id)
            self.model[repo]["copy"] = list(line)

    @rule(repo=repos)
    def forget_branch(self, repo):
        if self.model[repo].pop("copy", None) is not None:
            self.repos.delete_branch(repo, "copy")

    @rule(repo=repos, branch=branches)
    def drop(self, repo, branch):
        line = self.model[repo].get(branch)
        if not line:
            return
        head = self.repos.head(repo, branch).id
        shared = [name for name, id in self.repos.branches(repo).items() if id == head]
        try:
            self.repos.drop(head)
        except Conflict:  # a copy goes on from it
            return
        for name in shared:
            self.model[repo][name].pop()

    @rule(repo=repos)
    def start_anew(self, repo):
        self.repos.delete(repo, force=True)
        self.repos.create(repo)
        self.model[repo] = {}

    @rule(thorough=st.booleans())
    def collect(self, thorough):
        self.repos.collect([], thorough=thorough, wait_s=10)

    @rule()
    def tell(self):
        self.repos.settle()

    @rule()
    def reopen(self):
        self.open()

    @rule(n=steps, thorough=st.booleans())
    def die_while_collecting(self, n, thorough):
        self.disk.arm(n)
        with suppress(Accident):
            self.repos.collect([], thorough=thorough, wait_s=10)
        self.open()

    @rule(n=steps, repo=repos, content=contents)
    def die_while_putting(self, n, repo, content):
        before = self.repos.branches(repo).get("main")
        self.disk.arm(n)
        with suppress(Accident):
            self.repos.commit(repo, {"/a": content})
        self.open()
        self.accidents += 1
        if self.repos.branches(repo).get("main") != before:
            line = self.model[repo].setdefault("main", [])
            line.append((line[-1] if line else {}) | {"/a": content})

    @precondition(lambda self: any(self.model.values()))
    @rule()
    def rebuild(self):
        self.repos.settle()
        db = Database.open(f"sqlite:///{self.home / 'anew.db'}")
        try:
            db.create()
            anew = Repos(db, Store.open(self.home / "store"))
            report = anew.rebuild()
            assert len(report.unconfirmed) <= self.accidents  # flushed, and then died
            for name in REPOS:
                for branch, head in self.repos.branches(name).items():
                    now = anew.branches(name)[branch]
                    assert now == head or now in report.unconfirmed
        finally:
            db.close()
            for path in self.home.glob("anew.db*"):
                path.unlink()

    @rule()
    def check(self):
        assert self.repos.check([]).problems == ()

    @invariant()
    def everything_is_there(self):
        for repo, lines in getattr(self, "model", {}).items():
            for branch, line in lines.items():
                if not line:
                    continue
                head = self.repos.head(repo, branch)
                there = {
                    info.path: self.repos._store.read(info.digest)
                    for info in self.repos.entries(head)
                }
                assert there == line[-1]

    def teardown(self):
        if hasattr(self, "db"):
            assert self.repos.check([]).problems == ()
            self.db.close()
            self.directory.cleanup()


UpkeepMachine.TestCase.settings = settings(
    max_examples=6, stateful_step_count=25, deadline=None, derandomize=True
)
TestUpkeep = UpkeepMachine.TestCase


class LongUpkeep(UpkeepMachine):
    """The same, for 12,000 steps."""


LongUpkeep.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
class TestLongUpkeep(LongUpkeep.TestCase):
    pass
