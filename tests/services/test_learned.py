"""What models of the real libraries have learned, in short.

Each runs in a process of its own, with this environment or (where the variable CLEW_TRAINERS names
a Python) with that one. A library that is missing there is skipped by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

PYTHON = os.environ.get("CLEW_TRAINERS", sys.executable)
HEAD = """
import json, warnings
warnings.simplefilter("ignore")
import msgspec, numpy
from clew.models.learned import learned_by, own_importances
chance = numpy.random.default_rng(0)
x = chance.normal(size=(300, 3))
y = (3 * x[:, 0] - x[:, 1] > 0).astype(int)
names = ["most", "some", "none"]
"""
TAIL = """
found = msgspec.to_builtins(learned_by(model, names))
print(json.dumps([found, own_importances(model, names, {})]))
"""
MODELS = {
    "xgboost": "import xgboost\nmodel = xgboost.XGBClassifier(n_estimators=6).fit(x, y)",
    "xgboost trees of its own": """
        import xgboost
        model = xgboost.train({"max_depth": 2}, xgboost.DMatrix(x, label=y), 6)
    """,
    "xgboost linear": """
        import xgboost
        rows = xgboost.DMatrix(x, label=y, feature_names=names)
        model = xgboost.train({"booster": "gblinear"}, rows, 5)
    """,
    "lightgbm": """
        import lightgbm
        model = lightgbm.LGBMClassifier(n_estimators=6, verbose=-1).fit(x, y)
    """,
    "lightgbm trees of its own": """
        import lightgbm
        model = lightgbm.train({"verbose": -1}, lightgbm.Dataset(x, y), 6)
    """,
    "torch": """
        import torch
        class Mine:
            def __init__(self):
                self.net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 1))
            def predict(self, rows):
                return rows
        model = Mine()
    """,
    "keras": """
        import keras
        layers = [keras.layers.Input((3,)), keras.layers.Dense(8), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
    """,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_tells_what_it_has_learned(name: str) -> None:
    library = name.split(maxsplit=1)[0]
    probe = subprocess.run([PYTHON, "-c", f"import {library}"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"{PYTHON} has no {library}: name one that has it in CLEW_TRAINERS")
    code = HEAD + textwrap.dedent(MODELS[name]) + TAIL
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    learned, (kind, own) = json.loads(done.stdout.splitlines()[-1])
    if library in {"torch", "keras"}:
        assert learned["by"] == "network"
        assert learned["count"] == 3 * 8 + 8 + 8 + 1
        assert sorted(len(one["shape"]) for one in learned["tensors"]) == [1, 1, 2, 2]
        assert own == {}
    elif "linear" in name:
        assert learned["by"] == "linear"
        assert learned["coefficients"][0]["feature"] == "most"
        assert learned["count"] == 3
    else:
        assert learned["by"] == "trees"
        assert learned["facts"]["trees"] == 6
        assert sum(one["splits"] for one in learned["splits"]) == learned["count"]
        assert kind in {"feature_importances_", "gain"}
        assert max(own, key=own.get) == "most"
