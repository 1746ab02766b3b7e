from __future__ import annotations

import io

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from clew.base import clock
from clew.base.errors import Conflict, Invalid, NotFound, NotReady
from clew.lineage import Lineage
from clew.repos import RepoChange, Repos, tables
from clew.store import EMPTY_TREE, Store


def content(repos, commit):
    return {info.path: repos.read(commit, info.path) for info in repos.entries(commit)}


def code_of(error, act, *arguments, **more):
    with pytest.raises(error) as caught:
        act(*arguments, **more)
    assert caught.value.hint
    return caught.value.code


# repos and branches ---------------------------------------------------------------------------


def test_a_repo_is_made_once_and_can_be_listed_by_kind(repos):
    made = repos.create("flights/clean", kind="output", description="clean months")
    assert (made.kind, made.description, made.branches) == ("output", "clean months", {})
    assert repos.get("flights/clean") == made
    assert [repo.name for repo in repos.list()] == ["flights/clean", "raw"]
    assert [repo.name for repo in repos.list(kind="output")] == ["flights/clean"]
    assert code_of(Conflict, repos.create, "raw") == "repo.exists"
    assert repos.create("raw", exist_ok=True).name == "raw"
    assert code_of(Conflict, repos.create, "raw", kind="log", exist_ok=True) == "repo.exists"
    assert code_of(Invalid, repos.create, "a/b/c") == "repo.name"
    assert code_of(Invalid, repos.create, "x", kind="odd") == "repo.kind"


def test_an_unknown_repo_is_told_with_the_names_that_are_near(repos):
    repos.create("flights/weather")
    for name, near in (("rew", "raw"), ("weather", "flights/weather")):
        with pytest.raises(NotFound) as caught:
            repos.head(name)
        assert (caught.value.code, near in caught.value.hint) == ("repo.unknown", True)
    assert code_of(NotFound, repos.commit, "zzz", {"/a": b""}) == "repo.unknown"
    assert code_of(NotFound, repos.log, "zzz") == "repo.unknown"
    assert code_of(NotFound, repos.open_commit, "zzz") == "repo.unknown"


def test_a_deleted_repo_is_gone_but_its_moves_and_its_lineage_stay(repos, db):
    commit = repos.commit("raw", {"/a": b"1"})
    repos.delete("raw")
    assert repos.list() == []
    assert code_of(NotFound, repos.commit_by_id, commit.id) == "commit.gone"
    assert Lineage(db).get(commit.id) is not None
    with db.read() as tx:
        log = tables.ref_log
        query = sa.select(log.c.old, log.c.new).where(log.c.branch == "main")
        moves = tx.execute(query.order_by(log.c.seq)).all()
    assert list(map(tuple, moves)) == [(None, commit.id), (commit.id, None)]
    repos.create("raw")
    assert repos.head("raw") is None


def test_a_repo_with_an_open_commit_is_not_deleted(repos):
    commit = repos.open_commit("raw")
    assert code_of(Conflict, repos.delete, "raw") == "repo.busy"
    repos.abort(commit.id, "stop")
    repos.delete("raw")


def test_a_branch_begins_empty_or_at_a_commit_of_its_repo(repos):
    first = repos.commit("raw", {"/a": b"1"})
    repos.create("other")
    alien = repos.commit("other", {"/a": b"1"})
    repos.create_branch("raw", "empty")
    repos.create_branch("raw", "staging", first.id[:8])
    assert repos.branches("raw") == {"empty": None, "main": first.id, "staging": first.id}
    assert code_of(Conflict, repos.create_branch, "raw", "staging") == "branch.exists"
    assert code_of(Invalid, repos.create_branch, "raw", "a b") == "branch.name"
    assert code_of(Invalid, repos.create_branch, "raw", "x", alien.id) == "branch.other_repo"
    assert code_of(Invalid, repos.create_branch, "raw", "x", repos.open_commit("raw").id) == (
        "commit.not_finished"
    )
    assert "x" not in repos.branches("raw")


def test_moving_a_branch_is_a_change_of_its_own(repos):
    base = repos.commit("raw", {"/a": b"1"})
    repos.create_branch("raw", "staging", base.id)
    staged = repos.commit("raw", {"/b": b"2"}, branch="staging")
    heard = []
    repos.listeners.append(lambda tx, commits, gid: heard.append((commits, gid)))
    moved = repos.move_branch("raw", "main", staged.id, expected=base.id)
    assert (moved.tree, moved.parent, moved.provenance) == (staged.tree, staged.id, (staged.id,))
    assert (moved.branch, moved.state) == ("main", "finished")
    assert moved.global_id not in {staged.global_id, base.global_id}
    assert repos.head("raw") == moved
    assert heard == [([moved], moved.global_id)]
    assert [c.id for c in repos.log("raw")] == [moved.id, staged.id, base.id]
    assert code_of(Conflict, repos.move_branch, "raw", "main", base.id, expected=base.id) == (
        "branch.moved"
    )
    assert repos.move_branch("raw", "main", moved.id) == moved
    assert len(heard) == 1


# commits --------------------------------------------------------------------------------------


def test_a_commit_keeps_bytes_paths_and_streams(repos, tmp_path):
    (tmp_path / "file").write_bytes(b"two")
    puts = {"/a": b"one", "b/c": tmp_path / "file", "//d": io.BytesIO(b"three")}
    commit = repos.commit("raw", puts, message="first", author="ada", provenance=["x"])
    assert content(repos, commit) == {"/a": b"one", "/b/c": b"two", "/d": b"three"}
    assert (commit.files, commit.size_bytes, commit.message) == (3, 11, "first")
    assert (commit.author, commit.provenance, commit.parent) == ("ada", ("x",), None)
    assert (commit.state, commit.branch) == ("finished", "main")
    assert repos.head("raw") == commit == repos.commit_by_id(commit.id)


def test_the_next_commit_changes_only_what_it_names(repos):
    first = repos.commit("raw", {"/a": b"1", "/d/x": b"2", "/d/y": b"3"})
    second = repos.commit("raw", {"/a": b"4"}, deletes=["/d"])
    assert content(repos, second) == {"/a": b"4"}
    assert second.parent == first.id
    assert content(repos, first) == {"/a": b"1", "/d/x": b"2", "/d/y": b"3"}
    third = repos.commit("raw", {"/z": b"5"}, replace=True)
    assert content(repos, third) == {"/z": b"5"}
    fourth = repos.commit_tree("raw", first.tree, message="back")
    assert (fourth.tree, fourth.parent, fourth.files) == (first.tree, third.id, 3)


def test_what_cannot_be_committed_leaves_nothing_behind(repos, tmp_path):
    repos.commit("raw", {"/a": b"1"})
    before = repos.log("raw")
    for puts, deletes, kind, code in (
        ({"/a/../b": b""}, [], Invalid, "path.invalid"),
        ({"/x": b"", "//x": b""}, [], Invalid, "commit.paths"),
        ({"/": b""}, [], Invalid, "commit.paths"),
        ({"/x": tmp_path / "none"}, [], NotFound, "file.missing"),
        ({"/x": tmp_path}, [], Invalid, "file.unreadable"),
        ({}, ["/none"], NotFound, "file.unknown"),
        ({"/a/b": b""}, [], Conflict, "tree.file_and_directory"),
    ):
        assert code_of(kind, repos.commit, "raw", puts, deletes) == code
    assert code_of(Invalid, repos.commit, "raw", {}, branch="a/b") == "branch.name"
    assert repos.log("raw") == before


def test_one_change_commits_to_several_repos_or_to_none(repos, db):
    repos.create("weather")
    commits = repos.commit_many(
        [RepoChange(repo="raw", puts={"/a": b"1"}), RepoChange(repo="weather", puts={"/b": b"2"})],
        message="both",
    )
    assert [c.repo for c in commits] == ["raw", "weather"]
    assert len({c.global_id for c in commits}) == 1
    assert repos.of_change(commits[0].global_id) == commits
    changes = [RepoChange(repo="raw", puts={"/a": b"3"}), RepoChange(repo="none", puts={"/b": b""})]
    assert code_of(NotFound, repos.commit_many, changes) == "repo.unknown"
    twice = [RepoChange(repo="raw"), RepoChange(repo="raw")]
    assert code_of(Invalid, repos.commit_many, twice) == "commit.twice"
    assert code_of(Invalid, repos.commit_many, []) == "commit.twice"
    assert repos.head("raw") == commits[0]


def test_a_commit_tells_events_and_lineage(repos, db):
    source = repos.commit("raw", {"/a": b"1"})
    repos.create("out", kind="output")
    made = repos.commit("out", {"/b": b"2"}, provenance=[source.id], global_id=source.global_id)
    events = db.events.after(0)
    assert [(e.kind, e.subject, e.global_id) for e in events] == [
        ("commit.finished", source.id, source.global_id),
        ("commit.finished", made.id, source.global_id),
    ]
    assert events[0].data == {"repo": "raw", "branch": "main"}
    nodes, edges = Lineage(db).walk(made.id, "up")
    assert [(n.kind, n.id, n.title) for n in nodes] == [("commit", source.id, "raw@main")]
    assert [edge.label for edge in edges] == ["provenance"]


def test_the_commit_object_is_in_the_store(repos, db, store):
    commit = repos.commit("raw", {"/a": b"1"}, message="hello")
    with db.read() as tx:
        kept = tx.execute(sa.select(tables.commits.c.object)).scalar()
    assert kept.startswith("commit:")
    assert all(part.encode() in store.read(kept) for part in (commit.id, commit.tree, "hello"))


def test_listeners_share_the_transaction_and_can_undo_it(repos, db):
    repos.create("out", kind="output")

    def open_output(tx, commits, global_id):
        if commits[0].repo == "raw":
            repos.open_commit("out", global_id=global_id, provenance=[commits[0].id], tx=tx)

    repos.listeners.append(open_output)
    commit = repos.commit("raw", {"/a": b"1"})
    (waiting,) = repos.log("out")
    assert (waiting.state, waiting.global_id, waiting.provenance) == (
        "open", commit.global_id, (commit.id,)
    )  # fmt: skip

    def refuse(tx, commits, global_id):
        raise ZeroDivisionError

    repos.listeners.append(refuse)
    with pytest.raises(ZeroDivisionError):
        repos.commit("raw", {"/a": b"2"})
    assert repos.head("raw") == commit
    assert len(repos.log("out")) == 1


def test_a_commit_is_never_older_than_its_parent(repos, monkeypatch):
    first = repos.commit("raw", {"/a": b"1"})
    past = clock.from_us(1_000_000)
    monkeypatch.setattr(clock, "now", lambda: past)
    second = repos.commit("raw", {"/a": b"2"})
    assert second.finished_at > first.finished_at
    assert [c.id for c in repos.log("raw")] == [second.id, first.id]


# open, finish, abort --------------------------------------------------------------------------


@pytest.fixture
def tree(repos):
    repos.create("trees")
    return repos.commit("trees", {"/t": b"tree"}).tree


def test_an_open_commit_is_seen_but_is_not_the_head_before_it_is_finished(repos, tree):
    opened = repos.open_commit("raw", global_id="g" * 16, message="m", provenance=["p"])
    assert (opened.state, opened.tree, opened.parent) == ("open", "", None)
    assert repos.head("raw") is None
    assert repos.log("raw") == [opened]
    with pytest.raises(NotReady) as caught:
        repos.entries(opened)
    assert caught.value.code == "commit.open"
    done = repos.finish(opened.id, tree)
    assert done == replace(
        opened, state="finished", tree=tree, files=1, size_bytes=4, finished_at=done.finished_at
    )
    assert repos.head("raw") == done
    assert code_of(Conflict, repos.finish, opened.id, tree) == "commit.not_open"
    assert code_of(Conflict, repos.abort, opened.id, "no") == "commit.not_open"


def test_finishing_may_say_what_it_was_made_of_only_then(repos, tree):
    opened = repos.open_commit("raw")
    done = repos.finish(opened.id, tree, message="late", provenance=["a", "b"])
    assert (done.message, done.provenance) == ("late", ("a", "b"))
    assert repos.commit_by_id(done.id) == done


def test_a_commit_on_a_head_that_has_moved_is_not_finished_unless_rebased(repos, tree):
    opened = repos.open_commit("raw")
    between = repos.commit("raw", {"/a": b"1"})
    assert code_of(Conflict, repos.finish, opened.id, tree) == "branch.moved"
    assert repos.commit_by_id(opened.id).state == "open"
    done = repos.finish(opened.id, tree, rebase=True)
    assert done.parent == between.id
    assert [c.id for c in repos.log("raw")] == [done.id, between.id]


def test_a_tree_that_is_not_in_the_store_cannot_be_a_commit(repos):
    opened = repos.open_commit("raw")
    missing = EMPTY_TREE[:-4] + "0000"
    assert code_of(NotFound, repos.finish, opened.id, missing) == "object.missing"
    assert code_of(NotFound, repos.commit_tree, "raw", missing) == "object.missing"
    assert repos.head("raw") is None


def test_an_aborted_commit_stays_in_the_log_and_moves_nothing(repos, db):
    head = repos.commit("raw", {"/a": b"1"})
    opened = repos.open_commit("raw")
    ended = repos.abort(opened.id, "worker died")
    assert (ended.state, ended.error) == ("aborted", "worker died")
    assert repos.abort(opened.id, "again") == ended
    assert repos.head("raw") == head
    assert [c.state for c in repos.log("raw")] == ["aborted", "finished"]
    assert db.events.after(1)[0].kind == "commit.aborted"
    with pytest.raises(Conflict) as caught:
        repos.read(ended, "/a")
    assert caught.value.code == "commit.aborted"


def test_everything_of_one_transaction_is_undone_together(repos, db, tree):
    opened = repos.open_commit("raw")

    def fail():
        with db.begin() as tx:
            repos.create("new", tx=tx)
            repos.finish(opened.id, tree, tx=tx)
            repos.open_commit("new", tx=tx)
            assert repos.head("raw", tx=tx) is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert repos.head("raw") is None
    assert repos.commit_by_id(opened.id) == opened
    assert [repo.name for repo in repos.list()] == ["raw", "trees"]


# names ----------------------------------------------------------------------------------------


@pytest.fixture
def three(repos):
    return [repos.commit("raw", {"/a": bytes([n])}) for n in range(3)]


def test_a_ref_names_a_branch_a_commit_a_change_and_ancestors(repos, three):
    first, second, third = three
    assert repos.resolve("raw") == third
    assert repos.resolve("raw@main") == third
    assert repos.resolve("raw@main^") == second
    assert repos.resolve("raw@main^2:/a") == first
    assert repos.resolve(f"raw@{second.id}") == second
    assert repos.resolve(f"raw@{second.id[:10]}^") == first
    assert repos.resolve(f"raw@{first.global_id}") == first
    assert repos.resolve(f"raw@{first.global_id[:10]}") == first
    assert code_of(NotFound, repos.resolve, "raw@main^3") == "ref.no_ancestor"
    assert code_of(NotFound, repos.resolve, "raw@nothing") == "ref.unknown"
    assert code_of(NotFound, repos.resolve, f"other@{first.id}") == "repo.unknown"
    assert code_of(Invalid, repos.resolve, "raw@") == "address.invalid"
    with pytest.raises(NotFound, match=r"Did you mean main\?"):
        repos.resolve("raw@mian")


def test_a_branch_without_a_commit_says_so(repos):
    repos.create("fresh")
    assert code_of(NotFound, repos.resolve, "fresh") == "branch.empty"
    repos.create_branch("raw", "main")
    assert code_of(NotFound, repos.resolve, "raw") == "branch.empty"


def test_only_a_source_that_is_empty_asks_for_a_commit(repos):
    for name, kind, hint in (("by-hand", "source", "clew put"), ("made", "output", "clew status")):
        repos.create(name, kind=kind)
        with pytest.raises(NotFound) as raised:
            repos.resolve(name)
        assert hint in raised.value.hint


def test_a_global_id_means_the_latest_finished_commit_of_the_change(repos):
    gid = "0123456789abcdef"
    first = repos.commit("raw", {"/a": b"1"}, global_id=gid)
    second = repos.commit("raw", {"/a": b"2"}, global_id=gid)
    repos.open_commit("raw", global_id=gid)
    assert repos.resolve(f"raw@{gid}") == second
    assert repos.resolve(f"raw@{gid[:6]}^") == first


def test_an_ambiguous_beginning_lists_what_it_may_mean(repos):
    gids = ["aaaa00000000000b", "aaaa00000000000c"]
    commits = [repos.commit("raw", {"/a": g.encode()}, global_id=g) for g in gids]
    with pytest.raises(Invalid) as caught:
        repos.resolve("raw@aaaa0")
    assert caught.value.code == "ref.ambiguous"
    assert all(c.id in caught.value.message for c in commits)
    assert repos.resolve(f"raw@{gids[0]}") == commits[0]


def test_a_commit_is_found_by_the_beginning_of_its_id_in_any_repo(repos, three):
    assert repos.commit_by_id(three[1].id[:9]) == three[1]
    for wrong in ("zzzzzzz", "abc", "nö", "0" * 16):
        assert code_of(NotFound, repos.commit_by_id, wrong) == "commit.unknown"


def test_a_log_is_bounded_and_may_span_branches(repos, three):
    other = repos.commit("raw", {"/x": b""}, branch="other")
    assert [c.id for c in repos.log("raw", limit=2)] == [three[2].id, three[1].id]
    assert [c.id for c in repos.log("raw", None)] == [other.id, *(c.id for c in three[::-1])]
    assert [c.id for c in repos.log("raw", "other")] == [other.id]
    assert code_of(NotFound, repos.log, "raw", "none") == "ref.unknown"


# content --------------------------------------------------------------------------------------


@pytest.fixture
def months(repos):
    names = ["/2013/01.csv", "/2013/02.csv", "/2014/01.csv", "/README"]
    return repos.commit("raw", {name: name.encode() for name in names})


def paths(infos):
    return [info.path for info in infos]


def test_files_and_directories_can_be_listed(repos, months):
    assert paths(repos.entries(months, "/2013")) == ["/2013/01.csv", "/2013/02.csv"]
    assert paths(repos.entries(months, "/README")) == ["/README"]
    listed = repos.children(months)
    assert [(i.path, i.kind, i.size_bytes) for i in listed] == [
        ("/2013", "directory", 24), ("/2014", "directory", 12), ("/README", "file", 7)
    ]  # fmt: skip
    assert paths(repos.children(months, "/2013/")) == ["/2013/01.csv", "/2013/02.csv"]
    assert repos.get_file(months, "2013") == listed[0]
    assert repos.get_file(months.tree, "/README") == listed[2]
    assert repos.get_file(months, "/").size_bytes == 43
    with pytest.raises(NotFound, match=r"Did you mean /2013/01.csv"):
        repos.get_file(months, "/2013/1.csv")
    assert code_of(NotFound, repos.read, months, "/none/at/all") == "file.unknown"
    assert code_of(Conflict, repos.read, months, "/2013") == "file.directory"


def test_a_glob_finds_files_in_order(repos, months):
    assert paths(repos.glob(months, "/*/01.csv")) == ["/2013/01.csv", "/2014/01.csv"]
    assert paths(repos.glob(months.tree, "/2013/*")) == ["/2013/01.csv", "/2013/02.csv"]
    assert paths(repos.glob(months, "/none/*")) == []


def test_a_diff_names_what_was_added_changed_and_deleted(repos, months):
    later = repos.commit("raw", {"/README": b"new", "/x": b""}, deletes=["/2014"])
    assert [(c.path, c.kind) for c in repos.diff(months, later)] == [
        ("/2014/01.csv", "deleted"), ("/README", "changed"), ("/x", "added")
    ]  # fmt: skip
    assert [c.kind for c in repos.diff(None, months)] == ["added"] * 4
    assert list(repos.diff(months, later, "/2013")) == []
    changed = list(repos.diff(months, later))[1]
    assert (changed.old.size_bytes, changed.new.size_bytes) == (7, 3)


def test_files_are_exported_alone_and_by_directory(repos, months, tmp_path):
    assert repos.export(months, "/README", tmp_path / "r") == [tmp_path / "r"]
    (tmp_path / "into").mkdir()
    assert repos.export(months, "/README", tmp_path / "into") == [tmp_path / "into" / "README"]
    written = repos.export(months, "/2013", tmp_path / "year")
    assert written == [tmp_path / "year" / "01.csv", tmp_path / "year" / "02.csv"]
    assert len(repos.export(months, "/", tmp_path / "all")) == 4
    assert (tmp_path / "all" / "2014" / "01.csv").read_bytes() == b"/2014/01.csv"


def test_another_process_view_sees_the_same(repos, months, tmp_path, db):
    fresh = Repos(db, Store.open(tmp_path / "store"))
    assert content(fresh, fresh.resolve("raw")) == content(repos, months)
