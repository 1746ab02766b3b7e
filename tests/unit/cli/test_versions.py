"""Commands about versions: what they print and how they end."""

from __future__ import annotations

import json
import re

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from clew.base.errors import ClewError
from clew.base.settings import Settings
from clew.cli.app import tree
from clew.workspace import open_workspace


@pytest.fixture
def run(tmp_path, monkeypatch):
    home = tmp_path / ".clew"
    workspace = open_workspace(Settings(home=home), create=True)
    workspace.create_repo("p/data")
    workspace.put("p/data", {"/a.csv": b"n\n1\n", "/d/b.txt": b"b"}, message="first")
    workspace.close()
    monkeypatch.setenv("CLEW_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(*words, code=None, input=None):
        result = runner.invoke(tree(), list(words), input=input)
        if code is not None:
            assert isinstance(result.exception, ClewError), result.output
            assert result.exception.code == code
            return None
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.output) if "--json" in words else result.output

    return run


def test_a_commit_is_opened_written_and_finished(run, tmp_path):
    (tmp_path / "more.csv").write_bytes(b"2\n")
    opened = run("commit", "open", "p/data", "-m", "slow", "--meta", "by=hand").strip()
    run("commit", "put", opened, "more.csv", "--path", "/a.csv", "--append")
    run("commit", "put", opened[:6], "-", "--path", "/in.txt", input="typed")
    run("commit", "rm", opened, "/d")
    assert run("cat", f"p/data@{opened}:/a.csv") == "n\n1\n2\n"
    done = run("commit", "finish", opened, "--json")["commit"]
    assert (done["files"], done["message"], done["meta"]) == (2, "slow", {"by": "hand"})
    other = run("commit", "open", "p/data", "--json")["id"]
    assert run("commit", "abort", other, "--reason", "no", "--json")["error"] == "no"


def test_changes_of_several_repos_are_one(run, tmp_path):
    run("create", "p/two")
    (tmp_path / "x").write_bytes(b"x")
    changes = [
        {"repo": "p/data", "put": {"/x": "x"}, "delete": ["/d"]},
        {"repo": "p/two", "put": {"/y": "x"}},
    ]
    done = run("commit", "many", "-", "-m", "both", "--json", input=json.dumps(changes))
    assert len({commit["global_id"] for commit in done["commits"]}) == 1
    run("commit", "many", "-", input='{"repo": 1}', code="commit.changes")
    run("commit", "many", "none.json", code="file.missing")


def test_paths_are_appended_copied_and_removed(run, tmp_path):
    (tmp_path / "more").write_bytes(b"2\n")
    run("append", "p/data:/a.csv", "more")
    run("cp", "p/data@main^:/a.csv", "p/data:/old.csv")
    assert run("cat", "p/data:/a.csv") + run("cat", "p/data:/old.csv") == "n\n1\n2\nn\n1\n"
    run("rm", "p/data:/old.csv", "/d", "-m", "tidy")
    assert [file["path"] for file in run("ls", "p/data", "--json")] == ["/a.csv"]
    run("rm", "p/data", code="rm.everything")
    found = run("find", "p/data:/old.csv", "--json")
    assert [one["change"]["kind"] for one in found] == ["deleted", "added"]


def test_branches_and_tags_are_listed_made_moved_and_deleted(run):
    run("branch", "create", "p/data", "dev", "--at", "main")
    run("rm", "p/data@dev:/d")
    assert re.search(r"dev .*\n.*main", run("branch", "list", "p/data"))
    moved = run("branch", "move", "p/data", "main", "--to", "dev", "--json")["commit"]
    assert moved["files"] == 1
    run("branch", "move", "p/data", "main", "--to", "main^2", code="branch.not_forward")
    run("branch", "delete", "p/data", "dev")
    run("branch", "delete", "p/data", "dev", code="branch.unknown")
    run("tag", "add", "p/data@main", "v1", "-m", "kept", "--meta", "k=v")
    assert "kept" in run("tag", "list", "p/data")
    assert "v1" in run("log", "p/data", "--graph")
    assert [tag["name"] for tag in run("show", "p/data@v1", "--json")["tags"]] == ["v1"]
    run("tag", "add", "p/data@main^", "v1", code="tag.exists")
    run("tag", "delete", "p/data", "v1")


def test_a_merge_lists_conflicts_and_ends_with_1_when_asked_before(run, tmp_path):
    (tmp_path / "ours").write_bytes(b"ours")
    (tmp_path / "theirs").write_bytes(b"theirs")
    run("branch", "create", "p/data", "dev", "--at", "main")
    run("put", "p/data", "theirs", "--path", "/a.csv", "--branch", "dev")
    run("put", "p/data", "ours", "--path", "/a.csv")
    told = CliRunner().invoke(tree(), ["merge", "p/data", "dev", "--dry-run"])
    assert (told.exit_code, "conflict" in told.output) == (1, True)
    run("merge", "p/data", "dev", code="merge.conflict")
    done = run("merge", "p/data", "dev", "--strategy", "theirs", "--json")["commit"]
    assert done["merged"]
    assert "⇐" in run("log", "p/data")
    assert run("cat", "p/data:/a.csv") == "theirs"


def test_history_is_mended_after_a_dry_run(run):
    for name in ("x", "y"):
        run(
            "commit",
            "many",
            "-",
            "-m",
            name,
            input=json.dumps([{"repo": "p/data", "replace": True}]),
        )
    would = run("squash", "p/data@main^", "--dry-run", "--json")
    assert (would["done"], len(would["commits"])) == (False, 1)
    assert "squashed" in run("squash", "p/data@main^", "--reason", "tidy")
    assert "goes back to" in run("drop", "p/data@main")
    assert [commit["message"] for commit in run("log", "p/data", "--json")] == ["first"]
    run("squash", "p/data@main", code="squash.head")
    assert "deleted" in run("delete", "p/data")


def test_a_log_is_cut_by_time_path_and_metadata(run):
    assert len(run("log", "p/data:/a.csv", "--since", "2001-01-01", "--json")) == 1
    assert run("log", "p/data:/none", "--json") == []
    assert run("log", "p/data", "--until", "2001-01-01", "--json") == []
    assert run("log", "p/data", "--meta", "k=", "--author", "x", "--json") == []
    run("log", "p/data", "--since", "soon", code="log.time")
    run("log", "p/data", "--meta", "k", code="commit.meta")


def test_files_are_a_tree_and_tables_have_a_profile(run):
    assert re.search(r"a\.csv  4 B\nd/\n  b\.txt  1 B", run("tree", "p/data"))
    assert "b.txt" not in run("tree", "p/data", "--depth", "1")
    assert re.search(r"n +int64 +0 +1 +1 +1", run("show", "p/data:/a.csv"))
    assert run("profile", "p/data:/a.csv", "--json")["rows"] == 1
    run("wait", "p/data@main")


def test_every_command_about_versions_has_an_example_in_its_help():
    groups = get_command(tree()).commands
    words = "tree cat find profile merge append cp rm squash drop delete log show"
    named = [groups[name] for name in words.split()]
    for group in ("commit", "branch", "tag"):
        named += groups[group].commands.values()
    assert all("Example: clew " in command.help for command in named)
