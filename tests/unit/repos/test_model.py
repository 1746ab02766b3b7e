"""Any order of operations on repos against a perfect model: dicts of dicts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from clew.base.errors import Conflict, NotFound
from clew.db import Database
from clew.lineage import Lineage
from clew.repos import RepoChange, Repos
from clew.store import Store
from clew.testing.postgres import database_url

REPOS = ("one", "two")
BRANCHES = ("main", "dev")
names = st.sampled_from(["/a", "/b", "/d/x", "/d/y", "/e/f/g"])
files = st.dictionaries(names, st.binary(max_size=3), max_size=3)
places = st.tuples(st.sampled_from(REPOS), st.sampled_from(BRANCHES))


class ReposMachine(RuleBasedStateMachine):
    finished = Bundle("finished")
    opened = Bundle("opened")

    @initialize()
    def start(self):
        self.directory = tempfile.TemporaryDirectory()
        home = Path(self.directory.name)
        self.db = Database.open(database_url(home))
        self.db.create()
        self.repos = Repos(self.db, Store.open(home / "store"))
        self.heard = []
        self.repos.listeners.append(lambda tx, commits, gid: self.heard.extend(commits))
        for name in REPOS:
            self.repos.create(name)
        self.heads = {}  # (repo, branch) → id of the head
        self.files = {}  # commit id → its files
        self.parents = {}  # commit id → parent id
        self.branches = {repo: set() for repo in REPOS}

    def learn(self, commit, files, parent):
        self.branches[commit.repo].add(commit.branch)
        self.files[commit.id] = files
        self.parents[commit.id] = parent
        self.heads[commit.repo, commit.branch] = commit.id

    @rule(target=finished, place=places, puts=files, gone=st.sets(names, max_size=2))
    def commit(self, place, puts, gone):
        repo, branch = place
        parent = self.heads.get(place)
        before = self.files.get(parent, {})
        gone = sorted(gone & set(before))
        commit = self.repos.commit(repo, puts, gone, branch=branch)
        kept = {path: data for path, data in before.items() if path not in gone}
        self.learn(commit, kept | puts, parent)
        return commit

    @rule(target=finished, puts=files, branch=st.sampled_from(BRANCHES))
    def replace_in_both(self, puts, branch):
        changes = [RepoChange(repo=repo, branch=branch, puts=puts, replace=True) for repo in REPOS]
        commits = self.repos.commit_many(changes)
        for commit in commits:
            self.learn(commit, puts, self.heads.get((commit.repo, branch)))
        return commits[1]

    @rule(target=opened, place=places)
    def open(self, place):
        commit = self.repos.open_commit(place[0], branch=place[1])
        assert commit.parent == self.heads.get(place)
        self.branches[place[0]].add(place[1])
        return commit

    @rule(target=finished, commit=opened, source=finished, rebase=st.booleans())
    def finish(self, commit, source, rebase):
        head = self.heads.get((commit.repo, commit.branch))
        state = self.repos.commit_by_id(commit.id).state
        if state != "open" or (head != commit.parent and not rebase):
            with pytest.raises(Conflict) as caught:
                self.repos.finish(commit.id, source.tree, rebase=rebase)
            assert caught.value.code == ("branch.moved" if state == "open" else "commit.not_open")
            return source
        done = self.repos.finish(commit.id, source.tree, provenance=[source.id], rebase=rebase)
        self.learn(done, self.files[source.id], head)
        nodes, _ = Lineage(self.db).walk(done.id, "up")
        assert nodes[0].id == source.id
        return done

    @rule(commit=consumes(opened))
    def abort(self, commit):
        if self.repos.commit_by_id(commit.id).state == "open":
            assert self.repos.abort(commit.id, "why").error == "why"

    @rule(target=finished, commit=finished, branch=st.sampled_from(BRANCHES))
    def move(self, commit, branch):
        head = self.heads.get((commit.repo, branch))
        moved = self.repos.move_branch(commit.repo, branch, commit.id, expected=head)
        if head != commit.id:
            self.learn(moved, self.files[commit.id], commit.id)
        return moved

    @rule(place=places, puts=files)
    def roll_back(self, place, puts):
        def refuse(tx, commits, global_id):
            raise ZeroDivisionError

        self.repos.listeners.append(refuse)
        with pytest.raises(ZeroDivisionError):
            self.repos.commit(place[0], puts, branch=place[1])
        self.repos.listeners.pop()
        self.heard = [commit for commit in self.heard if commit.id in self.files]

    @rule(commit=finished, up=st.integers(0, 3))
    def resolve(self, commit, up):
        assert self.repos.resolve(f"{commit.repo}@{commit.id}") == commit
        assert self.repos.resolve(f"{commit.repo}@{commit.id[:12]}") == commit
        assert self.repos.resolve(f"{commit.repo}@{commit.global_id}") == commit
        assert commit in self.repos.of_change(commit.global_id)
        goal = commit.id
        for _ in range(up):
            goal = self.parents.get(goal)
        ref = f"{commit.repo}@{commit.id}^{up}"
        if goal is None:
            with pytest.raises(NotFound):
                self.repos.resolve(ref)
        else:
            assert self.repos.resolve(ref).id == goal

    @rule(old=finished, new=finished)
    def diff(self, old, new):
        before, after = self.files[old.id], self.files[new.id]
        expected = {p for p in before | after if before.get(p) != after.get(p)}
        assert {change.path for change in self.repos.diff(old, new)} == expected

    @invariant()
    def heads_are_as_in_the_model(self):
        for repo in REPOS:
            heads = {branch: self.heads.get((repo, branch)) for branch in self.branches[repo]}
            assert self.repos.branches(repo) == heads
        for place, id in self.heads.items():
            head = self.repos.head(*place)
            assert head.id == id
            found = {i.path: self.repos.read(head, i.path) for i in self.repos.entries(head)}
            assert found == self.files[id]
            assert head.files == len(found)

    @invariant()
    def logs_are_chains(self):
        for (repo, branch), id in self.heads.items():
            chain = []
            while id is not None:
                chain.append(id)
                id = self.parents[id]
            log = [c for c in self.repos.log(repo, branch, limit=1000) if c.state == "finished"]
            assert [commit.id for commit in log] == chain

    @invariant()
    def every_finished_commit_was_heard_of_once(self):
        assert sorted(commit.id for commit in self.heard) == sorted(self.files)

    def teardown(self):
        if hasattr(self, "db"):
            self.db.close()
            self.directory.cleanup()


TestReposMachine = ReposMachine.TestCase
TestReposMachine.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
