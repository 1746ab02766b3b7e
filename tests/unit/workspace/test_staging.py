"""What waits on the branch staging is taken in once, and on top of what the branch became."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.base.errors import Conflict
from clew.base.ids import new_id
from clew.db import Database
from clew.repos import Repos
from clew.store import Store
from clew.testing.postgres import database_url
from clew.workspace.staging import take_staged


@pytest.fixture
def repos(tmp_path: Path):
    db = Database.open(database_url(tmp_path))
    db.create()
    repos = Repos(db, Store.open(tmp_path / "store"))
    repos.create("raw")
    repos.commit("raw", {"/a": b"a"})
    repos.create_branch("raw", "staging", repos.head("raw").id)
    yield repos
    db.close()


def take(repos: Repos) -> int:
    told: list[int] = []
    take_staged(
        repos,
        repos._store,
        ["raw"],
        branch="main",
        global_id=new_id(),
        message="a retraining",
        within=lambda _, commits: told.append(len(commits)),
    )
    return sum(told)


def files(repos: Repos) -> dict[str, bytes]:
    head = repos.head("raw")
    return {file.path: repos.read(head, file.path) for file in repos.entries(head)}


def test_what_waits_is_taken_in_once(repos):
    repos.commit("raw", {"/b": b"b"}, branch="staging")
    repos.commit("raw", {"/c": b"c"})
    assert take(repos) == 1
    assert files(repos) == {"/a": b"a", "/b": b"b", "/c": b"c"}
    assert take(repos) == 0


@pytest.mark.parametrize("how", ["taken", "moved", "merged"])
def test_what_was_taken_in_and_corrected_since_is_no_conflict(repos, how):
    staged = repos.commit("raw", {"/b": b"b"}, branch="staging")
    if how == "taken":
        take(repos)
    elif how == "moved":
        repos.move_branch("raw", "main", staged.id)
    else:
        repos.commit("raw", {"/other": b"o"})
        repos.merge("raw", staged.id, "main")
    repos.commit("raw", {"/b": b"corrected"})
    repos.commit("raw", {"/d": b"d"}, branch="staging")
    assert take(repos) == 1
    assert (files(repos)["/b"], files(repos)["/d"]) == (b"corrected", b"d")
    repos.commit("raw", {"/b": b"once more"}, branch="staging")
    assert take(repos) == 1, "only staging has changed it since"
    assert files(repos)["/b"] == b"once more"


def test_what_both_changed_since_is_a_conflict(repos):
    repos.commit("raw", {"/b": b"b"}, branch="staging")
    take(repos)
    repos.commit("raw", {"/b": b"ours"})
    repos.commit("raw", {"/b": b"theirs"}, branch="staging")
    with pytest.raises(Conflict, match="not alike: /b") as raised:
        take(repos)
    assert raised.value.code == "staging.conflict"
    assert files(repos)["/b"] == b"ours"


def test_a_file_that_goes_on_staging_goes(repos):
    repos.commit("raw", {"/b": b"b"}, branch="staging")
    take(repos)
    repos.commit("raw", {}, ["/b"], branch="staging")
    assert take(repos) == 1
    assert list(files(repos)) == ["/a"]
