"""What is logged of training by itself, by the real MLflow onto files of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

PROGRAM = """
import json, os, sys
from clew.base.autologging import autologging

sys.stdout, out = open(os.devnull, "w"), sys.stdout  # MLflow tells where its runs are
found = {}
with autologging(os.environ):
    from sklearn.datasets import load_breast_cancer
    from sklearn.tree import DecisionTreeClassifier
    import mlflow
    x, y = load_breast_cancer(return_X_y=True)
    client = mlflow.MlflowClient()

    def fit(name):
        DecisionTreeClassifier(max_depth=2).fit(x, y)
        run = mlflow.last_active_run()
        files = [one.path for one in client.list_artifacts(run.info.run_id)]
        found[name] = {
            "pictures": sum(path.endswith(".png") for path in files),
            "depth": run.data.params["max_depth"],
            "score": "training_f1_score" in run.data.metrics,
        }

    fit("by itself")
    mlflow.sklearn.autolog(log_models=False)
    fit("as asked")
print(json.dumps(found), file=out)
"""


def test_pictures_of_training_data_are_drawn_where_the_code_asks_for_them_alone(tmp_path):
    uri = (tmp_path / "runs").as_uri()  # a database would be migrated first: 8 s
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_FILE_STORE": "true"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=170,
    )
    found = json.loads(done.stdout)
    told = {"depth": "2", "score": True}
    assert found == {"by itself": {"pictures": 0, **told}, "as asked": {"pictures": 3, **told}}
