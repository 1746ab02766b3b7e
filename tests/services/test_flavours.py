"""Models of the real libraries come in by their files, and out of training steps as they are.

Each runs in a process of its own, with this environment or (where the variable CLEW_TRAINERS names
a Python with Clew's packages) with that one. A library that is missing there is skipped by name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PYTHON = os.environ.get("CLEW_TRAINERS", sys.executable)
HEAD = """
import os, sys, warnings
os.environ.setdefault("KERAS_BACKEND", "torch")
warnings.simplefilter("ignore")
from pathlib import Path
import numpy as np, polars as pl
from clew.base.settings import Settings
from clew.models import load_model
from clew.workspace import open_workspace

if __name__ == "__main__":
    place = Path(sys.argv[1])
    chance = np.random.default_rng(0)
    x = chance.normal(size=(300, 3)).astype(np.float32)
    y = (3 * x[:, 0] - x[:, 1] > 0).astype(int)
    frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y})
    frame.write_csv(place / "rows.csv")
"""
IMPORT = """
    clew = open_workspace(Settings(home=place / ".clew", workers=1), create=True)
    try:
        version = clew.import_model(
            file, name="bought/model", example=place / "rows.csv", target="y", trust=trust
        )
        tree = clew.rooms.repos.commit_by_id(version.commit).tree
        loaded = load_model(clew.rooms.store, tree)
        found = loaded.predict(frame.drop("y"))
        assert loaded.signature.task == "binary", loaded.signature
        assert np.allclose(found["probability"], wanted, atol=1e-5), (found, wanted)
        assert clew.card(version.id).things.metrics.test["roc_auc"] > 0.8
        print("well")
    finally:
        clew.close()
"""
FILES = {
    "xgboost": """
        import xgboost
        rows = xgboost.DMatrix(x, label=y)
        model = xgboost.train({"objective": "binary:logistic"}, rows, 6)
        file, trust, wanted = place / "m.json", False, model.predict(rows)
        model.save_model(file)
    """,
    "lightgbm": """
        import lightgbm
        rows = lightgbm.Dataset(x, y)
        model = lightgbm.train({"objective": "binary", "verbose": -1}, rows, 6)
        file, trust, wanted = place / "m.txt", False, model.predict(x)
        model.save_model(file)
    """,
    "torch": """
        import torch
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Sigmoid())
        with torch.no_grad():
            model[0].weight[:] = torch.tensor([[3.0, -1.0, 0.0]])
        file, trust = place / "m.pt", True
        torch.save(model, file)
        wanted = model(torch.from_numpy(x)).detach().numpy()[:, 0]
    """,
    "keras": """
        import keras
        layers = [keras.layers.Input((3,)), keras.layers.Dense(1, activation="sigmoid")]
        model = keras.Sequential(layers)
        model.layers[0].set_weights([np.array([[3.0], [-1.0], [0.0]]), np.zeros(1)])
        file, trust, wanted = place / "m.keras", False, model.predict(x, verbose=0)[:, 0]
        model.save(file)
    """,
}
PIPELINE = """
import clew
import numpy as np

p = clew.Pipeline("p")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.3))
def model(data, trial):
    x, y = data.drop("y").to_numpy().astype(np.float32), data["y"].to_numpy()
    BODY

@p.gate(model)
def good(candidate):
    candidate.at_least("roc_auc", 0.8)
    candidate.replay(tolerance=1e-4)
"""
TRAINED = {
    "xgboost": """
import xgboost
return xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(x, label=y), 9)
""",
    "lightgbm": """
import lightgbm
rows = lightgbm.Dataset(x, y)
return lightgbm.train({"objective": "binary", "verbose": -1}, rows, 9)
""",
    "torch": """
import torch
net = torch.nn.Linear(3, 1)
with torch.no_grad():
    net.weight[:] = torch.tensor([[3.0, -1.0, 0.0]])
return net
""",
}
RUN = """
    clew = open_workspace(Settings(home=place / ".clew", workers=1), create=True)
    try:
        clew.apply(place / "p.py")
        clew.put("p/rows", {"/rows.csv": place / "rows.csv"})
        clew.wait()
        version = clew.model("p/model@1")
        assert version.state == "blessed", clew.verdicts() or [
            (one.kind, one.state, one.reason) for one in clew.jobs()
        ]
        print("well")
    finally:
        clew.close()
"""


def run(library: str, code: str, place: Path) -> None:
    probe = subprocess.run(
        [PYTHON, "-c", f"import {library}, mlflow, polars, msgspec"],
        env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True, check=False,
    )  # fmt: skip
    if probe.returncode:
        pytest.skip(f"{PYTHON} has no {library}: name one that has it in CLEW_TRAINERS")
    script = place / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [PYTHON, str(script), str(place)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "well"


@pytest.mark.parametrize("library", FILES)
def test_a_file_of_a_library_becomes_a_version_that_answers_the_same(library, tmp_path) -> None:
    made = textwrap.indent(textwrap.dedent(FILES[library]), "    ")
    run(library, HEAD + made + IMPORT, tmp_path)


@pytest.mark.parametrize("library", TRAINED)
def test_what_a_training_step_returns_as_it_is_passes_its_gate(library, tmp_path) -> None:
    body = textwrap.indent(TRAINED[library].strip(), "    ").strip()
    (tmp_path / "p.py").write_text(PIPELINE.replace("BODY", body))
    run(library, HEAD + RUN, tmp_path)
