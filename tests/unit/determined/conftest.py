from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clew.base.ids import new_id
from clew.base.ranks import Ranks
from clew.base.records import CodeRef
from clew.compute import Compute
from clew.compute.inline import InlinePool
from clew.db import Database
from clew.determined import determined_of
from clew.experiments import Experiments
from clew.lineage import Lineage
from clew.repos import Repos
from clew.store import Store
from clew.testing.postgres import database_url

SPEAKS = '''
"""What the harness of Determined says to the master of a trial, by HTTP alone."""
import json, os, pathlib, sys, urllib.error, urllib.request

TRIAL = os.environ["DET_TRIAL_ID"]
ALLOCATION = os.environ["DET_ALLOCATION_ID"]
CONFIG = json.loads(os.environ["DET_EXPERIMENT_CONFIG"])
HPARAMS = json.loads(os.environ["DET_HPARAMS"])
LATEST = os.environ.get("DET_LATEST_CHECKPOINT")
PLACE = pathlib.Path(CONFIG["checkpoint_storage"]["container_path"])
TOKEN = os.environ["DET_SESSION_TOKEN"]


def call(method, path, body=None, token=TOKEN):
    request = urllib.request.Request(
        os.environ["DET_MASTER"] + path,
        None if body is None else json.dumps(body).encode(),
        {"Grpc-Metadata-x-allocation-token": "Bearer " + token},
        method=method,
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def report(group, steps, metrics, batches=None):
    told = {"avgMetrics": metrics, "batchMetrics": batches}
    body = {"group": group, "metrics": {"metrics": told, "stepsCompleted": steps, "trialRunId": 1}}
    status, answer = call("POST", f"/api/v1/trials/{TRIAL}/metrics", body)
    assert status == 200, answer


def save(uuid, steps, text):
    (PLACE / uuid).mkdir()
    (PLACE / uuid / "state").write_text(text)
    metadata = {"steps_completed": steps}
    (PLACE / uuid / "metadata.json").write_text(json.dumps(metadata))
    body = {"uuid": uuid, "metadata": metadata, "resources": {}}
    assert call("POST", "/api/v1/checkpoints", body)[0] == 200


def preempted(wait_s=0):
    path = f"/api/v1/allocations/{ALLOCATION}/signals/preemption?timeout_seconds={wait_s}"
    return call("GET", path)[1]["preempt"]


def acknowledge():
    call("POST", f"/api/v1/allocations/{ALLOCATION}/signals/ack_preemption")
'''


@dataclass
class Cluster:
    """Experiments, and nothing of pipelines: trials have the Python of the tests."""

    experiments: Experiments
    db: Database
    store: Store
    repos: Repos
    project: Path

    def write(self, program: str) -> None:
        """The trials' program."""
        (self.project / "train.py").write_text(textwrap.dedent(program))

    def on(self, compute: Compute) -> Cluster:
        """The same, with its trials there."""
        lineage = Lineage(self.db)
        found = Experiments(self.db, self.repos, self.store, lineage, compute)
        return replace(self, experiments=found)

    def run(
        self, *, grace_s: float | None = None, ranks: Ranks | None = None, **config: Any
    ) -> Any:
        """Search as a configuration says."""
        found = determined_of({"entrypoint": "python3 train.py", **config})
        task = found.task
        if grace_s is not None:
            task = msgspec.structs.replace(task, grace_s=grace_s)
        return self.experiments.search(
            job=new_id(),
            pipeline="digits",
            step="trials",
            global_id=new_id(),
            definition=found.search,
            space=found.space,
            function=CodeRef(snapshot="", file="clew_experiment.py", name="run_task"),
            snapshot_dir=str(self.project),
            inputs=[],
            initial=self.experiments.learned(task.source) if task.source else "",
            all_warm=bool(task.source),
            parameters={
                "task": msgspec.to_builtins(task),
                "project": str(self.project),
                "programs": str(Path(sys.executable).parent),
                "experiment": "experiment",
            },
            policy=found.policy,
            ranks=ranks,
            allow=("*",),
            metric_optional=not task.halves,
        )

    def detail(self, trial: str) -> Any:
        return self.experiments.detail(trial)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    project = tmp_path / "project"
    project.mkdir()
    (project / "clew_experiment.py").write_text("from clew.determined import run_task\n")
    (project / "speaks.py").write_text(SPEAKS)
    db = Database.open(database_url(tmp_path))
    db.create()
    store = Store.open(tmp_path / "store")
    repos, pool = Repos(db, store), InlinePool(tmp_path / "scratch")
    experiments = Experiments(db, repos, store, Lineage(db), pool)
    yield Cluster(experiments=experiments, db=db, store=store, repos=repos, project=project)
    pool.close()
    db.close()
