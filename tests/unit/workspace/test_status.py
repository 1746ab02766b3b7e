"""At three in the morning: the status says what is broken now, the cause first, and no more."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from clew.base.settings import Settings
from clew.cli.app import tree
from clew.workspace import open_workspace

FILE = """
import clew

p = clew.Pipeline("p")
rows = p.source("rows")
other = p.source("other")

@p.step(rows)
def first(rows: bytes) -> dict:
    return {"of": 1 / int(rows)}

@p.step(first)
def second(first: dict) -> dict:
    return first

@p.step(other)
def aside(other: bytes) -> dict:
    return {"of": 1 / int(other)}
"""


@pytest.fixture
def near(tmp_path):
    (tmp_path / "p.py").write_text(FILE)
    near = open_workspace(Settings(home=tmp_path / ".clew", workers=1), create=True)
    near.apply(tmp_path / "p.py")
    near.wait()
    yield near
    near.close()


def put(near, repo: str, text: str) -> None:
    near.put(f"p/{repo}", {"/a.txt": text.encode()})
    near.wait()


def broken(near) -> list[tuple[str, str]]:
    return [(job.step, job.state) for job in near.status().refused]


def test_what_is_broken_is_told_until_it_is_good_again(near):
    put(near, "rows", "1")
    before = near.status().refused_before
    assert broken(near) == []
    for _ in ("0", "00"):
        put(near, "rows", _)
    assert broken(near) == [("first", "failed"), ("second", "blocked")], "once, the cause first"
    assert near.status().refused_before == before + 2, "each had failed once before"
    put(near, "other", "0")
    assert set(broken(near)) == {("first", "failed"), ("second", "blocked"), ("aside", "failed")}
    assert broken(near)[-1] == ("second", "blocked")
    put(near, "rows", "2")
    assert broken(near) == [("aside", "failed")]
    assert near.status().refused_before == before + 4


def test_many_good_jobs_later_it_is_still_told(near):
    put(near, "other", "0")
    for number in range(1, 12):
        put(near, "rows", str(number))
    near.status()
    assert broken(near) == [("aside", "failed")]


def test_a_step_that_is_gone_is_broken_no_more(near, tmp_path):
    put(near, "other", "0")
    text = FILE[: FILE.index("@p.step(other)")]
    (tmp_path / "p.py").write_text(text)
    near.apply(tmp_path / "p.py")
    near.wait()
    assert broken(near) == []


def test_the_command_says_what_to_do_and_where_the_rest_is(near, tmp_path, monkeypatch):
    for text in ("0", "00", "1", "000"):
        put(near, "rows", text)
    (failed, _) = near.status().refused
    near.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    told = CliRunner().invoke(tree(["status"]), ["status"], catch_exceptions=False).output
    assert told.count("✗ failed") == 1, told
    assert re.search(
        rf"Look: clew job {failed.id[:8]} --log. Again: clew retry {failed.id[:8]}", told
    )
    assert re.search(r"\d more failed, were refused or blocked before", told)
    assert "clew jobs --state" in told


RULED = """
import clew
import polars as pl

q = clew.Pipeline("q")
tables = q.source("tables")

@q.step(tables)
def stacked(tables: pl.DataFrame) -> pl.DataFrame:
    return tables

@q.expect(stacked)
def positive(t: clew.Table) -> None:
    t.column("x").between(1, 100)
"""


def test_what_rules_refuse_is_not_to_be_tried_again_as_it_is(near, tmp_path, monkeypatch):
    (tmp_path / "q.py").write_text(RULED)
    near.apply(tmp_path / "q.py")
    near.put("q/tables", {"/t.csv": b"x\n-1\n"})
    near.wait()
    (refused, *_) = near.status().refused
    assert refused.state == "refused"
    near.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    told = CliRunner().invoke(tree(["status"]), ["status"], catch_exceptions=False).output
    assert f"Look: clew job {refused.id[:8]} --log. Again: new data, or other rules" in told
