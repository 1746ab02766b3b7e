"""Callbacks with the real libraries: a trial that is paused and promoted ends as one run would.

Each runs in a process of its own, with this environment or (where the variable CLEW_TRAINERS names
a Python) with that one. A library that is missing there is skipped by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PYTHON = os.environ.get("CLEW_TRAINERS", sys.executable)
DATA = """
import numpy
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

x, y = load_breast_cancer(return_X_y=True)
x = StandardScaler().fit_transform(x).astype("float32")
y = y.astype("float32")
train, held = slice(0, 400), slice(400, None)
"""
TRAINERS = {
    "keras": """
        import keras
        def model(trial):
            watch = clew.callbacks.keras(trial)
            net = watch.restored
            if net is None:
                keras.utils.set_random_seed(trial.seed)
                net = keras.Sequential(
                    [keras.layers.Input((30,)), keras.layers.Dense(1, "sigmoid")])
                net.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
            net.fit(x[train], y[train], epochs=trial.max_steps, initial_epoch=trial.step, verbose=0,
                    validation_data=(x[held], y[held]), shuffle=False, callbacks=[watch])
            kept["steps"] = int(net.optimizer.iterations)
        metric, whole = "val_loss", 9 * 13
    """,
    "lightning": """
        import logging, torch, warnings
        import lightning.pytorch as pl
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        class Net(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(30, 1)
            def loss(self, batch):
                rows, labels = batch
                return torch.nn.functional.binary_cross_entropy_with_logits(
                    self.layer(rows)[:, 0], labels)
            def training_step(self, batch, _):
                return self.loss(batch)
            def validation_step(self, batch, _):
                self.log("val_loss", self.loss(batch))
            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters(), 0.01)
        def loader(part):
            rows = torch.utils.data.TensorDataset(torch.tensor(x[part]), torch.tensor(y[part]))
            return torch.utils.data.DataLoader(rows, batch_size=32)
        def model(trial):
            pl.seed_everything(trial.seed, verbose=False)
            watch = clew.callbacks.lightning(trial)
            trainer = pl.Trainer(max_epochs=trial.max_steps, callbacks=[watch], logger=False,
                                 enable_checkpointing=False, enable_progress_bar=False,
                                 enable_model_summary=False, accelerator="cpu", devices=1)
            trainer.fit(Net(), loader(train), loader(held), ckpt_path=watch.ckpt_path)
            kept["steps"] = trainer.global_step
        metric, whole = "val_loss", 9 * 13
    """,
    "torch": """
        import torch
        def model(trial):
            torch.manual_seed(trial.seed)
            net = torch.nn.Linear(30, 1)
            best = torch.optim.Adam(net.parameters(), 0.01)
            loop = clew.callbacks.pytorch(trial, model=net, optimizer=best)
            rows, labels = torch.tensor(x), torch.tensor(y)
            for _ in loop:
                order = torch.randperm(400)
                for at in order.split(32):
                    best.zero_grad()
                    loss = torch.nn.functional.binary_cross_entropy_with_logits(
                        net(rows[at])[:, 0], labels[at])
                    loss.backward()
                    best.step()
                with torch.no_grad():
                    said = torch.nn.functional.binary_cross_entropy_with_logits(
                        net(rows[held])[:, 0], labels[held])
                loop.report(val_loss=said)
            kept["steps"] = int(best.state_dict()["state"][0]["step"])
        metric, whole = "val_loss", 9 * 13
    """,
    "sklearn": """
        from sklearn.ensemble import GradientBoostingClassifier
        def model(trial):
            loop = clew.callbacks.sklearn(trial, lambda: GradientBoostingClassifier(
                warm_start=True, random_state=trial.seed, n_estimators=1), by=3)
            for _ in loop:
                loop.model.fit(x[train], y[train])
                chance = loop.model.predict_proba(x[held])
                loop.report(**clew.callbacks.scores(
                    "binary", y[held], loop.model.predict(x[held]), chance))
            kept["steps"] = len(loop.model.estimators_)
        metric, whole = "log_loss", 27
    """,
    "xgboost": """
        import xgboost
        def model(trial):
            watch = clew.callbacks.xgboost(trial)
            booster = xgboost.train(
                {"objective": "binary:logistic", "seed": trial.seed},
                xgboost.DMatrix(x[train], y[train]),
                num_boost_round=trial.max_steps - trial.step, verbose_eval=False,
                evals=[(xgboost.DMatrix(x[held], y[held]), "valid")],
                xgb_model=watch.booster, callbacks=[watch])
            kept["steps"] = booster.num_boosted_rounds()
        metric, whole = "valid_logloss", 9
    """,
    "lightgbm": """
        import lightgbm
        def model(trial):
            watch = clew.callbacks.lightgbm(trial)
            rows = lightgbm.Dataset(x[train], y[train], free_raw_data=False)
            booster = lightgbm.train(
                {"objective": "binary", "verbose": -1, "seed": trial.seed}, rows,
                num_boost_round=trial.max_steps - trial.step,
                valid_sets=[lightgbm.Dataset(x[held], y[held], reference=rows)],
                valid_names=["valid"], init_model=watch.booster, callbacks=[watch])
            kept["steps"] = booster.num_trees()
        metric, whole = "valid_binary_logloss", 9
    """,
    "transformers": """
        import os, torch, warnings
        warnings.simplefilter("ignore")
        from transformers import Trainer, TrainingArguments
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(30, 1)
            def forward(self, rows, labels):
                said = self.layer(rows)[:, 0]
                return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(said, labels)}
        def rows(part):
            return [{"rows": torch.tensor(a), "labels": torch.tensor(b)}
                    for a, b in zip(x[part], y[part])]
        def model(trial):
            torch.manual_seed(trial.seed)
            watch = clew.callbacks.transformers(trial)
            arguments = TrainingArguments(
                "out", num_train_epochs=trial.max_steps, per_device_train_batch_size=32,
                eval_strategy="epoch", save_strategy="no", report_to=[], disable_tqdm=True,
                use_cpu=True, seed=trial.seed, logging_strategy="no", prediction_loss_only=True)
            trainer = Trainer(Net(), arguments, train_dataset=rows(train), eval_dataset=rows(held),
                              callbacks=[watch])
            trainer.train(resume_from_checkpoint=watch.resume_from)
            kept["steps"] = trainer.state.global_step
        metric, whole = "eval_loss", 9 * 13
    """,
}
PROGRAM = """
import json, sys
from clew.experiments.trial import Trial
from clew.experiments.worker import WorkerPort
from clew.store import Store
from pathlib import Path
import clew
import os

kept = {}

class Context:
    '''Pauses at the rung that it is told.'''
    call_id = "c"
    def __init__(self, scratch):
        self.scratch, self.said = scratch, []
    def send(self, message):
        self.said.append(message)
    def ask(self, message):
        return {"pause": False} if message["kind"] == "pulse" else {"target": message["step"]}

def run(home, start, target, tree):
    scratch = home / f"scratch-{start}-{target}"
    scratch.mkdir()
    os.chdir(scratch)
    context = Context(scratch)
    about = dict(id="t", number=0, params={}, seed=7, start=start, target=target, max_steps=9)
    port = WorkerPort({"store": str(home / "store"), "snapshot_dir": "", "restore": tree,
                       "trial": about}, context)
    trial = Trial(port=port, **about)
    model(trial)
    latest = trial.latest_checkpoint()
    said = [m for m in context.said if m["kind"] == "report"]
    return said, port.keep(latest, None) if latest else "", trial.step

def main(home):
    Store.open(home / "store")
    first, tree, step = run(home, 0, 3, "")
    assert (step, [m["step"] for m in first]) == (3, [1, 2, 3]), (step, first)
    second, _, step = run(home, 3, 9, tree)
    assert (step, [m["step"] for m in second]) == (9, [4, 5, 6, 7, 8, 9]), (step, second)
    stopped = kept["steps"]
    alone, _, _ = run(home, 0, 9, "")
    print(json.dumps({
        "steps": [stopped, kept["steps"], whole],
        "paused": [m["metrics"][metric] for m in first + second],
        "alone": [m["metrics"][metric] for m in alone],
    }))
"""


@pytest.mark.parametrize("library", TRAINERS)
def test_a_trial_that_was_paused_ends_as_one_that_was_not(library: str, tmp_path: Path) -> None:
    environ = os.environ | {"KERAS_BACKEND": "torch"}
    found = subprocess.run(
        [PYTHON, "-c", f"import {library}"], env=environ, capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip(f"{library} is not installed; CLEW_TRAINERS may name a Python that has it")
    file = tmp_path / "train.py"
    file.write_text(
        PROGRAM + DATA + textwrap.dedent(TRAINERS[library]) + "\nmain(Path(sys.argv[1]))\n"
    )
    ended = subprocess.run(
        [PYTHON, str(file), str(tmp_path)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["steps"] == [said["steps"][2]] * 3
    assert said["paused"] == pytest.approx(said["alone"], rel=1e-4)
