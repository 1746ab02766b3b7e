"""The database of repos can be made again from the store alone."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from clew.base.errors import Conflict
from clew.db import Database
from clew.repos import RepoChange, Repos, journal, ledger, tables
from clew.repos.rebuilding import rebuild
from clew.store import Store, digest
from clew.testing.postgres import database_url


@contextmanager
def anew(tmp_path, store):
    """A rebuilt database beside the old one: what was rebuilt, and its repos."""
    place = tmp_path / f"anew-{len(list(tmp_path.iterdir()))}"
    place.mkdir()
    db = Database.open(database_url(place))
    db.create()
    try:
        yield rebuild(db, Store.open(tmp_path / "store")), Repos(db, store)
    finally:
        db.close()


def rows(repos, table, *but):
    with repos._db.read() as tx:
        found = [row._asdict() for row in tx.execute(sa.select(table))]
    kept = [{name: value for name, value in row.items() if name not in but} for row in found]
    return sorted(kept, key=str)


def state(repos):
    """Everything that rows of repos say, but their running numbers and what is derived."""
    return {
        "repos": rows(repos, tables.repos),
        "commits": [
            row for row in rows(repos, tables.commits, "seq", "depth", "jump") if row["object"]
        ],
        "branches": rows(repos, tables.branches),
        "tags": rows(repos, tables.tags),
        "gone": rows(repos, tables.gone),
        "log": rows(repos, tables.ref_log),
    }


def busy(repos):
    """Some of everything."""
    repos.create("weather", kind="output", description="From above.")
    repos.create("empty")
    first, _ = repos.commit_many(
        [RepoChange(repo="raw", puts={"/a": b"1"}), RepoChange(repo="weather", puts={"/w": b"0"})],
        message="both",
        meta={"ticket": "7"},
    )
    repos.commit("raw", {"/a": b"2", "/d/b": b"x"}, author="ada", provenance=[first.id])
    repos.create_branch("raw", "side", at=first.id)
    repos.create_branch("raw", "bare")
    repos.commit("raw", {"/s": b"side"}, branch="side")
    repos.create_branch("raw", "gone", at=first.id)
    repos.delete_branch("raw", "gone")
    third = repos.commit("raw", {"/a": b"3"})
    repos.tag("raw", "v1", third.id, message="first", meta={"by": "ada"})
    repos.tag("raw", "v2", first.id)
    repos.delete_tag("raw", "v2")
    repos.merge("raw", repos.head("raw", "side").id, into="main")
    opened = repos.open_commit("raw", message="job")
    repos.finish(opened.id, third.tree)
    fourth = repos.commit("raw", {"/four": b"4"})
    fifth = repos.commit("raw", {"/five": b"5"})
    repos.commit("raw", {"/six": b"6"})
    repos.squash(fourth.id, fifth.id)
    repos.commit("raw", {"/seven": b"7"})
    repos.drop(repos.head("raw").id)
    repos.create("doomed")
    repos.commit("doomed", {"/x": b"x"})
    repos.delete("doomed")
    repos.create("doomed", description="again")
    repos.commit("doomed", {"/y": b"y"})
    repos.abort(repos.open_commit("raw").id, "no")


def test_everything_is_there_again(tmp_path, repos, store):
    busy(repos)
    repos.settle()
    with anew(tmp_path, store) as (report, again):
        assert state(again) == state(repos)
        assert (report.unconfirmed, report.left_out) == ((), ())
        assert report.commits == len(state(repos)["commits"])
        for repo in repos.list():
            assert again.get(repo.name) == repo
            for branch, head in repo.branches.items():
                if head is None:
                    continue
                assert again.log(repo.name, branch) == [
                    one for one in repos.log(repo.name, branch) if one.state == "finished"
                ]
                assert list(again.entries(again.head(repo.name, branch))) == list(
                    repos.entries(repos.head(repo.name, branch))
                )
        assert again.resolve("raw@main^2") == repos.resolve("raw@main^2")
        after = again.commit("raw", {"/on": b"on"})
        assert after.parent == repos.head("raw").id


def test_a_collected_store_tells_the_same(tmp_path, repos, store):
    busy(repos)
    with repos._db.read() as tx, store.writer() as writer:
        kept = {writer.put_object(journal.TAG, payload) for payload in journal.whole(tx)}
    repos.settle()
    with repos._db.read() as tx:
        again = {digest(journal.TAG, payload) for payload in journal.whole(tx)}
    assert kept == again
    with anew(tmp_path, store) as (_, rebuilt):
        assert state(rebuilt) == state(repos)


def test_a_rebuilt_database_can_be_rebuilt(tmp_path, repos, store):
    busy(repos)
    repos.settle()
    with anew(tmp_path, store) as (_, again):
        again.commit("raw", {"/more": b"more"})
        again.settle()
        with anew(tmp_path, store) as (_, third):
            assert state(third) == state(again)


def test_commits_that_the_journal_does_not_tell_of_are_taken_on_top(tmp_path, repos, store):
    repos.commit("raw", {"/a": b"1"})
    repos.settle()
    second = repos.commit("raw", {"/a": b"2"})
    third = repos.commit("raw", {"/a": b"3"})
    with anew(tmp_path, store) as (report, again):
        assert report.unconfirmed == (second.id, third.id)
        assert again.head("raw") == third
        assert [one.id for one in again.log("raw")][:2] == [third.id, second.id]


def test_a_repo_that_only_its_commits_tell_of_is_there(tmp_path, repos, store):
    repos.settle()
    repos.create("late")
    commit = repos.commit("late", {"/a": b"1"})
    with anew(tmp_path, store) as (report, again):
        assert report.unconfirmed == (commit.id,)
        assert again.head("late") == commit


def test_a_commit_whose_transaction_failed_is_not_in_the_way_of_later_ones(tmp_path, repos, store):
    first = repos.commit("raw", {"/a": b"1"})

    def refuse(*_):
        raise Conflict("test.refused", "No.")

    repos.listeners.append(refuse)
    with pytest.raises(Conflict):
        repos.commit("raw", {"/a": b"never"})
    repos.listeners.clear()
    second = repos.commit("raw", {"/a": b"2"})
    repos.settle()
    with anew(tmp_path, store) as (report, again):
        assert [one.id for one in again.log("raw")] == [second.id, first.id]
        assert len(report.left_out) == 1
        assert report.unconfirmed == ()


def test_attempts_of_one_commit_are_one_commit(tmp_path, repos, store, db):
    """Where others commit in between, the object is written again with another parent."""
    repos.settle()
    other = Repos(db, store)
    begin, moved = db.begin, []

    @contextmanager
    def beginning():
        if not moved:
            moved.append(None)
            moved[0] = other.commit("raw", {"/other": b"o"})
        with begin() as tx:
            yield tx

    repos._db = type("Db", (), {"begin": staticmethod(beginning), "read": db.read})()
    mine = repos.commit("raw", {"/mine": b"m"})
    repos._db = db
    assert mine.parent == moved[0].id
    for told in (False, True):
        if told:
            repos.settle()
        with anew(tmp_path, store) as (report, again):
            assert again.head("raw") == mine
            assert report.left_out == ()


def test_the_journal_lags_a_moment_and_then_travels_with_a_commit(repos, store, monkeypatch):
    monkeypatch.setattr(ledger, "TELL_S", 0.0)
    first = repos.commit("raw", {"/a": b"1"})
    before = len(list((store._shelf._directory).glob("*.pack")))
    repos.commit("raw", {"/a": b"2"})
    assert len(list((store._shelf._directory).glob("*.pack"))) == before + 1
    entries = b"".join(store.read(digest) for digest in store.objects(journal.TAG))
    assert first.id.encode() in entries


def test_settling_twice_writes_once(repos, store):
    repos.commit("raw", {"/a": b"1"})
    repos.settle()
    packs = sorted(store._shelf.list())
    repos.settle()
    assert sorted(store._shelf.list()) == packs


def test_a_database_that_holds_something_is_not_overwritten(repos, store, db):
    with pytest.raises(Conflict) as caught:
        rebuild(db, store)
    assert caught.value.code == "rebuild.not_empty"


def test_a_commit_whose_object_is_lost_is_named(tmp_path, repos, store):
    first = repos.commit("raw", {"/a": os.urandom(100)})
    repos.commit("raw", {"/a": os.urandom(100)})
    repos.settle()
    with repos._db.read() as tx:
        kept = tx.execute(tables.COMMIT, {"id": first.id}).one().object
    pack = store._catalog._holder(bytes.fromhex(kept.partition(":")[2]))
    store._shelf.remove(pack.name)
    with anew(tmp_path, store) as (report, _):
        assert any(first.id in line for line in report.lost)


def test_killed_at_once_after_a_commit_nothing_that_was_told_is_lost(tmp_path, store):
    script = """
import os, sys
from pathlib import Path
from clew.db import Database
from clew.testing.postgres import database_url
from clew.repos import Repos
from clew.store import Store
home = sys.argv[1]
db = Database.open(database_url(Path(home))); db.create()
repos = Repos(db, Store.open(f"{home}/store"))
repos.create("raw")
for number in range(20):
    print(repos.commit("raw", {"/n": str(number).encode()}).id, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=False, capture_output=True, text=True
    )
    told = done.stdout.split()
    assert len(told) == 20
    with anew(tmp_path, store) as (report, again):
        assert [one.id for one in again.log("raw")] == told[::-1]
        assert set(report.unconfirmed) <= set(told)
