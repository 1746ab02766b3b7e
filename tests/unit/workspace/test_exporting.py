"""A training as a TrainJob: what Kubernetes takes, and what its pods run gives the same model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clew.base.errors import ClewError
from clew.base.records.exports import TrainJobWish
from clew.base.settings import Settings
from clew.cli.exporting import yaml_of
from clew.workspace import open_workspace

PIPELINE = """
import clew
import polars as pl
from sklearn.linear_model import SGDClassifier

p = clew.Pipeline("shop")
rows = p.source("rows")

@p.train(rows, target="y", test=clew.holdout(0.25), space={"alpha": clew.choice([0.01])},
         search=clew.single(metric="loss", max_steps=3, seed=7), workers=2,
         parameters={"price": "$(COST) in $"})
def model(data: pl.DataFrame, trial: clew.Trial, price: str):
    assert price == "$(COST) in $"
    fitted = trial.restore() or SGDClassifier(alpha=trial.params.alpha, random_state=trial.seed)
    for step in trial.steps():
        fitted.partial_fit(data.select("x").to_numpy(), data["y"].to_numpy(), classes=[0, 1])
        trial.report(step, loss=1 / step, ranks=trial.world_size)
        trial.checkpoint(fitted)
    return fitted
"""
ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n > 20) for n in range(40))

# What the API server checks of a TrainJob (trainer.kubeflow.org/v1alpha1), as far as we write it:
# types, limits and required fields of the schema in kubeflow/trainer.
NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
QUANTITY = (
    r"(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?"
)


def text(longest: int, pattern: str = "") -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, str)
        and 0 < len(value) <= longest
        and (not pattern or re.fullmatch(pattern, value) is not None)
    )


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def amounts(value: Any) -> bool:
    return all(
        isinstance(one, int) or (isinstance(one, str) and re.fullmatch(QUANTITY, one))
        for one in value.values()
    )


def texts(value: Any) -> bool:
    return len(value) <= 128 and all(isinstance(one, str) and len(one) <= 65536 for one in value)


SCHEMA: dict[str, Any] = {
    "apiVersion": lambda value: value == "trainer.kubeflow.org/v1alpha1",
    "kind": lambda value: value == "TrainJob",
    "metadata": {
        "name": text(63, NAME),
        "namespace": text(63),
        "labels": lambda value: all(text(63, r"[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?")(one)
                                    for one in value.values()),
    },
    "spec": {
        "runtimeRef": {"name": text(253)},
        "trainer": {
            "image": text(500),
            "command": texts,
            "env": lambda value: len(value) <= 128
            and len({one["name"] for one in value}) == len(value),
            "numNodes": whole,
            "numProcPerNode": whole,
            "resourcesPerNode": {"requests": amounts, "limits": amounts},
        },
    },
}  # fmt: skip


def check(value: Any, schema: Any, path: str = "") -> None:
    """Unknown fields would be dropped by the API server without a word; here they are wrong."""
    if callable(schema):
        assert schema(value), f"{path}: {value!r}"
        return
    assert not value.keys() - schema.keys(), path
    for name, one in value.items():
        check(one, schema[name], f"{path}.{name}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("shop")
    workspace = open_workspace(Settings(home=home / ".clew", workers=2), create=True)
    workspace.apply_files({"shop.py": PIPELINE.encode()}, "shop.py")
    workspace.put("shop/rows", {"/rows.csv": ROWS})
    workspace.wait()
    yield workspace
    workspace.close()


def exported(workspace: Any, **wish: Any) -> dict[str, Any]:
    store = wish.pop("store", workspace.rooms.settings.store_address)
    made = workspace.export_trainjob("shop/model", TrainJobWish(store=store, **wish))
    manifest: dict[str, Any] = made.manifest
    return manifest


def test_what_is_exported_is_what_the_api_server_takes(trained: Any) -> None:
    manifest = exported(
        trained, image="registry.example/shop:1", namespace="team", url="http://clew:8686",
        secret="keys", secret_keys=("CLEW_TOKEN",),
    )  # fmt: skip
    check(manifest, SCHEMA)
    trainer = manifest["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 1)
    assert manifest["metadata"]["name"] == "shop-model"
    assert trainer["env"][-1]["valueFrom"] == {
        "secretKeyRef": {"name": "keys", "key": "CLEW_TOKEN"}
    }
    assert "clew put shop/model.trained" in trainer["command"][-1]
    assert yaml.safe_load(yaml_of(manifest)) == manifest
    assert exported(trained, nodes=1)["spec"]["trainer"]["numProcPerNode"] == 2


def test_what_its_pods_run_trains_the_model_of_the_version(trained: Any, tmp_path: Path) -> None:
    manifest = exported(trained)
    env = {one["name"]: one["value"] for one in manifest["spec"]["trainer"]["env"]}
    told = env["CLEW_TRAINING"].replace("$$", "$")  # as Kubernetes gives it to a container

    def start(rank: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "clew.experiments.alone"],
            env={
                **os.environ, "CLEW_TRAINING": told, "RANK": str(rank), "WORLD_SIZE": "2",
                "LOCAL_RANK": "0", "CLEW_OUTPUT": str(tmp_path / f"out-{rank}"),
                "CLEW_CHECKPOINTS": str(tmp_path / "notes"),
            },
            stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip

    said = []
    for process in [start(0), start(1)]:
        output, _ = process.communicate()
        assert process.returncode == 0
        said.append([json.loads(line) for line in output.splitlines()])
    assert said[1] == []
    reports = [one for one in said[0] if one["kind"] == "report"]
    assert [(one["step"], one["metrics"]["ranks"]) for one in reports] == [(1, 2), (2, 2), (3, 2)]
    version = trained.model("shop/model@1")
    learned = trained.rooms.experiments.artefact(said[0][-1]["tree"])
    before = trained.rooms.experiments.artefact(trained.rooms.experiments.learned(version.trial))
    assert learned == before != ""
    assert (tmp_path / "out-0" / "model.pkl").exists()
    assert json.loads((tmp_path / "out-0" / "metrics.json").read_text())["loss"] == 1 / 3
    assert not (tmp_path / "out-1").exists()
    rows = trained.log("shop/model.exported")
    assert rows, "the rows stay as long as the job may need them"


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"store": ""}, "export.store"),
        ({"name": "???"}, "export.name"),
        ({"nodes": 3}, "export.nodes"),
        ({"params": {"beta": 1}}, "export.params"),
    ],
)
def test_what_makes_no_job_is_refused(trained: Any, wish: dict[str, Any], code: str) -> None:
    with pytest.raises(ClewError) as refused:
        exported(trained, **wish)
    assert refused.value.code == code
