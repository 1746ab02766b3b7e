"""Any order of operations on versions against a plain model: a graph of dicts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clew.base.errors import ClewError, Conflict
from clew.db import Database
from clew.repos import Repos
from clew.store import Entry, Store

REPOS = ("one", "two")
BRANCHES = ("main", "dev", "side")
TAGS = ("v1", "v2")
PATHS = ("/a", "/b", "/d/x", "/d/y", "/e")
files = st.dictionaries(st.sampled_from(PATHS), st.binary(max_size=2), max_size=2)
picks = st.integers(0, 10_000)


class Node:
    """A commit of the model."""

    def __init__(self, repo, id, tree, parents, provenance, gid):
        self.repo, self.id, self.tree = repo, id, tree
        self.parents, self.provenance, self.gid = list(parents), provenance, gid


class VersionsMachine(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.directory = tempfile.TemporaryDirectory()
        home = Path(self.directory.name)
        self.db = Database.open(f"sqlite:///{home / 'clew.db'}")
        self.db.create()
        self.repos = Repos(self.db, Store.open(home / "store"))
        for name in REPOS:
            self.repos.create(name)
        self.nodes = {}  # id → Node
        self.order = []  # ids, oldest first
        self.heads = {}  # (repo, branch) → id or None
        self.tags = {}  # (repo, tag) → id
        self.open = {}  # id → (repo, branch, parent, base tree, tree)
        self.gone = set()
        for name in REPOS:
            self.commit((name, "main"), {"/a": b""}, [])

    def teardown(self):
        if hasattr(self, "db"):
            self.db.close()
            self.directory.cleanup()

    # the model ----------------------------------------------------------------------------------

    def learn(self, commit, tree, *parents):
        node = Node(commit.repo, commit.id, tree, parents, set(commit.provenance), commit.global_id)
        self.nodes[commit.id] = node
        self.order.append(commit.id)
        self.heads[commit.repo, commit.branch] = commit.id

    def tree_of(self, place):
        head = self.heads.get(place)
        return dict(self.nodes[head].tree) if head else {}

    def pick(self, number, ids=None):
        ids = list(self.order if ids is None else ids)
        return self.nodes[ids[number % len(ids)]]

    def ancestors(self, id):
        found, queue = set(), [id]
        while queue:
            one = queue.pop()
            if one is not None and one not in found:
                found.add(one)
                queue += self.nodes[one].parents
        return found

    def children(self, id):
        return [node for node in self.nodes.values() if id in node.parents]

    def first_children(self, id):
        return [node for node in self.nodes.values() if node.parents[:1] == [id]]

    def heads_at(self, id):
        return [place for place, head in self.heads.items() if head == id]

    def held(self, id):
        """Whether a tag, an open commit or a commit made from it keeps a commit."""
        return (
            id in self.tags.values()
            or any(parent == id for _, _, parent, _, _ in self.open.values())
            or any(id in n.provenance and id not in n.parents for n in self.nodes.values())
        )

    # writing ------------------------------------------------------------------------------------

    @rule(
        place=st.tuples(st.sampled_from(REPOS), st.sampled_from(BRANCHES)),
        puts=files,
        gone=st.lists(st.sampled_from(PATHS), max_size=1),
    )
    def commit(self, place, puts, gone):
        tree = self.tree_of(place)
        gone = [path for path in gone if path in tree]
        parent = self.heads.get(place)
        done = self.repos.commit(place[0], puts, gone, branch=place[1])
        kept = {path: data for path, data in tree.items() if path not in gone}
        self.learn(done, kept | puts, *([parent] if parent else []))

    @rule(
        place=st.tuples(st.sampled_from(REPOS), st.sampled_from(BRANCHES)),
        path=st.sampled_from(PATHS),
        data=st.binary(max_size=3),
    )
    def append(self, place, path, data):
        tree, parent = self.tree_of(place), self.heads.get(place)
        done = self.repos.commit(place[0], {}, branch=place[1], appends={path: data})
        tree[path] = tree.get(path, b"") + data
        self.learn(done, tree, *([parent] if parent else []))

    @rule(place=st.tuples(st.sampled_from(REPOS), st.sampled_from(BRANCHES)), number=picks)
    def copy(self, place, number):
        source = self.pick(number)
        tree, parent = self.tree_of(place), self.heads.get(place)
        commit = self.repos.commit_by_id(source.id)
        entries = [
            Entry(path=info.path, digest=info.digest, size_bytes=info.size_bytes)
            for info in self.repos.entries(commit)
        ]
        provenance = [] if source.repo == place[0] else [source.id]
        done = self.repos.commit(
            place[0], {}, branch=place[1], entries=entries, provenance=provenance
        )
        self.learn(done, tree | source.tree, *([parent] if parent else []))

    @rule(place=st.tuples(st.sampled_from(REPOS), st.sampled_from(BRANCHES)))
    def open_one(self, place):
        commit = self.repos.open_commit(place[0], branch=place[1], writable=True)
        self.heads.setdefault(place, None)
        tree = self.tree_of(place)
        self.open[commit.id] = (*place, self.heads[place], tree, dict(tree))

    @precondition(lambda self: self.open)
    @rule(number=picks, puts=files, append=st.booleans(), gone=st.sampled_from(PATHS))
    def stage(self, number, puts, append, gone):
        id = list(self.open)[number % len(self.open)]
        tree = self.open[id][4]
        deletes = [gone] if gone in tree and gone not in puts else []
        if append:
            self.repos.stage(id, {}, deletes, appends=puts)
        else:
            self.repos.stage(id, puts, deletes)
        for path in deletes:
            del tree[path]
        for path, data in puts.items():
            tree[path] = tree.get(path, b"") + data if append else data

    @precondition(lambda self: self.open)
    @rule(number=picks)
    def finish(self, number):
        id = list(self.open)[number % len(self.open)]
        repo, branch, _, base, tree = self.open.pop(id)
        now, parent = self.tree_of((repo, branch)), self.heads.get((repo, branch))
        done = self.repos.finish_staged(id)
        for path in base.keys() | tree.keys():
            if base.get(path) != tree.get(path):
                now.pop(path, None)
                if path in tree:
                    now[path] = tree[path]
        self.learn(done, now, *([parent] if parent else []))

    @precondition(lambda self: self.open)
    @rule(number=picks)
    def abort(self, number):
        id = list(self.open)[number % len(self.open)]
        del self.open[id]
        assert self.repos.abort(id, "why").tree == ""

    # branches and tags --------------------------------------------------------------------------

    @rule(number=picks, name=st.sampled_from(BRANCHES))
    def branch(self, number, name):
        at = self.pick(number)
        if (at.repo, name) in self.heads:
            with pytest.raises(Conflict):
                self.repos.create_branch(at.repo, name, at.id)
        else:
            self.repos.create_branch(at.repo, name, at.id)
            self.heads[at.repo, name] = at.id

    @rule(place=st.tuples(st.sampled_from(REPOS), st.sampled_from(BRANCHES[1:])))
    def forget_branch(self, place):
        busy = any((repo, branch) == place for repo, branch, *_ in self.open.values())
        if place not in self.heads or busy:
            with pytest.raises(ClewError):
                self.repos.delete_branch(*place)
        else:
            self.repos.delete_branch(*place)
            del self.heads[place]

    @rule(number=picks, name=st.sampled_from(BRANCHES))
    def move(self, number, name):
        goal = self.pick(number)
        if self.heads.get((goal.repo, name)) == goal.id:
            return
        moved = self.repos.move_branch(goal.repo, name, goal.id)
        self.learn(moved, goal.tree, goal.id)

    @rule(number=picks, name=st.sampled_from(TAGS), force=st.booleans())
    def tag(self, number, name, force):
        goal = self.pick(number)
        old = self.tags.get((goal.repo, name))
        if old not in (None, goal.id) and not force:
            with pytest.raises(Conflict):
                self.repos.tag(goal.repo, name, goal.id)
        else:
            self.repos.tag(goal.repo, name, goal.id, force=force)
            self.tags[goal.repo, name] = goal.id

    @precondition(lambda self: self.tags)
    @rule(number=picks)
    def forget_tag(self, number):
        place = list(self.tags)[number % len(self.tags)]
        del self.tags[place]
        self.repos.delete_tag(*place)

    # merge --------------------------------------------------------------------------------------

    @rule(
        number=picks,
        place=st.tuples(st.sampled_from(REPOS), st.sampled_from(BRANCHES)),
        strategy=st.sampled_from(["fail", "ours", "theirs"]),
    )
    def merge(self, number, place, strategy):
        repo, into = place
        theirs = self.pick(number, [id for id in self.order if self.nodes[id].repo == repo])
        if place not in self.heads:
            with pytest.raises(ClewError):
                self.repos.merge(repo, theirs.id, into)
            return
        head = self.heads[place]
        common = self.ancestors(theirs.id) & self.ancestors(head) if head else set()
        base = max(common, key=self.order.index, default=None)
        if base == theirs.id:
            assert self.repos.merge(repo, theirs.id, into, strategy=strategy).kind == "nothing"
            return
        if head is None or base == head:
            done = self.repos.merge(repo, theirs.id, into, strategy=strategy)
            assert (done.kind, done.commit.parent) == ("forward", theirs.id)
            self.learn(done.commit, theirs.tree, theirs.id)
            return
        old = self.nodes[base].tree if base else {}
        ours = self.nodes[head].tree
        result, conflicts = dict(ours), set()
        for path in old.keys() | theirs.tree.keys():
            before, mine, other = old.get(path), ours.get(path), theirs.tree.get(path)
            if other in (before, mine):
                continue
            if mine != before:
                conflicts.add(path)
                if strategy != "theirs":
                    continue
            result.pop(path, None)
            if other is not None:
                result[path] = other
        plan = self.repos.merge(repo, theirs.id, into, strategy=strategy, dry_run=True)
        assert {one.path for one in plan.conflicts} == conflicts
        assert plan.base == base
        if conflicts and strategy == "fail":
            with pytest.raises(Conflict) as caught:
                self.repos.merge(repo, theirs.id, into)
            assert caught.value.code == "merge.conflict"
            return
        done = self.repos.merge(repo, theirs.id, into, strategy=strategy)
        assert (done.commit.parent, done.commit.merged) == (head, theirs.id)
        self.learn(done.commit, result, head, theirs.id)

    # mending ------------------------------------------------------------------------------------

    @rule(number=picks)
    def squash(self, number):
        node = self.pick(number)
        kept = self.held(node.id) or self.heads_at(node.id) or not self.first_children(node.id)
        would = self.repos.squash(node.id, dry_run=True)
        assert bool(would.holders) == bool(kept)
        if kept:
            with pytest.raises(Conflict):
                self.repos.squash(node.id)
            return
        assert self.repos.squash(node.id).done
        for child in self.children(node.id):
            child.parents = [p for one in child.parents for p in self._up(one, node)]
        self.forget(node)

    def _up(self, one, node):
        return (node.parents[:1] or [None]) if one == node.id else [one]

    @rule(number=picks)
    def drop(self, number):
        node = self.pick(number)
        kept = self.held(node.id) or self.children(node.id)
        if sum(one.repo == node.repo for one in self.nodes.values()) == 1:
            return  # each repo keeps one, so that there is something to pick
        if kept:
            with pytest.raises(Conflict):
                self.repos.drop(node.id)
            return
        assert self.repos.drop(node.id).done
        for place in self.heads_at(node.id):
            self.heads[place] = node.parents[0] if node.parents else None
        self.forget(node)

    def forget(self, node):
        del self.nodes[node.id]
        self.order.remove(node.id)
        self.gone.add(node.id)

    # what must hold -----------------------------------------------------------------------------

    @precondition(lambda self: self.nodes)
    @rule(number=picks, up=st.integers(0, 40))
    def ancestors_are_found(self, number, up):
        node = self.pick(number)
        goal = node.id
        for _ in range(up):
            goal = self.first_parent(goal) if goal else None
        if goal is None:
            with pytest.raises(ClewError):
                self.repos.resolve(f"{node.repo}@{node.id}^{up}")
        else:
            assert self.repos.resolve(f"{node.repo}@{node.id}^{up}").id == goal

    def first_parent(self, id):
        parents = self.nodes[id].parents
        return parents[0] if parents else None

    @rule(number=picks, path=st.sampled_from(PATHS))
    def the_history_of_a_path_is_found(self, number, path):
        node = self.pick(number)
        expected, at = [], node.id
        while at is not None:
            parent = self.first_parent(at)
            before = self.nodes[parent].tree.get(path) if parent else None
            if before != self.nodes[at].tree.get(path):
                expected.append(at)
            at = parent
        commit = self.repos.commit_by_id(node.id)
        assert [found.commit.id for found in self.repos.find(commit, path, 1000)] == expected

    @rule(number=picks)
    def content_is_as_in_the_model(self, number):
        node = self.pick(number)
        commit = self.repos.resolve(f"{node.repo}@{node.id}")
        found = {i.path: self.repos.read(commit, i.path) for i in self.repos.entries(commit)}
        assert found == node.tree
        assert [p for p in (commit.parent, commit.merged) if p] == [
            parent for parent in node.parents if parent
        ]
        for id, (*_, tree) in self.open.items():
            opened = self.repos.commit_by_id(id)
            assert {
                i.path: self.repos.read(opened, i.path) for i in self.repos.entries(opened)
            } == tree

    @rule()
    def what_is_gone_says_so(self):
        for id in list(self.gone)[-3:]:
            with pytest.raises(ClewError) as caught:
                self.repos.commit_by_id(id)
            assert caught.value.code == "commit.gone"

    @invariant()
    def refs_are_as_in_the_model(self):
        for repo in REPOS:
            heads = {name: head for (name_of, name), head in self.heads.items() if name_of == repo}
            assert self.repos.branches(repo) == heads
            tags = {tag.name: tag.commit for tag in self.repos.tags(repo)}
            assert tags == {name: id for (of, name), id in self.tags.items() if of == repo}


TestVersionsMachine = VersionsMachine.TestCase
TestVersionsMachine.settings = settings(max_examples=6, stateful_step_count=40, deadline=None)


@pytest.mark.slow
class TestVersionsMachineLong(VersionsMachine.TestCase):
    settings = settings(max_examples=250, stateful_step_count=60, deadline=None)
