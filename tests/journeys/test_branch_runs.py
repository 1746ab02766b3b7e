"""A change tried on a branch of the whole pipeline: main stays, what is known is not made again."""

from __future__ import annotations

import json

import pytest

from clew.base.settings import read_settings
from clew.sdk import connect_embedded
from clew.testing.postgres import database_url
from clew.workspace import make_workspace

PIPELINE = """
import clew

p = clew.Pipeline("p")
raw, rates = p.source("raw"), p.source("rates")
p.parameter("factor", default=1)


@p.step(raw.glob("/*.txt"), per="file")
def count(raw: str) -> dict:
    return {"words": len(raw.split())}


@p.step(count, rates)
def total(count: list[dict], rates: str, factor: int) -> dict:
    return {"total": sum(one["words"] for one in count) * int(rates) * factor}


@p.map(total, over={"k": [1, 2]})
def times(total: dict, k: int) -> dict:
    return {"times": total["total"] * k}
"""
WORDS = PIPELINE.replace("len(raw.split())", "len(set(raw.split()))")


class Loop:
    def __init__(self, home) -> None:
        self.file = home / "pipeline.py"
        url = database_url(home / ".clew")
        make_workspace(home / ".clew", {}, db="" if url.startswith("sqlite") else url)
        self.work = connect_embedded(read_settings({}, home), working=True)
        self.apply(PIPELINE)
        self.put("p/rates", "/rate.txt", "10")
        self.put("p/raw", "/a.txt", "x x x y")
        self.put("p/raw", "/b.txt", "x")

    def apply(self, text, branch="main", **parameters):
        self.file.write_text(text)
        before = len(self.work.jobs(limit=500))
        self.work.apply(self.file, branch=branch, parameters=parameters)
        self.work.wait()
        return self.ran(before)

    def put(self, repo, path, text, branch="main"):
        before = len(self.work.jobs(limit=500))
        self.work.put(repo, {path: text.encode()}, branch=branch)
        self.work.wait()
        return self.ran(before)

    def ran(self, before):
        """Pipeline, step and datums run of the jobs since."""
        jobs = self.work.jobs(limit=500)
        return {(job.pipeline, job.step): job.done for job in reversed(jobs[: len(jobs) - before])}

    def read(self, step, branch, path=""):
        return json.loads(self.work.read(f"p/{step}@{branch}:{path or f'/{step}.json'}"))


@pytest.fixture
def loop(tmp_path):
    place = Loop(tmp_path)
    yield place
    place.work.close()


def test_a_branch_reads_main_where_it_has_nothing_and_writes_its_own(loop):
    ran = loop.apply(WORDS, "try")
    assert ran == {("p@try", "count"): 2, ("p@try", "total"): 1, ("p@try", "times"): 2}
    assert loop.read("total", "try") == {"total": 30}
    assert loop.read("total", "main") == {"total": 50}
    assert loop.read("times", "try", "/k=2.json") == {"times": 60}
    names = [one.name for one in loop.work.pipelines()]
    assert names == ["p", "p@try"]


def test_what_the_pipeline_made_is_known_to_the_branch_and_the_other_way_round(loop):
    assert set(loop.apply(PIPELINE, "same").values()) == {0}
    assert loop.read("total", "same") == {"total": 50}
    ran = loop.apply(PIPELINE, "more", factor=3)
    assert ran == {("p@more", "count"): 0, ("p@more", "total"): 1, ("p@more", "times"): 2}
    loop.apply(WORDS, "try")
    assert set(loop.apply(WORDS).values()) == {0}, "what was tried is not made again on main"
    assert loop.read("total", "main") == {"total": 30}


def test_new_data_of_main_goes_to_both_until_the_branch_has_its_own(loop):
    loop.apply(WORDS, "try")
    ran = loop.put("p/raw", "/c.txt", "z z")
    assert ran[("p", "count")] == ran[("p@try", "count")] == 1
    assert (loop.read("total", "main"), loop.read("total", "try")) == (
        {"total": 70}, {"total": 40}
    )  # fmt: skip
    ran = loop.put("p/rates", "/rate.txt", "100", branch="try")
    assert {name for name, _ in ran} == {"p@try"}
    assert (loop.read("total", "main"), loop.read("total", "try")) == (
        {"total": 70}, {"total": 400}
    )  # fmt: skip
    ran = loop.put("p/rates", "/rate.txt", "5")
    assert {name for name, _ in ran} == {"p"}
    assert loop.read("total", "try") == {"total": 400}


def test_data_of_a_branch_is_merged_and_then_the_code_is_applied(loop):
    loop.apply(WORDS, "try")
    loop.put("p/rates", "/rate.txt", "100", branch="try")
    loop.work.merge("p/rates", "try")
    loop.work.wait()
    assert loop.read("total", "main") == {"total": 500}
    assert set(loop.apply(WORDS).values()) == {0}
    assert loop.read("total", "main") == {"total": 300}


def test_a_plan_of_a_branch_says_what_would_run_there(loop):
    loop.file.write_text(WORDS)
    plan = loop.work.plan(loop.file, branch="try")[0]
    assert plan.pipeline == "p@try"
    assert [(one.step, one.action) for one in plan.datums] == [("count", "run")] * 2
    loop.file.write_text(PIPELINE)
    plan = loop.work.plan(loop.file, branch="try")[0]
    assert {one.action for one in plan.datums} == {"skip"}


def test_a_map_has_its_own_sets_on_a_branch(loop):
    ran = loop.apply(PIPELINE.replace("[1, 2]", "[2, 3]"), "try")
    assert ran[("p@try", "times")] == 1
    assert [one.path for one in loop.work.ls("p/times@try")] == ["/k=2.json", "/k=3.json"]
    assert [one.path for one in loop.work.ls("p/times@main")] == ["/k=1.json", "/k=2.json"]


def test_a_run_with_other_values_on_a_branch_leaves_main_alone(loop):
    loop.apply(PIPELINE, "try")
    loop.work.run("p@try", parameters={"factor": 7})
    loop.work.wait()
    assert loop.read("total", "try") == {"total": 350}
    assert loop.read("total", "main") == {"total": 50}


def test_a_model_tried_on_a_branch_moves_no_alias_and_no_endpoint(trained):
    before = [trained.json("model", "numbers/model@champion"), trained.json("endpoints")]
    trained.edit("numbers.py", "LIMIT = 50.0", "LIMIT = 40.0")
    said = trained.json("apply", "numbers.py", "--branch", "try")
    ran = {job["step"]: job["state"] for job in said["jobs"]}
    assert {"clean", "model", "model.gate"} <= ran.keys()
    after = [trained.json("model", "numbers/model@champion"), trained.json("endpoints")]
    assert after == before
    said = trained.json("apply", "numbers.py")
    work = {job["step"]: job["done"] for job in said["jobs"]}
    assert (work["clean"], work["model"]) == (0, 0), "data and model of the branch are known"


def test_triggers_are_those_of_main(loop):
    text = PIPELINE + '\np.trigger("again", when=clew.on_commit(raw), do=clew.run(times))\n'
    loop.apply(text, "try")
    assert loop.work.triggers() == []
    loop.apply(text)
    loop.apply(text.replace("do=clew.run(times)", "do=clew.notify()"), "try")
    (again,) = loop.work.triggers()
    assert (again.pipeline, again.action) == ("p", "run p.times")
