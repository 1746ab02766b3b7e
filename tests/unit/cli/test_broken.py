"""A command that commits says at its end what is broken now, also before it, and how to see it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import closing

import pytest
from typer.testing import CliRunner

from clew.base.settings import Settings
from clew.cli.app import tree
from clew.serving import ServingProcess
from clew.workspace import open_workspace, serving_settings

FILE = """
import clew
import polars as pl

p = clew.Pipeline("p")
rows = p.source("rows")
other = p.source("other")
tables = p.source("tables")

@p.step(rows)
def first(rows: bytes) -> dict:
    return {"of": 1 / int(rows)}

@p.step(first)
def second(first: dict) -> dict:
    return first

@p.step(other)
def aside(other: bytes) -> dict:
    return {"of": 1 / int(other)}

@p.step(tables)
def stacked(tables: pl.DataFrame) -> pl.DataFrame:
    return tables
"""
SERVED = """
import clew
from sklearn.dummy import DummyClassifier

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5))
def model(data, trial):
    return DummyClassifier().fit(data.select("x").to_pandas(), data["y"].to_numpy())

def after(outputs, rows):
    return {"risk": outputs["nothing"]}

p.endpoint("risk", model, postprocess=after, example=[{"x": 1.0}])
"""
ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n > 10) for n in range(20))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "p.py").write_text(FILE)
    with closing(open_workspace(Settings(home=tmp_path / ".clew", workers=1), create=True)) as near:
        near.apply(tmp_path / "p.py")
    return tmp_path


def run(*words: str, given: str = "", exits: int = 0) -> str:
    """What a command prints."""
    done = CliRunner().invoke(tree(words), words, input=given, catch_exceptions=False)
    assert done.exit_code == exits, done.output
    return done.stdout


def put(repo: str, text: str, *, exits: int = 0, path: str = "/a.txt") -> str:
    return run("put", f"p/{repo}", "-", "--path", path, given=text, exits=exits)


def test_what_the_data_broke_is_told_with_the_commands_that_show_it_and_the_data_stay(place):
    told = put("rows", "0", exits=1)
    found = re.search(r"broken: p/first failed: .*division by zero", told)
    assert found, told
    job, again = re.search(r"Look: clew job (\w+) --log\. Again: clew retry (\w+)", told).groups()
    assert job == again
    assert "ZeroDivisionError" in run("job", job, "--log")
    assert "blocked by that: p/second" in told
    assert "What was committed stays." in told
    assert run("get", "p/rows:/a.txt", "-") == "0"
    assert "broken" not in put("rows", "2")


def test_what_was_broken_before_is_told_and_does_not_fail_the_command(place):
    put("rows", "0", exits=1)
    told = put("other", "1")
    assert "broken before this change: p/first failed" in told
    assert "What was committed stays." not in told, "nothing of this change is broken"
    found = json.loads(run("put", "p/other", "-", "--path", "/a.txt", "--json", given="3"))
    assert [(one["name"], one["state"]) for one in found["broken"]] == [
        ("p/first", "failed"),
        ("p/second", "blocked"),
    ]
    assert found["commit"]["global_id"] not in {one["global_id"] for one in found["broken"]}


def test_files_that_are_not_one_table_are_told_at_the_end(place):
    put("tables", "a,b\n1,2\n", path="/1.csv")
    told = put("tables", "a,c\n1,2\n", path="/2.csv", exits=1)
    assert re.search(r"broken: p/stacked failed: .*are not one table", told), told


def test_code_that_is_not_there_any_more_is_told_at_the_end(place, monkeypatch):
    beside = place / "beside"
    (beside / "own_helping").mkdir(parents=True)
    (beside / "own_helping" / "__init__.py").write_text("FACTOR = 2\n")
    (beside / "own_helping" / "large.bin").write_bytes(b"\0" * (2 << 20))  # stays where it is
    monkeypatch.setenv("PYTHONPATH", str(beside), prepend=":")
    text = "import own_helping\n" + FILE.replace("1 / int(rows)", "own_helping.FACTOR")
    (place / "p.py").write_text(text)
    run("apply", "p.py")
    assert "broken" not in put("rows", "1")
    shutil.rmtree(beside / "own_helping")
    told = put("rows", "2", exits=1)
    assert re.search(r"broken: p/first failed: .*own_helping", told), told


def test_a_revision_that_serving_processes_cannot_load_is_waited_for_and_told(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "p.py").write_text(SERVED)
    settings = Settings(home=tmp_path / ".clew", workers=1)
    with closing(open_workspace(settings, create=True)) as near:
        near.apply(tmp_path / "p.py")
        process = ServingProcess.start(serving_settings(near.rooms.settings))
    try:
        (tmp_path / "rows.csv").write_bytes(ROWS)
        told = run("put", "p/rows", "rows.csv", exits=1)
        assert re.search(r"broken: risk r1 failed: It cannot be loaded: .*KeyError", told), told
        assert "Look: clew endpoints." in told
        assert "It cannot be loaded" in run("endpoints")
        with closing(open_workspace(settings)) as near:
            change = near.change(near.commit("p/rows@main").global_id)
            assert [(one.kind, one.name) for one in change.broken] == [("revision", "risk r1")]
            assert {job.state for job in change.jobs} == {"done"}
            (tmp_path / "p.py").write_text(SERVED.replace("nothing", "label"))
        assert "broken" not in run("apply", "p.py")
        with closing(open_workspace(settings)) as near:
            assert near.change(change.global_id).broken == ()
    finally:
        process.stop()


@pytest.fixture(autouse=True)
def forget():
    yield
    sys.modules.pop("own_helping", None)
