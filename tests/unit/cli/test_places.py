"""Paths as a user types them, behind a colon or a blank; what else was meant is said."""

from __future__ import annotations

import json

import pytest
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
    workspace.create_repo("p/other")
    workspace.put("p/data", {"/a.csv": b"n\n1\n", "/d/b.txt": b"b", "/d/c.txt": b"c"})
    workspace.close()
    monkeypatch.setenv("CLEW_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(*words, code=None, hint=""):
        result = runner.invoke(tree(), list(words))
        if code is not None:
            assert isinstance(result.exception, ClewError), (result.output, result.exception)
            assert result.exception.code == code, result.exception
            assert hint in result.exception.hint, result.exception.hint
            return None
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.output) if "--json" in words else result.output

    return run


def paths(run) -> list[str]:
    return [one["path"] for one in run("ls", "p/data", "-r", "--json")]


def test_what_goes_may_stand_behind_the_repo(run):
    run("rm", "p/data", "a.csv")
    assert paths(run) == ["/d/b.txt", "/d/c.txt"]
    run("rm", "p/data@main", "d/b.txt", "p/data:/d/c.txt")
    assert paths(run) == []


def test_what_would_take_everything_or_is_elsewhere_is_refused(run):
    for words in (["p/data"], ["p/data", "/"], ["p/data:/a.csv", "/"], ["p/data", ""]):
        run("rm", *words, code="rm.everything", hint="clew delete p/data")
    run("rm", "p/data:/a.csv", "p/other:/a.csv", code="rm.elsewhere")
    run("rm", "p/data", "p/data@dev:/a.csv", code="rm.elsewhere")
    run("rm", "p/data", "never.csv", code="file.unknown")
    assert paths(run) == ["/a.csv", "/d/b.txt", "/d/c.txt"]


def test_a_path_behind_a_slash_is_told_how_it_is_written(run):
    for words in (["rm"], ["cat"], ["ls"], ["get"], ["find"], ["log"]):
        run(*words, "p/data/d/b.txt", code="repo.name", hint="p/data:/d/b.txt")


def test_commands_that_read_take_a_path_behind_the_repo(run):
    assert run("cat", "p/data", "a.csv") == "n\n1\n"
    assert [one["path"] for one in run("ls", "p/data", "d", "--json")] == ["/d/b.txt", "/d/c.txt"]
    assert [one["change"]["path"] for one in run("find", "p/data", "a.csv", "--json")] == ["/a.csv"]
    assert len(run("log", "p/data", "d", "--json")) == 1
    assert run("profile", "p/data", "a.csv", "--json")["rows"] == 1
    run("cat", "p/data:/d", "b.txt", code="address.twice", hint="p/data:/b.txt")


def test_a_file_that_is_to_come_is_not_taken_for_where_to_write(run, tmp_path):
    run("get", "p/data", "a.csv", code="get.target", hint="clew get p/data:/a.csv")
    assert not (tmp_path / "a.csv").exists()
    run("get", "p/data:/a.csv", "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b"n\n1\n"
    run("get", "p/data:/d", "a.csv", code="get.target", hint="directory")
    run("get", "p/data", "./d")
    assert (tmp_path / "d" / "a.csv").is_file()


def test_where_a_file_goes_may_stand_behind_a_colon(run, tmp_path):
    (tmp_path / "x.csv").write_bytes(b"x\n")
    run("put", "p/data:/new", "x.csv", "--no-wait")
    run("put", "p/data:/y.csv", "x.csv", "--no-wait")
    assert "/new/x.csv" in paths(run)
    assert "/y.csv" in paths(run)
    run("put", "p/data@dev", "x.csv", "--no-wait")
    assert "/x.csv" in [one["path"] for one in run("ls", "p/data@dev", "--json")]
    run("put", "p/data:/new", "x.csv", "--path", "/old", code="address.twice")
    run("put", "p/data@main^", "x.csv", code="put.ref")
    run("put", "x.csv", "p/data", code="file.missing", hint="clew put p/data x.csv")


def test_copies_and_appends_say_what_to_type(run, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"2\n")
    run("cp", "p/data:/a.csv", "b.csv", code="repo.unknown", hint="clew get p/data:/a.csv b.csv")
    run("cp", "p/data:/a.csv", "/b.csv", code="repo.name", hint="p/data:/b.csv")
    run("append", "p/data", "a.csv", code="append.no_path", hint="clew append p/data:/a.csv a.csv")
    run("append", "p/data", "-", code="append.no_path", hint="p/data:/name.csv")
