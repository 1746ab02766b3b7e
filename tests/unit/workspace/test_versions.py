"""Verbs about versions: the same results and the same errors on files and over HTTP."""

from __future__ import annotations

import io
import threading
from contextlib import ExitStack
from datetime import timedelta

import pandas as pd
import pytest

from clew.base.clock import now
from clew.base.errors import ClewError
from clew.base.settings import Settings
from clew.base.transaction import PutPart
from clew.client import RemoteWorkspace
from clew.server import serve
from clew.workspace import open_workspace


def serve_on_thread(workspace, stack):
    stop, bound, url = threading.Event(), threading.Event(), []

    def ready(where):
        url.append(where)
        bound.set()

    thread = threading.Thread(target=serve, args=(workspace,), kwargs={
        "port": 0, "ready": ready, "stop": stop,
    })  # fmt: skip
    thread.start()
    stack.callback(thread.join)
    stack.callback(stop.set)
    bound.wait()
    remote = RemoteWorkspace(url[0])
    stack.callback(remote.close)
    return remote


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """One workspace, by both doors."""
    with ExitStack() as stack:
        workspace = open_workspace(
            Settings(home=tmp_path_factory.mktemp("home") / ".clew"), create=True
        )
        stack.callback(workspace.close)
        yield {"files": workspace, "http": serve_on_thread(workspace, stack)}


@pytest.fixture(params=["files", "http"])
def clew(request, doors):
    return doors[request.param]


names = iter(range(10_000))


@pytest.fixture
def repo(clew):
    name = f"p/r{next(names)}"
    clew.create_repo(name)
    return name


def paths(clew, ref):
    return {file.path: clew.read(f"{ref}:{file.path}") for file in clew.ls(ref, recursive=True)}


def code(act, *args, **kwargs):
    with pytest.raises(ClewError) as caught:
        act(*args, **kwargs)
    assert caught.value.hint
    return caught.value.code


# commits ------------------------------------------------------------------------------------------


def test_an_open_commit_takes_many_puts_and_is_seen_by_its_id_alone(clew, doors, repo):
    first = clew.put(repo, {"/a": b"1", "/b": b"2"})
    opened = clew.open_commit(repo, message="slow", meta={"by": "hand"})
    other = doors["http" if clew is doors["files"] else "files"]
    clew.put_into(opened.id, {"/c": b"3"}, delete=["/a"])
    staged = other.put_into(opened.id[:8], {"/c": b"!"}, append=True)
    assert (staged.state, staged.files) == ("open", 2)
    assert paths(clew, f"{repo}@{opened.id}") == {"/b": b"2", "/c": b"3!"}
    assert clew.commit(f"{repo}@main") == first
    done = clew.finish(opened.id, meta={"checked": "yes"})
    assert (done.state, done.message, done.parent) == ("finished", "slow", first.id)
    assert done.meta == {"by": "hand", "checked": "yes"}
    assert paths(clew, repo) == {"/b": b"2", "/c": b"3!"}
    assert code(clew.put_into, opened.id, {"/d": b""}) == "commit.not_open"
    assert code(clew.finish, opened.id) == "commit.not_open"
    assert code(clew.abort, opened.id) == "commit.not_open"


def test_finishing_goes_on_top_of_what_was_committed_meanwhile(clew, repo):
    clew.put(repo, {"/a": b"1", "/gone": b"x"})
    opened = clew.open_commit(repo)
    clew.put_into(opened.id, {"/mine": b"m"}, delete=["/gone"])
    between = clew.put(repo, {"/a": b"2", "/theirs": b"t"})
    done = clew.finish(opened.id)
    assert done.parent == between.id
    assert paths(clew, repo) == {"/a": b"2", "/mine": b"m", "/theirs": b"t"}


def test_an_aborted_commit_has_no_content_and_says_why(clew, repo):
    opened = clew.open_commit(repo)
    clew.put_into(opened.id, {"/a": b"1"})
    assert clew.abort(opened.id, reason="wrong file").error == "wrong file"
    assert clew.abort(opened.id).state == "aborted"
    assert code(clew.ls, f"{repo}@{opened.id}") == "commit.aborted"
    assert clew.commit(opened.id).files == 0


def test_appending_adds_at_the_end_and_makes_what_is_not_there(clew, repo):
    big = bytes(range(256)) * 8192
    clew.append(repo, {"/log": b"one\n", "/big": big})
    commit = clew.append(repo, {"/log": b"two\n", "/big": b"end"}, message="more")
    assert clew.read(f"{repo}:/log") == b"one\ntwo\n"
    assert clew.read(f"{repo}:/big") == big + b"end"
    assert commit.message == "more"
    whole = clew.put(repo, {"/same": big + b"end"})
    files = {file.path: file.digest for file in clew.ls(f"{repo}@{whole.id}")}
    assert files["/same"] == files["/big"]
    assert code(clew.append, repo, {}) == "put.nothing"


def test_a_copy_moves_no_bytes_within_and_between_repos(clew, repo):
    clew.put(repo, {"/d/a": b"1", "/d/e/b": b"2", "/f": b"3"})
    other = f"{repo}-copy"
    clew.create_repo(other)
    made = clew.copy(f"{repo}:/d", f"{other}:/x")
    assert paths(clew, other) == {"/x/a": b"1", "/x/e/b": b"2"}
    assert made.provenance == (clew.commit(f"{repo}@main").id,)
    clew.copy(f"{other}:/x/a", f"{other}:/x/e")
    assert clew.read(f"{other}:/x/e/a") == b"1"
    opened = clew.open_commit(other)
    clew.copy(f"{repo}:/", f"{other}@{opened.id}:/all")
    clew.copy(f"{repo}@main:/f", f"{other}@{opened.id}:/g")
    clew.finish(opened.id)
    assert clew.read(f"{other}:/all/d/e/b") == b"2"
    assert clew.read(f"{other}:/g") == b"3"
    assert code(clew.copy, f"{repo}:/none", f"{other}:/y") == "file.unknown"
    assert code(clew.copy, f"{repo}:/d", "p/none:/y") == "repo.unknown"


def test_a_transaction_is_one_change_or_nothing(clew, repo, tmp_path):
    other = f"{repo}-two"
    clew.create_repo(other)
    clew.put(other, {"/old": b"x"})
    (tmp_path / "file").write_bytes(b"from disk")
    with clew.transaction(message="both", meta={"k": "v"}) as both:
        both.put(repo, {"/a b/ü": b"1", "/disk": tmp_path / "file"})
        both.put(other, {"n": b"2"})
        both.delete(other, "/old")
    assert len({commit.global_id for commit in both.commits}) == 1
    assert [c.meta for c in both.commits] == [{"k": "v"}] * 2
    assert paths(clew, repo) == {"/a b/ü": b"1", "/disk": b"from disk"}
    assert paths(clew, other) == {"/n": b"2"}
    heads = [clew.commit(f"{name}@main") for name in (repo, other)]
    left = clew.transaction()
    left.put(repo, {"/never": b""})
    left.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    parts = [PutPart(repo=repo, files={"/n": b""}), PutPart(repo=other, delete=["/none"])]
    assert code(clew.put_many, parts) == "file.unknown"
    assert [clew.commit(f"{name}@main") for name in (repo, other)] == heads


# branches and tags --------------------------------------------------------------------------------


def test_branches_begin_anywhere_and_go_without_their_commits(clew, repo):
    one = clew.put(repo, {"/a": b"1"})
    two = clew.put(repo, {"/a": b"2"})
    made = clew.create_branch(repo, "old", at="main^1")
    assert (made.name, made.head) == ("old", one)
    assert clew.create_branch(repo, "new").head == two
    assert [b.name for b in clew.branches(repo)] == ["main", "new", "old"]
    assert clew.delete_branch(repo, "old").head == one
    assert clew.commit(one.id) == one
    assert code(clew.delete_branch, repo, "old") == "branch.unknown"
    assert code(clew.create_branch, repo, "main") == "branch.exists"
    assert code(clew.create_branch, repo, "x y") == "branch.name"
    assert code(clew.create_branch, repo, "other", at="nowhere") == "ref.unknown"
    opened = clew.open_commit(repo, branch="open")
    assert code(clew.delete_branch, repo, "open") == "branch.busy"
    clew.abort(opened.id)
    assert clew.delete_branch(repo, "open").head == two


def test_a_staging_branch_waits_until_main_is_moved_to_it(clew, repo):
    clew.put(repo, {"/a": b"1"})
    for number in range(3):
        staged = clew.put(repo, {"/s": bytes([number])}, branch="staging")
        assert clew.commit(f"{repo}@main").tree != staged.tree
        moved = clew.move_branch(repo, "main", "staging")
        assert (moved.tree, moved.branch) == (staged.tree, "main")
        assert staged.id in moved.provenance
        assert moved.global_id != staged.global_id
    assert len(clew.log(repo)) >= 4


def test_a_branch_leaves_no_commit_behind_but_by_force_and_with_a_reason(clew, repo):
    base = clew.put(repo, {"/a": b"1"})
    clew.put(repo, {"/b": b"1"}, branch="dev")
    clew.put(repo, {"/a": b"2"})
    assert code(clew.move_branch, repo, "main", "dev") == "branch.not_forward"
    assert code(clew.move_branch, repo, "main", base.id) == "branch.not_forward"
    assert code(clew.move_branch, repo, "main", "dev", force=True) == "branch.reason"
    moved = clew.move_branch(repo, "main", base.id, force=True, reason="back")
    assert (moved.message, moved.tree) == ("back", base.tree)
    assert clew.move_branch(repo, "main", moved.id).id == moved.id


def test_a_tag_stays_with_its_commit(clew, repo):
    one = clew.put(repo, {"/a": b"1"})
    two = clew.put(repo, {"/a": b"2"})
    tag = clew.tag(f"{repo}@main^", "v1", message="first", meta={"ok": "yes"})
    assert (tag.commit, tag.message, tag.meta) == (one.id, "first", {"ok": "yes"})
    assert clew.commit(f"{repo}@v1") == one
    assert clew.read(f"{repo}@v1:/a") == b"1"
    assert clew.commit(f"{repo}@v1^0") == one
    assert clew.tag(one.id, "v1") == tag
    assert code(clew.tag, two.id, "v1") == "tag.exists"
    assert code(clew.tag, two.id, "main") == "branch.exists"
    assert code(clew.create_branch, repo, "v1") == "tag.exists"
    assert clew.tag(two.id, "v1", force=True).commit == two.id
    assert [t.name for t in clew.tags(repo)] == ["v1"]
    assert clew.delete_tag(repo, "v1").commit == two.id
    assert code(clew.delete_tag, repo, "v1") == "tag.unknown"
    assert code(clew.commit, f"{repo}@v1") == "ref.unknown"


# merge --------------------------------------------------------------------------------------------


def test_a_merge_takes_what_one_side_changed(clew, repo):
    clew.put(repo, {"/same": b"0", "/ours": b"0", "/theirs": b"0", "/gone": b"0"})
    clew.put(repo, {"/theirs": b"1", "/same": b"1", "/new": b"1"}, branch="dev", delete=["/gone"])
    ours = clew.put(repo, {"/ours": b"1", "/same": b"1"})
    theirs = clew.commit(f"{repo}@dev")
    plan = clew.merge(repo, "dev", dry_run=True)
    assert (plan.kind, plan.commit, plan.conflicts) == ("merge", None, ())
    assert {c.path: c.kind for c in plan.changes} == {
        "/theirs": "changed", "/new": "added", "/gone": "deleted",
    }  # fmt: skip
    done = clew.merge(repo, "dev", meta={"pr": "7"}).commit
    assert (done.parent, done.merged, done.provenance) == (ours.id, theirs.id, (theirs.id,))
    assert done.meta == {"pr": "7"}
    wanted = {"/same": b"1", "/ours": b"1", "/theirs": b"1", "/new": b"1"}
    assert paths(clew, repo) == wanted
    assert clew.merge(repo, "dev").kind == "nothing"
    clew.put(repo, {"/later": b"1"}, branch="dev")
    again = clew.merge(repo, "dev")
    assert (again.kind, again.base) == ("merge", theirs.id)
    assert [c.path for c in again.changes] == ["/later"]


def test_a_merge_goes_forward_where_it_can(clew, repo):
    clew.put(repo, {"/a": b"1"})
    staged = clew.put(repo, {"/b": b"1"}, branch="dev")
    done = clew.merge(repo, "dev")
    assert (done.kind, done.commit.tree, done.commit.parent) == ("forward", staged.tree, staged.id)
    assert clew.merge(repo, "main", into="dev").kind == "forward"


def test_a_conflict_names_both_sides_and_writes_nothing(clew, repo):
    clew.put(repo, {"/x": b"0", "/y": b"0"})
    clew.put(repo, {"/x": b"theirs", "/z": b"1"}, branch="dev", delete=["/y"])
    head = clew.put(repo, {"/x": b"ours!", "/y": b"1"})
    plan = clew.merge(repo, "dev", dry_run=True)
    found = {c.path: (c.base, c.ours, c.theirs) for c in plan.conflicts}
    assert plan.kind == "conflict"
    assert set(found) == {"/x", "/y"}
    assert found["/y"][2] is None
    assert (found["/x"][1].size_bytes, found["/x"][2].size_bytes) == (5, 6)
    assert code(clew.merge, repo, "dev") == "merge.conflict"
    assert clew.commit(f"{repo}@main") == head
    assert code(clew.merge, repo, "dev", strategy="both") == "merge.strategy"
    assert code(clew.merge, repo, "none") == "ref.unknown"
    assert code(clew.merge, repo, "dev", into="none") == "branch.unknown"
    clew.create_branch(repo, "keep", at="main")
    clew.merge(repo, "dev", into="keep", strategy="ours")
    assert paths(clew, f"{repo}@keep") == {"/x": b"ours!", "/y": b"1", "/z": b"1"}
    clew.merge(repo, "dev", strategy="theirs")
    assert paths(clew, repo) == {"/x": b"theirs", "/z": b"1"}


# history ------------------------------------------------------------------------------------------


def test_a_squashed_commit_is_folded_into_the_next(clew, repo):
    one, two, three, four = (clew.put(repo, {"/a": bytes([n]), f"/{n}": b""}) for n in range(4))
    assert code(clew.squash, four.id) == "squash.head"
    would = clew.squash(two.id, dry_run=True)
    assert ([c.id for c in would.commits], would.done) == ([two.id], False)
    done = clew.squash(f"{repo}@{two.id}", last=f"{repo}@{three.id}", reason="tidy")
    assert (done.how, [c.id for c in done.commits], done.done) == (
        "squashed", [two.id, three.id], True,
    )  # fmt: skip
    assert [c.id for c in clew.log(repo)] == [four.id, one.id]
    assert clew.commit(f"{repo}@main").tree == four.tree
    assert clew.commit(f"{repo}@main^").id == one.id
    assert code(clew.commit, two.id) == "commit.gone"
    assert code(clew.commit, f"{repo}@{two.id}") == "commit.gone"
    why = clew.why(two.id)
    assert (why.subject.id, why.subject.detail["state"]) == (two.id, "squashed")
    assert code(clew.squash, one.id, last=two.id) == "commit.gone"
    assert code(clew.squash, four.id, last=one.id) == "squash.range"


def test_a_dropped_head_gives_its_branches_back(clew, repo):
    one, two = clew.put(repo, {"/a": b"1"}), clew.put(repo, {"/a": b"2"})
    clew.create_branch(repo, "too", at="main")
    assert code(clew.drop, one.id) == "drop.not_head"
    would = clew.drop(f"{repo}@main", dry_run=True)
    assert would.heads == {f"{repo}@main": one.id, f"{repo}@too": one.id}
    assert clew.commit(f"{repo}@main") == two
    assert clew.drop(f"{repo}@main", reason="wrong").done
    assert clew.commit(f"{repo}@main") == clew.commit(f"{repo}@too") == one
    assert code(clew.commit, two.id) == "commit.gone"
    clew.delete_branch(repo, "too")
    clew.drop(f"{repo}@main")
    assert code(clew.commit, f"{repo}@main") == "branch.empty"
    assert clew.put(repo, {"/b": b"1"}).parent is None


def test_what_is_tagged_copied_or_open_is_not_taken_away(clew, repo):
    one = clew.put(repo, {"/a": b"1"})
    two = clew.put(repo, {"/a": b"2"})
    clew.tag(one.id, "kept")
    assert code(clew.squash, one.id) == "commit.held"
    assert code(clew.squash, one.id, force=True) == "commit.held"
    clew.delete_tag(repo, "kept")
    opened = clew.open_commit(repo)
    assert code(clew.drop, two.id) == "commit.held"
    clew.abort(opened.id)
    other = f"{repo}-from"
    clew.create_repo(other)
    clew.copy(f"{repo}:/a", f"{other}:/a")
    assert code(clew.drop, two.id) == "commit.held"
    assert clew.squash(one.id).done


def test_a_repo_goes_when_nothing_hangs_on_it_or_by_force(clew, repo):
    commit = clew.put(repo, {"/a": b"1"})
    clew.tag(commit.id, "t")
    other = f"{repo}-from"
    clew.create_repo(other)
    clew.copy(f"{repo}:/a", f"{other}:/a")
    assert code(clew.delete_repo, repo) == "repo.held"
    would = clew.delete_repo(repo, force=True, dry_run=True)
    assert [holder.id for holder in would.holders] == [other]
    assert clew.delete_repo(repo, force=True, reason="over").done
    assert code(clew.ls, repo) == "repo.unknown"
    assert code(clew.commit, commit.id) == "commit.gone"
    assert clew.read(f"{other}:/a") == b"1"
    assert code(clew.delete_repo, repo) == "repo.unknown"


def test_find_tells_which_commit_did_what_to_a_path(clew, repo):
    one = clew.put(repo, {"/d/a.csv": b"1", "/d/b.txt": b"1"})
    clew.put(repo, {"/other": b"1"})
    three = clew.put(repo, {"/d/a.csv": b"2"})
    four = clew.put(repo, {}, delete=["/d/a.csv"])
    history = [(four.id, "deleted"), (three.id, "changed"), (one.id, "added")]
    assert [(f.commit.id, f.change.kind) for f in clew.find(f"{repo}:/d/a.csv")] == history
    assert [(f.commit.id, f.change.kind) for f in clew.find(f"{repo}:/d/*.csv")] == history
    assert len(clew.find(f"{repo}:/d")) == 4
    assert len(clew.find(f"{repo}:/d", limit=2)) == 2
    assert [f.commit.id for f in clew.find(f"{repo}@{three.id}^:/d/a.csv")] == [one.id]
    assert clew.find(f"{repo}:/none") == []


def test_a_log_can_be_asked_for_some_of_it(clew, repo):
    before = now()
    one = clew.put(repo, {"/a": b"1"}, meta={"run": "7", "ok": "yes"})
    two = clew.put(repo, {"/b": b"1"}, meta={"run": "8"})

    def ids(**only):
        return [c.id for c in clew.log(repo, **only)]

    assert one.meta == {"run": "7", "ok": "yes"}
    assert clew.commit(one.id).meta == one.meta
    assert ids(meta={"run": "7"}) == [one.id]
    assert ids(meta={"run": ""}) == [two.id, one.id]
    assert ids(meta={"ok": "no"}) == []
    assert ids(path="/b") == [two.id]
    assert ids(path="/*") == [two.id, one.id]
    assert ids(since=before, until=one.finished_at) == [one.id]
    assert ids(since=now() + timedelta(hours=1)) == []
    assert ids(author="nobody") == []
    assert ids(branch="main^1") == [one.id]
    assert code(clew.put, repo, {"/c": b""}, meta={"": "x"}) == "commit.meta"


def test_a_day_is_the_last_commit_until_its_end(clew, repo):
    commit = clew.put(repo, {"/a": b"1"})
    today = f"{commit.finished_at:%Y-%m-%d}"
    assert clew.commit(f"{repo}@{today}") == commit
    assert code(clew.commit, f"{repo}@2001-01-01") == "ref.no_ancestor"
    assert code(clew.commit, f"{repo}@2026-99-01") == "ref.unknown"


def test_a_profile_tells_columns_and_is_found_out_once(clew, doors, repo):
    csv = b"n,name,x\n1,a,1.5\n2,b,\n2,a,3.0\n"
    clew.put(repo, {"/t.csv": csv, "/raw.bin": b"", "/bad.parquet": b"PAR1", "/c/t.csv": csv})
    found = clew.profile(f"{repo}:/t.csv")
    assert (found.rows, found.format, found.size_bytes) == (3, "CSV", len(csv))
    told = {c.name: (c.nulls, c.low, c.high, c.distinct) for c in found.columns}
    assert told == {"n": (0, "1", "2", 2), "name": (0, "a", "b", 2), "x": (1, "1.5", "3.0", 2)}
    assert doors["files"].rooms.repos.note(found.digest, "profile 2 CSV")["rows"] == 3
    assert clew.profile(f"{repo}:/c/t.csv").columns == found.columns
    assert code(clew.profile, f"{repo}:/raw.bin") == "profile.format"
    assert code(clew.profile, f"{repo}:/c") == "profile.format"
    assert code(clew.profile, f"{repo}:/bad.parquet") == "file.unreadable"
    assert code(clew.profile, f"{repo}:/none.csv") == "file.unknown"


def test_where_rows_stood_in_pandas_is_no_column_of_a_profile(clew, repo):
    sink = io.BytesIO()
    pd.DataFrame({"x": [1.0, None, 3.0]}).dropna().to_parquet(sink)
    clew.put(repo, {"/t.parquet": sink.getvalue()})
    assert [one.name for one in clew.profile(f"{repo}:/t.parquet").columns] == ["x"]


def test_waiting_for_a_commit_waits_until_it_is_finished(clew, doors, repo):
    clew.wait(f"{repo}@{clew.put(repo, {'/a': b''}).id}")
    opened = clew.open_commit(repo)
    assert code(clew.wait, f"{repo}@{opened.id}", timeout_s=0.05) == "wait.timeout"
    waiting = threading.Thread(target=doors["files"].wait, args=[f"{repo}@{opened.id}"])
    waiting.start()
    clew.finish(opened.id)
    waiting.join(30)
    assert not waiting.is_alive()


# wrong calls --------------------------------------------------------------------------------------

WRONG = {
    "repo.unknown": [
        ("branches", ("p/none",)),
        ("create_branch", ("p/none", "x")),
        ("delete_branch", ("p/none", "main")),
        ("move_branch", ("p/none", "main", "x")),
        ("tags", ("p/none",)),
        ("tag", ("p/none@main", "v")),
        ("delete_tag", ("p/none", "v")),
        ("merge", ("p/none", "dev")),
        ("delete_repo", ("p/none",)),
        ("find", ("p/none:/a",)),
        ("profile", ("p/none:/a.csv",)),
        ("open_commit", ("p/none",)),
        ("append", ("p/none", {"/a": b""})),
        ("copy", ("p/none:/a", "p/none:/b")),
        ("drop", ("p/none@main",)),
    ],
    "commit.unknown": [
        ("put_into", ("zzzzzzzz", {"/a": b""})),
        ("finish", ("zzzzzzzz",)),
        ("abort", ("zzzzzzzz",)),
        ("squash", ("zzzzzzzz",)),
        ("drop", ("zzzzzzzz",)),
        ("tag", ("zzzzzzzz", "v")),
    ],
    "address.invalid": [("find", ("p/r@!!:/a",)), ("copy", ("p/r@!!", "p/r"))],
}


@pytest.mark.parametrize(
    ("wanted", "verb", "arguments"),
    [(wanted, *call) for wanted, calls in WRONG.items() for call in calls],
)
def test_a_wrong_call_has_one_code_by_both_doors(doors, wanted, verb, arguments):
    codes = {name: code(getattr(door, verb), *arguments) for name, door in doors.items()}
    assert codes == {"files": wanted, "http": wanted}


def test_what_clew_writes_itself_is_not_written_by_hand(clew, doors):
    rooms = doors["files"].rooms
    rooms.repos.create("p/made", kind="output", exist_ok=True)
    job = rooms.repos.open_commit("p/made")
    for act, arguments in (
        (clew.append, ("p/made", {"/a": b""})),
        (clew.open_commit, ("p/made",)),
        (clew.merge, ("p/made", "main")),
        (clew.move_branch, ("p/made", "main", "main")),
    ):
        assert code(act, *arguments) == "repo.derived"
    assert code(clew.put_into, job.id, {"/a": b""}) == "commit.of_job"
    assert code(clew.finish, job.id) == "commit.of_job"
    assert code(clew.abort, job.id) == "commit.of_job"
    assert rooms.repos.abort(job.id, "over").state == "aborted"
