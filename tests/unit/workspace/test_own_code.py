"""Models whose classes are in modules of the user's own on PYTHONPATH, beside the project."""

from __future__ import annotations

import json
import sys
from urllib.request import Request, urlopen

import pytest

from clew.base.settings import Settings
from clew.sdk.versions import load_version
from clew.serving import ServingProcess
from clew.workspace import open_workspace, serving_settings

TEAM = """
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

SHARE = 0.5

class Halves(RegressorMixin, BaseEstimator):
    def fit(self, rows, target):
        self.level_ = float(np.mean(target))
        return self

    def predict(self, rows):
        return self.level_ + SHARE * np.asarray(rows)[:, 0]
"""
FILE = """
import clew
from team_models.halves import Halves

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.5), convert=False)
def model(data, trial):
    return Halves().fit(data.select("x").to_numpy(), data["y"].to_numpy())

@p.gate(model)
def good(candidate):
    candidate.replay()

p.endpoint("apart", model, isolate=True)
p.endpoint("within", model, isolate=False)
"""
ROWS = b"x,y\n" + b"".join(b"%d,10\n" % n for n in range(40))


@pytest.fixture
def team(tmp_path, monkeypatch):
    place = tmp_path / "code"
    (place / "team_models").mkdir(parents=True)
    (place / "team_models" / "__init__.py").touch()
    (place / "team_models" / "halves.py").write_text(TEAM)
    monkeypatch.setenv("PYTHONPATH", str(place), prepend=":")
    monkeypatch.syspath_prepend(str(place))
    yield place
    for name in [one for one in sys.modules if one.partition(".")[0] == "team_models"]:
        del sys.modules[name]


def ask(url: str, name: str, x: float) -> list[float]:
    body = json.dumps({"instances": [{"x": x}]}).encode()
    with urlopen(Request(f"{url}/v1/models/{name}:predict", data=body), timeout=60) as reply:
        return json.load(reply)["predictions"]


def test_a_model_of_the_teams_own_code_answers_apart_and_keeps_its_code(team, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "p.py").write_text(FILE)
    settings = Settings(home=project / ".clew", workers=1)
    workspace = open_workspace(settings, create=True)
    try:
        workspace.apply(project / "p.py")
        workspace.put("p/rows", {"/rows.csv": ROWS})
        workspace.wait()
        failed = [(job.step, job.reason) for job in workspace.jobs() if job.state != "done"]
        assert not failed
        right = 10.0 + 0.5 * 4
        process = ServingProcess.start(serving_settings(workspace.rooms.settings))
        try:
            assert ask(process.url, "apart", 4) == ask(process.url, "within", 4) == [right]
        finally:
            process.stop()
        # another day: the module has changed, and where it is served it is not there at all
        (team / "team_models" / "halves.py").unlink()
        process = ServingProcess.start(serving_settings(workspace.rooms.settings))
        try:
            assert ask(process.url, "apart", 4) == ask(process.url, "within", 4) == [right]
        finally:
            process.stop()
        needed = workspace.read(
            f"p/model@{workspace.model('p/model@champion').commit}:/requirements.txt"
        ).decode()
        assert "scikit-learn" in needed
        _, loaded = load_version(workspace, "p/model@champion")
        assert loaded.predict({"x": [4.0]})["prediction"].tolist() == [right]
    finally:
        workspace.close()
