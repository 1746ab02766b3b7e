"""Autologging of the libraries that people train with, by the real MLflow client in an environment
of its own, against `clew server`: parameters, metrics, and the model as a logged model.

The environments are made once below the temporary directory of the system; where a package cannot
be had, its test is skipped and says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

INSTALL_S = 1200
CLEW = [sys.executable, "-m", "clew.cli"]
ENVIRONMENTS = {
    "trees": ["mlflow>=3.17,<4", "scikit-learn>=1.7", "xgboost-cpu", "lightgbm"],
    "lightning": ["mlflow>=3.17,<4", "torch==2.13.0", "lightning>=2.5"],
}

DATA = """
import warnings
warnings.simplefilter("ignore")
import numpy as np
draw = np.random.default_rng(1)
x = draw.normal(size=(200, 4))
y = (x[:, 0] + 0.1 * draw.normal(size=200) > 0).astype(int)
import mlflow
mlflow.set_experiment("autolog")
mlflow.autolog(silent=True)
"""

PROGRAMS = {
    "sklearn": "from sklearn.ensemble import RandomForestClassifier\n"
    "RandomForestClassifier(n_estimators=5, max_depth=3).fit(x, y)\n",
    "xgboost": "import xgboost\n"
    "data = xgboost.DMatrix(x, y)\n"
    "xgboost.train({'max_depth': 2, 'objective': 'binary:logistic'}, data, 5,"
    " evals=[(data, 'train')], verbose_eval=False)\n",
    "lightgbm": "import lightgbm\n"
    "data = lightgbm.Dataset(x, y)\n"
    "lightgbm.train({'max_depth': 2, 'objective': 'binary', 'verbose': -1}, data, 5,"
    " valid_sets=[data])\n",
    "pytorch": """
mlflow.pytorch.autolog(silent=True)
import torch, lightning
class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, _):
        rows, target = batch
        found = self.layer(rows)[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(found, target)
        self.log("loss", loss, on_epoch=True)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
rows = torch.utils.data.TensorDataset(torch.tensor(x).float(), torch.tensor(y).float())
trainer = lightning.Trainer(max_epochs=2, enable_progress_bar=False, logger=False,
                            enable_checkpointing=False, accelerator="cpu")
trainer.fit(Model(), torch.utils.data.DataLoader(rows, batch_size=50))
""",
}

LOOK = """
import json, sys
client = mlflow.MlflowClient()
(run,) = mlflow.search_runs(output_format="list", max_results=1)
models = client.search_logged_models([run.info.experiment_id])
mine = [one for one in models if one.source_run_id == run.info.run_id]
loaded = [mlflow.pyfunc.load_model(one.model_uri) for one in mine]
json.dump({"status": run.info.status, "params": run.data.params, "tags": run.data.tags,
           "metrics": run.data.metrics, "models": len(loaded)}, open(sys.argv[1], "w"))
"""


def python_of(name):
    """The interpreter of a virtual environment; made where it is not there."""
    place = Path(tempfile.gettempdir()) / f"clew-mlflow-{os.getuid()}" / name
    done = place / "installed.json"
    if not done.exists() or json.loads(done.read_text()) != ENVIRONMENTS[name]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        install = [place / "bin" / "python", "-m", "pip", "install", "--quiet"]
        told = subprocess.run(
            [*install, "--disable-pip-version-check", *ENVIRONMENTS[name]],
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        if told.returncode:
            pytest.skip(f"{ENVIRONMENTS[name]} cannot be had here: {told.stderr.strip()[-300:]}")
        done.write_text(json.dumps(ENVIRONMENTS[name]))
    return place / "bin" / "python"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A whole `clew server`; its URL."""
    home = tmp_path_factory.mktemp("autolog")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "MLFLOW_"))}
    subprocess.run([*CLEW, "init", "--bare", "."], cwd=home, env=environ, check=True)
    process = subprocess.Popen(
        [*CLEW, "server", "--port", "0", "--serving-port", "0"],
        cwd=home,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "Ctrl-C" in line:
            break
    yield json.loads((home / ".clew" / "server.json").read_text())["url"]
    process.terminate()
    process.stdout.read()
    assert process.wait(60) == 0
    process.stdout.close()


@pytest.mark.timeout(INSTALL_S + 300)
@pytest.mark.parametrize(
    ("library", "environment", "param"),
    [
        ("sklearn", "trees", "max_depth"),
        ("xgboost", "trees", "max_depth"),
        ("lightgbm", "trees", "max_depth"),
        ("pytorch", "lightning", "epochs"),
    ],
)
def test_what_a_library_trains_is_logged_with_its_model(url, library, environment, param, tmp_path):
    python = python_of(environment)
    program = tmp_path / "train.py"
    program.write_text(DATA + PROGRAMS[library] + LOOK)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("CLEW_", "PYTHON"))}
    environ |= {"MLFLOW_TRACKING_URI": url, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [python, "-I", program, tmp_path / "told.json"],
        env=environ | {"GIT_PYTHON_REFRESH": "quiet"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["status"] == "FINISHED"
    assert told["tags"]["mlflow.autologging"] == library
    assert told["tags"]["clew.global_id"]
    assert param in told["params"]
    assert told["metrics"]
    assert told["models"] == 1
