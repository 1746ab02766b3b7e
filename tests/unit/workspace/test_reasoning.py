"""Why a job ran or did nothing goes back to what set it off: a trigger, a schedule, a commit."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from clew.base.clock import now
from clew.base.settings import Settings
from clew.workspace import open_workspace

FLOW = """
import clew
from sklearn.dummy import DummyClassifier

p = clew.Pipeline("p")
rows = p.source("rows")

@p.step(rows.reference(), clew.cron("@every 1h", name="hourly"))
def stamped(rows: list[bytes], hourly: dict) -> dict:
    return {{"rows": len(rows)}}

@p.train(rows, target="y", test=clew.holdout(0.5))
def model(data, trial):
    return DummyClassifier().fit(data.select("x").to_pandas(), data["y"].to_numpy())

@p.gate(model)
def good(candidate):
    candidate.at_least("accuracy", 0)

COUNT = "select count(*) from orders"
many = clew.on_query(COUNT, url="sqlite:///{db}", above=2, every="100ms")
p.trigger("filled", when=many, do=clew.run("stamped"))
p.trigger("changed", when=clew.on_commit(rows), do=clew.run("stamped"))
"""
ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(40))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place: Path = tmp_path_factory.mktemp("reasons")
    with closing(sqlite3.connect(place / "shop.db")) as shop:
        shop.executescript("create table orders (id integer); insert into orders values (1)")
    (place / "flow.py").write_text(FLOW.format(db=place / "shop.db"))
    workspace = open_workspace(Settings(home=place / ".clew", workers=2), create=True)
    workspace.apply(place / "flow.py")
    workspace.rooms.pipelines.ticks.tick(now() + timedelta(hours=2))
    workspace.put("p/rows", {"/rows.csv": ROWS})
    workspace.wait()
    yield workspace
    workspace.close()


def last(workspace, step):
    return next(job for job in workspace.jobs() if job.step == step)


def test_a_job_of_a_trigger_goes_back_to_the_firing_and_to_what_set_that_off(made):
    (firing,) = made.firings("p/changed")
    job = next(j for j in made.jobs() if j.step == "stamped" and j.global_id == firing.change)
    why = made.why(job.id)
    (node,) = (one for one in why.nodes if one.kind == "firing")
    commit = made.commit("p/rows@main")
    edges = {(one.source, one.target, one.label) for one in why.edges}
    assert {(commit.id, firing.id, "set off"), (firing.id, job.id, "set off")} <= edges
    assert node.title.startswith("p/changed fired at ")
    assert any(f"because {firing.reason}" in one for one in why.sentences)
    below = made.why(commit.id, down=True)
    assert {firing.id, job.id} <= {one.id for one in below.nodes}


def test_a_change_goes_back_to_the_query_that_answered(made):
    end = time.monotonic() + 60
    while not made.rooms.triggers.poll(lambda _leaf, _since: [(3,)]):  # it is asked when it is due
        assert time.monotonic() < end
        time.sleep(0.02)
    made.wait()
    firing = made.firings("p/filled")[0]
    assert firing.state == "done"
    why = made.why(firing.change)
    assert firing.id in {one.id for one in why.nodes}
    (said,) = (one for one in why.sentences if one.startswith("The trigger p/filled fired at "))
    assert "select count(*)" in said or "3" in said
    assert made.why(firing.id).subject.kind == "firing"


def test_a_job_of_a_schedule_names_the_instant(made):
    job = next(j for j in made.jobs() if j.step == "stamped" and "hourly" in j.reason)
    said = " ".join(made.why(job.id).sentences)
    assert "was written by its schedule (@every 1h UTC), which came due at " in said


def test_a_training_and_a_gate_that_had_nothing_to_do_say_why(made):
    first = made.why(last(made, "model").id).sentences
    assert any("no earlier good job" in one for one in first), first
    made.put("p/rows", {"/rows.csv": ROWS + b"99,1\n"})
    made.wait()
    made.put("p/rows", {"/rows.csv": ROWS})
    made.wait()
    for step, what in (("model", "training"), ("model.gate", "judging")):
        job = last(made, step)
        if not job.skipped:
            continue
        said = made.why(job.id).sentences
        assert said[0].startswith(f"The {what} {job.id[:8]} of p/{step} is done: Nothing to do")
        assert "whose result stands" in said[1]
    assert last(made, "model").skipped
