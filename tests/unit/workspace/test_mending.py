"""Squash, drop and delete where a pipeline hangs on the data: what was made goes with it."""

from __future__ import annotations

import pytest

from clew.base.errors import ClewError
from clew.base.settings import Settings
from clew.workspace import open_workspace

FILE = """
import clew

p = clew.Pipeline("p")
source = p.source("numbers")

@p.step(source.glob("/*.txt"), per="file")
def twice(number: str) -> str:
    return number * 2
"""
SOURCE, MADE = "p/numbers", "p/twice"


@pytest.fixture
def clew(tmp_path):
    file = tmp_path / "project" / "p.py"
    file.parent.mkdir()
    file.write_text(FILE)
    workspace = open_workspace(Settings(home=tmp_path / ".clew", workers=2), create=True)
    workspace.apply(file)
    yield workspace
    workspace.close()


def put(clew, name, text):
    commit = clew.put(SOURCE, {name: text.encode()})
    clew.wait(commit.global_id)
    return commit


def code(act, *arguments, **options):
    with pytest.raises(ClewError) as caught:
        act(*arguments, **options)
    return caught.value.code


def test_what_a_pipeline_made_goes_and_comes_with_its_source(clew):
    one, two, three = put(clew, "/a.txt", "1"), put(clew, "/b.txt", "2"), put(clew, "/b.txt", "3")
    made = {c.global_id: c for c in clew.log(MADE)}
    would = clew.drop(three.id, dry_run=True)
    assert [c.id for c in would.commits] == [three.id, made[three.global_id].id]
    assert would.heads == {f"{SOURCE}@main": two.id, f"{MADE}@main": made[two.global_id].id}

    done = clew.squash(two.id)
    assert {c.id for c in done.commits} == {two.id, made[two.global_id].id}
    assert [c.global_id for c in clew.log(MADE)] == [three.global_id, one.global_id]

    clew.drop(f"{SOURCE}@main", reason="wrong number")
    assert clew.commit(f"{MADE}@main").id == made[one.global_id].id
    assert len(clew.jobs()) == 3
    assert clew.why(three.id).subject.detail["state"] == "dropped"
    assert {node.kind for node in clew.why(made[three.global_id].id).nodes} >= {"job", "commit"}

    four = put(clew, "/c.txt", "4")
    (job,) = [job for job in clew.jobs() if job.global_id == four.global_id]
    assert (job.state, job.done, job.skipped) == ("done", 1, 1)
    assert [clew.read(f"{MADE}:{file.path}") for file in clew.ls(MADE, recursive=True)] == [
        b"11",
        b"44",
    ]


def test_what_a_pipeline_uses_or_makes_is_not_taken_from_it(clew):
    commit = put(clew, "/a.txt", "1")
    assert [b.read_by for b in clew.branches(SOURCE)] == [("p/twice",)]
    assert [b.written_by for b in clew.branches(MADE)] == [("p/twice",)]
    assert code(clew.delete_branch, SOURCE, "main") == "branch.used"
    assert code(clew.delete_repo, SOURCE) == "repo.held"
    holders = clew.delete_repo(SOURCE, dry_run=True).holders
    assert {(one.kind, one.id) for one in holders} == {("pipeline", "p/twice"), ("commit", MADE)}
    assert code(clew.drop, f"{MADE}@main") == "repo.derived"
    assert code(clew.squash, clew.commit(f"{MADE}@main").id) == "repo.derived"
    waiting = clew.put(SOURCE, {"/b.txt": b"2"})
    assert code(clew.drop, waiting.id, force=True) == "commit.held"
    assert code(clew.squash, commit.id, last=waiting.id) == "squash.head"
    clew.wait(waiting.global_id)
    assert clew.drop(waiting.id).done
    staged = clew.put(SOURCE, {"/s.txt": b"9"}, branch="staging")
    assert clew.jobs(state="waiting") == []
    moved = clew.move_branch(SOURCE, "main", "staging")
    assert staged.tree == moved.tree
    clew.wait(f"{SOURCE}@main")
    assert len(clew.ls(MADE, recursive=True)) == 2
