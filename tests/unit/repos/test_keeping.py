"""Collecting, checking and measuring repos: nothing in use goes, everything wrong is named."""

from __future__ import annotations

import os

import pytest
import sqlalchemy as sa

from clew.base.errors import Corrupt, NotFound
from clew.repos import Repos, journal, tables
from clew.store import Store

BIG = 400_000


@pytest.fixture(autouse=True)
def settled(store):
    store._leases.linger_s = 0.0


def packs(store):
    return sorted(store._shelf._directory.glob("*.pack"))


def size(store):
    return sum(path.stat().st_size for path in packs(store))


def codes(checkup):
    return sorted(problem.code for problem in checkup.problems)


# collecting ---------------------------------------------------------------------------------


def test_deleting_a_repo_really_frees_its_bytes(repos, store):
    repos.create("doomed")
    repos.commit("raw", {"/kept": os.urandom(BIG), "/shared": b"s" * 1000})
    repos.commit("doomed", {"/gone": os.urandom(BIG), "/shared": b"s" * 1000})
    repos.delete("doomed", force=True)
    said = repos.collect([], dry_run=True)
    before = size(store)
    did = repos.collect([], wait_s=20)
    assert said.freed_bytes > BIG
    assert abs(said.freed_bytes - did.freed_bytes) < 5000
    assert size(store) < before - BIG + 5000
    assert repos.read(repos.head("raw"), "/shared") == b"s" * 1000
    assert repos.check([]).problems == ()


@pytest.mark.parametrize("how", ["squash", "drop"])
def test_squashed_and_dropped_commits_free_what_they_had_alone(repos, store, how):
    repos.commit("raw", {"/a": os.urandom(BIG)})
    second = repos.commit("raw", {"/b": os.urandom(BIG)})
    if how == "squash":
        repos.commit("raw", {"/c": b"c"}, deletes=["/b"])
        repos.squash(second.id)
    else:
        repos.drop(second.id)
    assert BIG < repos.collect([], wait_s=20).freed_bytes < 2 * BIG
    assert repos.check([]).problems == ()
    assert next(repos.entries(repos.head("raw"))).path == "/a"


def test_what_other_rooms_name_stays(repos, store):
    with store.writer() as writer:
        name, _ = writer.put(b"of another room")
        gone, _ = writer.put(b"of nobody")
    repos.collect([lambda tx: [name]], thorough=True, wait_s=20)
    assert store.read(name) == b"of another room"
    with pytest.raises(NotFound):
        store.read(gone)


def test_open_commits_keep_what_was_staged(repos):
    opened = repos.open_commit("raw", writable=True)
    repos.stage(opened.id, {"/a": b"staged"})
    repos.collect([], thorough=True, wait_s=20)
    assert repos.read(repos.finish_staged(opened.id), "/a") == b"staged"


def test_collecting_makes_many_entries_of_the_journal_few(repos, store):
    for number in range(30):
        repos.commit("raw", {"/n": b"%d" % number})
        repos.settle()
    assert len(store.objects(journal.TAG)) >= 30
    repos.collect([], thorough=True, wait_s=20)
    assert len(store.objects(journal.TAG)) < 8
    repos.collect([], thorough=True, wait_s=20)
    assert repos.check([]).problems == ()


def test_collecting_again_changes_nothing(repos, store):
    repos.commit("raw", {"/a": b"1"})
    repos.collect([], wait_s=20)
    before = [path.name for path in packs(store)]
    report = repos.collect([], wait_s=20)
    assert (report.objects, report.freed_bytes, report.packs_merged) == (0, 0, 0)
    assert [path.name for path in packs(store)] == before


def test_a_commit_of_a_tree_that_was_condemned_meanwhile_is_whole(repos, store, tmp_path):
    """The tree was read before; its commit is dropped, and it comes back while it is collected."""
    repos.commit("raw", {"/a": b"1"})
    tree = repos.commit("raw", {f"/{n}": b"%d" % n * 99 for n in range(200)}).tree
    repos.drop(repos.head("raw").id)
    other = Repos(repos._db, Store.open(tmp_path / "store"))
    other._store._leases.linger_s = 0.0
    back = []
    named = []

    def late(tx):
        named.append(1)
        if len(named) == 2:  # the second marking would see a row: this one comes just before
            assert other._store._catalog.refresh() is not None
        return ()

    wait = store._leases.others

    def others():
        if not back:
            back.append(other.commit_tree("raw", tree))
        return wait()

    store._leases.others = others
    repos.collect([late], wait_s=20)
    assert len(named) == 2
    assert repos.check([]).problems == ()
    assert len([*Repos(repos._db, Store.open(tmp_path / "store")).entries(back[0])]) == 201


# checking -----------------------------------------------------------------------------------


def test_a_sound_workspace_has_no_problems(repos):
    first = repos.commit("raw", {"/a": b"1", "/big": os.urandom(3_000_000)})
    repos.tag("raw", "v1", first.id)
    seen = []
    found = repos.check([], seen=lambda done, total: seen.append((done, total)))
    assert found.problems == ()
    assert (found.commits, found.refs) == (1, 2)
    assert found.objects > 4
    assert found.size_bytes > 3_000_000
    assert seen[-1][0] == found.size_bytes


def spoil(store, digest):
    """Flip a bit in the stored bytes of an object."""
    key = bytes.fromhex(digest.partition(":")[2])
    pack = store._catalog._holder(key)
    place = pack.find(key)
    path = store._shelf._directory / pack.name
    data = bytearray(path.read_bytes())
    data[place.offset] ^= 1
    path.write_bytes(data)
    return path


def test_a_flipped_bit_is_named_with_the_commits_and_paths_that_it_hits(repos, store):
    first = repos.commit("raw", {"/a": b"one", "/d/b": b"two"})
    second = repos.commit("raw", {"/c": b"three"})
    spoil(store, repos.get_file(first, "/d/b").digest)
    found = repos.check([])
    assert codes(found) == ["commit.damaged", "object.corrupt"]
    (damaged,) = [one for one in found.problems if one.code == "commit.damaged"]
    assert set(damaged.commits) == {first.id, second.id}
    assert f"raw@{second.id}:/d/b" in damaged.paths
    assert "backup" in damaged.hint
    again = repos.check([], repair=True)
    assert [(one.code, one.repaired != "") for one in again.problems] == [
        ("object.corrupt", True),
        ("commit.damaged", False),  # there is nothing to mend it from
    ]
    assert list(store._shelf._directory.glob("*.spoilt"))
    assert repos.read(first, "/a") == b"one"
    Repos(repos._db, Store.open(store._shelf._directory.parent)).commit("raw", {"/z": b"two"})
    assert repos.check([]).problems == ()
    assert repos.read(first, "/d/b") == b"two"


def test_a_spoilt_tree_node_hits_everything_below(repos, store):
    commit = repos.commit("raw", {"/a": b"one"})
    spoil(store, commit.tree)
    (problem,) = [one for one in repos.check([]).problems if one.code == "commit.damaged"]
    assert problem.paths == (f"raw@{commit.id}:/",)


def test_spoilt_garbage_is_mended_by_leaving_it_out(repos, store):
    repos.commit("raw", {"/a": b"1"})
    with store.writer() as writer:
        name, _ = writer.put(b"garbage")
        writer.put(b"other garbage")
    path = spoil(store, name)
    assert codes(repos.check([])) == ["object.corrupt"]
    mended = repos.check([], repair=True)
    assert [one.repaired != "" for one in mended.problems] == [True]
    assert not path.exists()
    assert repos.check([]).problems == ()


@pytest.mark.parametrize("cut", [10, 100, 2000])
def test_a_pack_that_lost_its_end_is_mended_if_its_records_are_there(repos, store, cut):
    repos.commit("raw", {f"/{n}": b"%d" % n * 50 for n in range(50)})
    (path,) = [one for one in packs(store) if one.stat().st_size > 4000]
    path.write_bytes(path.read_bytes()[:-cut])
    fresh = Repos(repos._db, Store.open(store._shelf._directory.parent))
    assert "pack.corrupt" in codes(fresh.check([]))
    fresh.check([], repair=True)
    assert fresh.check([]).problems == ()
    assert len([*fresh.entries(fresh.head("raw"))]) == 50


def test_a_lost_pack_is_told_by_what_it_hits(repos, store):
    commit = repos.commit("raw", {"/a": b"1"})
    key = bytes.fromhex(commit.tree.partition(":")[2])
    store._shelf.remove(store._catalog._holder(key).name)
    fresh = Repos(repos._db, Store.open(store._shelf._directory.parent))
    assert {"commit.damaged", "commit.object"} == set(codes(fresh.check([])))
    assert codes(fresh.check([], repair=True)) == ["commit.damaged", "commit.object"]
    assert codes(fresh.check([])) == ["commit.damaged"]


def test_rows_of_other_rooms_that_name_what_is_not_there_are_told(repos, store):
    missing = "file:" + "0" * 64
    (problem,) = repos.check([lambda tx: [missing]]).problems
    assert problem.code == "row.damaged"
    assert missing in problem.message


def update(db, statement):
    with db.begin() as tx:
        tx.execute(statement)


def test_heads_that_differ_from_the_ref_log_are_put_back(repos, db):
    first = repos.commit("raw", {"/a": b"1"})
    second = repos.commit("raw", {"/a": b"2"})
    update(db, sa.update(tables.branches).values(head=first.id))
    assert codes(repos.check([])) == ["ref.log"]
    (mended,) = repos.check([], repair=True).problems
    assert mended.repaired
    assert repos.head("raw").id == second.id
    assert repos.check([]).problems == ()


def test_rows_that_contradict_the_commit_objects_are_told(repos, db):
    repos.commit("raw", {"/a": b"1"})
    repos.commit("raw", {"/a": b"2"})
    update(db, sa.update(tables.commits).values(parent="0" * 16))
    assert codes(repos.check([])) == ["commit.parent", "commit.parent", "commit.row", "commit.row"]


def test_a_damaged_store_is_not_collected(repos, store):
    commit = repos.commit("raw", {"/a": b"1"})
    spoil(store, commit.tree)
    store._catalog._keep = None
    with pytest.raises(Corrupt) as caught:
        Repos(repos._db, Store.open(store._shelf._directory.parent)).collect([], wait_s=0)
    assert caught.value.code == "gc.damaged"


# usage --------------------------------------------------------------------------------------


def test_usage_counts_shared_content_once_and_says_what_deleting_frees(repos):
    repos.create("other")
    shared, own = os.urandom(BIG), os.urandom(BIG // 2)
    repos.commit("raw", {"/shared": shared, "/own": own})
    repos.commit("raw", {"/copy": shared})
    repos.commit("other", {"/shared": shared})
    found = {one.name: one for one in repos.usage([])}
    raw, other = found["raw"], found["other"]
    assert raw.logical_bytes == len(shared) * 3 + len(own) * 2
    assert BIG * 1.5 < raw.stored_bytes < BIG * 1.5 + 5000
    assert BIG / 2 < raw.exclusive_bytes < BIG / 2 + 5000
    assert other.exclusive_bytes < 5000
    assert (raw.commits, raw.files) == (2, 5)
    repos.delete("raw", force=True)
    freed = repos.collect([], thorough=True, wait_s=20).freed_bytes
    assert abs(freed - raw.exclusive_bytes) < 10_000


def test_usage_of_a_branch_or_a_commit_is_what_goes_with_it(repos):
    first = repos.commit("raw", {"/a": os.urandom(BIG)})
    repos.create_branch("raw", "side", at=first.id)
    second = repos.commit("raw", {"/b": os.urandom(BIG)}, branch="side")
    (side,) = repos.usage([], "raw@side")
    (main,) = repos.usage([], "raw@main")
    (one,) = repos.usage([], f"raw@{second.id}")
    assert (side.commits, main.commits, one.commits) == (2, 1, 1)
    assert BIG < side.exclusive_bytes < BIG + 5000
    assert 2 * BIG < side.stored_bytes < 2 * BIG + 5000
    assert main.exclusive_bytes < 5000
    assert BIG < one.exclusive_bytes < BIG + 5000
    (raw,) = repos.usage([], "raw")
    assert 2 * BIG < raw.exclusive_bytes < 2 * BIG + 5000


def test_usage_of_what_is_not_there_says_so(repos):
    for address in ("nothing", "raw@nothing"):
        with pytest.raises(NotFound):
            repos.usage([], address)
