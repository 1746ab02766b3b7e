"""Pipelines that are used again: parameters, slots, pipelines in pipelines, sets of parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import clew
from clew.base.errors import ClewError
from clew.base.settings import read_settings
from clew.sdk import connect_embedded
from clew.testing.postgres import database_url
from clew.workspace import make_workspace

CLEANING = """
import clew

cleaning = clew.Pipeline("cleaning")
raw = cleaning.source("raw")
cleaning.parameter("least", default=2, minimum=0)


@cleaning.step(raw.glob("/*.txt"), per="file")
def words(raw: str, least: int) -> list:
    return [word for word in raw.split() if len(word) >= least]


@cleaning.step(words)
def sizes(words: list[str]) -> dict:
    return {"words": len(words)}
"""

MAIN = """
import clew
from cleaning import cleaning

p = clew.Pipeline("p")
day, night = p.source("day"), p.source("night")
factor = p.parameter("factor", default=1.0, maximum=100, help="What counts are multiplied with.")
mode = p.parameter("mode", default="short", choices=["short", "long"])

d = p.use(cleaning, "day", raw=day)
n = p.use(cleaning, "night", raw=night, parameters={"least": 1})

features = p.slot("features", default="plain")


@features.option(d["words"])
def plain(words: list[str]) -> dict:
    return {"features": sorted(words)}


@features.option(d["words"], n.words, name="both")
def plain_and_more(words: list[str], more: list[str], factor: float) -> dict:
    return {"features": sorted(words + more), "factor": factor}


@p.step(d.sizes, parameters={"times": factor})
def scaled(sizes: dict, times: float, extra: int = 1) -> dict:
    return {"scaled": sizes["words"] * times * extra}


@p.step(features)
def report(features: dict, mode: str) -> dict:
    return {"mode": mode, **features}


@p.map(features, over={"k": [1, 2], "deep": [False]})
def fit(features: dict, k: int, deep: bool) -> dict:
    return {"score": len(features["features"]) * k}
"""


class Place:
    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "cleaning.py").write_text(CLEANING)
        self.write(MAIN)
        url = database_url(home / ".clew")
        make_workspace(home / ".clew", {}, db="" if url.startswith("sqlite") else url)
        self.work = connect_embedded(read_settings({}, home), working=True)

    def write(self, text: str) -> None:
        (self.home / "main.py").write_text(text)

    def apply(self, **parameters):
        applied = self.work.apply(self.home / "main.py", parameters=parameters)
        self.work.wait()
        return applied

    def put(self, repo: str, **files: str):
        self.work.put(repo, {f"/{name}.txt": text.encode() for name, text in files.items()})
        self.work.wait()

    def read(self, step: str, path: str = ""):
        return json.loads(self.work.read(f"p/{step}@main:{path or f'/{step}.json'}"))

    def ran(self, number: int) -> dict[str, int]:
        """Datums that ran, by step, in the jobs that came after ``number``."""
        jobs = self.work.jobs(limit=200)[: -number or None]
        return {job.step: job.done for job in reversed(jobs) if job.done}

    @property
    def jobs(self) -> int:
        return len(self.work.jobs(limit=200))


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.work.close()


@pytest.fixture
def loaded(place):
    place.apply()
    place.put("p/day", one="a bb ccc")
    place.put("p/night", one="x yy")
    return place


def code_of(act, *arguments, **more):
    with pytest.raises(ClewError) as caught:
        act(*arguments, **more)
    return caught.value.code, str(caught.value)


def test_a_pipeline_used_in_another_has_steps_of_its_own_and_is_not_registered(loaded):
    assert [one.name for one in loaded.work.pipelines()] == ["p"]
    assert loaded.read("day.sizes", "/day.sizes.json") == {"words": 2}
    assert loaded.read("night.sizes", "/night.sizes.json") == {"words": 2}
    info = loaded.work.pipelines()[0]
    assert {one.name: one.value for one in info.parameters} == {
        "factor": 1.0, "mode": "short", "day.least": 2, "features": "plain"
    }  # fmt: skip


def test_a_parameter_runs_only_the_steps_that_use_it_and_what_follows(loaded):
    before = loaded.jobs
    loaded.apply(factor="2.5")
    assert loaded.ran(before) == {"scaled": 1}
    assert loaded.read("scaled") == {"scaled": 5.0}
    assert "Parameters changed: times" in loaded.work.jobs(limit=1)[0].reason
    before = loaded.jobs
    loaded.apply(factor=2.5, mode="long")
    assert loaded.ran(before) == {"report": 1}
    before = loaded.jobs
    loaded.apply(**{"factor": 2.5, "mode": "long", "day.least": 3})
    assert loaded.read("day.sizes", "/day.sizes.json") == {"words": 1}
    assert loaded.ran(before).keys() == {
        "day.words", "day.sizes", "scaled", "features", "report", "fit"
    }  # fmt: skip


def test_a_run_with_other_values_keeps_them_until_the_file_is_applied_again(loaded):
    loaded.work.run("p", parameters={"factor": 10})
    loaded.work.wait()
    assert loaded.read("scaled") == {"scaled": 20.0}
    loaded.work.run("p", parameters={"mode": "long"})
    loaded.work.wait()
    values = {one.name: one.value for one in loaded.work.pipelines()[0].parameters}
    assert (values["factor"], values["mode"]) == (10.0, "long")
    before = loaded.jobs
    loaded.apply()
    assert loaded.read("scaled") == {"scaled": 2.0}
    assert loaded.ran(before) == {}, "what was made with these values before is known"


def test_a_slot_plugs_in_another_step_and_knows_what_the_first_one_made(loaded):
    assert loaded.read("features") == {"features": ["bb", "ccc"]}
    before = loaded.jobs
    loaded.apply(features="both")
    assert loaded.read("report")["features"] == ["bb", "ccc", "x", "yy"]
    assert loaded.ran(before).keys() == {"features", "report", "fit"}
    before = loaded.jobs
    loaded.apply(features="plain")
    assert loaded.read("features") == {"features": ["bb", "ccc"]}
    assert loaded.ran(before) == {}


def test_a_map_has_an_output_for_each_set_and_a_new_set_runs_alone(loaded):
    paths = [file.path for file in loaded.work.ls("p/fit@main")]
    assert paths == ["/k=1,deep=False.json", "/k=2,deep=False.json"]
    assert loaded.read("fit", paths[1]) == {"score": 4}
    loaded.write(MAIN.replace('"k": [1, 2]', '"k": [2, 3]'))
    plan = loaded.work.plan(loaded.home / "main.py")[0]
    assert {(d.action, d.inputs[-1]) for d in plan.datums if d.step == "fit"} == {
        ("run", "p/fit.sets:/k=3,deep=False.json"),
        ("skip", "p/fit.sets:/k=2,deep=False.json"),
        ("delete", "p/fit.sets:/k=1,deep=False.json"),
    }
    before = loaded.jobs
    loaded.apply()
    assert loaded.ran(before) == {"fit": 1}
    paths = [file.path for file in loaded.work.ls("p/fit@main")]
    assert paths == ["/k=2,deep=False.json", "/k=3,deep=False.json"]
    assert loaded.read("fit", paths[1]) == {"score": 6}


def test_a_wrong_value_is_refused_before_anything_is_registered(place):
    for given, code, said in (
        ({"factor": "much"}, "parameter.value", "factor='much'"),
        ({"factor": 101}, "parameter.value", "above 100"),
        ({"mode": "middle"}, "parameter.value", "short, long"),
        ({"features": "none"}, "parameter.value", "plain, both"),
        ({"facto": 1}, "parameter.unknown", "Did you mean factor"),
    ):
        found, text = code_of(place.apply, **given)
        assert found == code
        assert said in text
    place.write(MAIN.replace("default=1.0, ", "type=float, "))
    assert code_of(place.apply)[0] == "parameter.missing"
    assert place.work.pipelines() == []


def test_the_file_of_a_used_pipeline_registers_it(place):
    applied = place.work.apply(place.home / "cleaning.py")
    assert [one.pipeline for one in applied] == ["cleaning"]
    place.put("cleaning/raw", one="a bb")
    assert json.loads(place.work.read("cleaning/sizes@main:/sizes.json")) == {"words": 1}


def test_another_implementation_is_no_code_of_the_one_that_is_plugged_in(loaded):
    before = loaded.jobs
    loaded.write(MAIN.replace("sorted(words + more)", "sorted(more + words)"))
    loaded.apply()
    assert loaded.ran(before) == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('p.use(cleaning, "x", nothing=day)', "no source 'nothing'"),
        ('p.use(cleaning, "x", raw=day, parameters={"most": 1})', "no parameter 'most'"),
        ('p.use(cleaning, "x", raw=day)["none"]', "has no 'none'"),
        ('p.map(day, over=[{"k": 1}, {"j": 2}])', "differ in their names"),
        ('p.map(day, over={"k": 1})', "no grid"),
        ('p.parameter("p", default=3, maximum=2)', "above 2"),
        ('p.parameter("factor", default=3)', "two parameters"),
    ],
)
def test_a_wrong_definition_is_named(place, wrong, said):
    place.write(f"{MAIN}\n{wrong}\n")
    assert said in code_of(place.apply)[1]


def test_functions_of_steps_are_still_functions():
    p = clew.Pipeline("q")
    raw = p.source("raw")
    slot = p.slot("slot")

    @slot.option(raw)
    def one(raw: str) -> str:
        return raw + "!"

    @p.map(raw, over=[{"k": 1}])
    def many(raw: str, k: int) -> str:
        return raw * k

    assert one("a") == "a!"
    assert many("a", k=2) == "aa"
