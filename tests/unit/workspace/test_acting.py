"""What triggers do: each action once, under one change; warm trainings go on from what is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace

STEPS = """
import clew

p = clew.Pipeline("p")
rows = p.source("rows")
other = p.source("other")

@p.step(rows.reference(), other)
def count(rows: list[bytes], other: list[bytes]) -> dict:
    return {"rows": len(rows)}

p.trigger("again", when=clew.on_commit(rows), do=clew.run(count))
p.trigger("all", when=clew.on_event("thing.never"), do=clew.run())
p.trigger("back", when=clew.on_event("thing.never"), do=clew.rollback("nobody"))
p.trigger("train", when=clew.on_event("thing.never"), do=clew.retrain())
p.trigger("tell", when=clew.on_event("thing.never"),
          do=[clew.notify(command=["sh", "-c", "cat >> told.json"]), clew.run(count)])
"""

MODEL = """
import clew
from sklearn.dummy import DummyClassifier

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5))
def model(data, trial):
    found = trial.restore()
    with open("{log}", "a") as log:
        print(found["round"] if found else 0, file=log)
    trial.checkpoint({{"round": (found["round"] if found else 0) + 1}}, step=1)
    return DummyClassifier().fit(data.select("x").to_pandas(), data["y"].to_numpy())

p.trigger("cold", when=clew.on_event("thing.never"), do=clew.retrain(model))
p.trigger("warm", when=clew.on_event("thing.never"), do=clew.retrain(model, warm=True))
"""


def applied(tmp_path: Path, text: str):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "p.py").write_text(text)
    workspace = open_workspace(Settings(home=tmp_path / ".clew", workers=2), create=True)
    workspace.apply(tmp_path / "project" / "p.py")
    return workspace


def test_actions_are_done_and_what_cannot_be_says_why(tmp_path):
    workspace = applied(tmp_path, STEPS)
    workspace.put("p/other", {"/o": b"1"})
    workspace.put("p/rows", {"/a": b"1"})
    workspace.wait()
    (again,) = workspace.firings("again")
    assert (again.state, again.effect) == ("done", "ran count of p")
    commit = workspace.commit("p/rows@main")
    assert again.causes == (f"commit/{commit.id}",)
    assert again.change == commit.global_id  # nothing else ran in it: it is one change
    for name in ("all", "back", "train", "tell"):
        workspace.fire_trigger(name, reason="by hand")
    workspace.wait()
    found = {one.trigger: one for one in workspace.firings()}
    assert found["all"].effect == "ran count of p"
    assert "endpoint.unknown" in found["back"].error
    assert "p trains nothing" in found["train"].error
    assert found["tell"].effect == "ran sh; ran count of p"
    told = (tmp_path / "told.json").read_text()
    assert (json.loads(told)["trigger"], told[-2:]) == ("tell", "}\n"), "one line for each firing"
    assert found["tell"].id in (tmp_path / "told.json").read_text()
    assert {one.state for one in found.values()} == {"done", "failed"}
    workspace.close()


@pytest.mark.slow
def test_a_warm_training_begins_with_what_the_version_before_has_learned(tmp_path):
    log = tmp_path / "began"
    workspace = applied(tmp_path, MODEL.format(log=log))
    rows = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(40))
    workspace.put("p/rows", {"/rows.csv": rows})
    workspace.wait()
    for name in ("warm", "warm", "cold"):
        workspace.fire_trigger(name)
        workspace.wait()
    workspace.close()
    assert log.read_text().split() == ["0", "1", "2", "0"]
