"""A small workspace with one worker, and a project whose training data are made up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import numpy as np
import polars as pl
import pytest

from clew.base.ids import new_id
from clew.base.records import Commit, ModelVersion
from clew.codecs import dump_value
from clew.compute import Compute, ProcessPool
from clew.db import Database
from clew.lineage import Lineage
from clew.models import EvaluationDefinition, Models, Package, Split, TrainingRun, holdout
from clew.repos import Repos
from clew.store import EMPTY_TREE, Entry, Store
from clew.testing.postgres import database_url

MODEL = "flights/model"
EVALUATION = EvaluationDefinition(target="late", test=holdout(0.3, by="day"))


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    home = tmp_path_factory.mktemp("pool")
    pool = ProcessPool(1, home / "scratch", home / "logs")
    yield pool
    pool.close()


@dataclass
class House:
    """Rooms over one directory."""

    db: Database
    store: Store
    repos: Repos
    lineage: Lineage
    models: Models
    project: Path

    def keep(self, files: dict[str, bytes]) -> str:
        with self.store.writer() as writer:
            entries = [Entry(path=path, digest=d, size_bytes=n) for path, (d, n) in sorted(
                (path, writer.put(content)) for path, content in files.items())]  # fmt: skip
            return writer.tree(EMPTY_TREE, entries)

    def features(self, frame: pl.DataFrame) -> Commit:
        self.repos.create("flights/features", kind="output", exist_ok=True)
        content = dict(dump_value(frame, "features"))
        return self.repos.commit("flights/features", content, replace=True)

    def split(self, frame: pl.DataFrame) -> Split:
        return self.models.split(MODEL, self.features(frame), EVALUATION, global_id=new_id())

    def package(
        self,
        model: object,
        split: Split,
        *,
        frame: str = "polars",
        evaluation: EvaluationDefinition = EVALUATION,
        pickled: bytes = b"",
    ) -> Package:
        run = TrainingRun(
            model=MODEL, job=new_id(), global_id=new_id(), features="c", trial="trial-1",
            params={"depth": 3}, seed=7,
        )  # fmt: skip
        artefact = self.keep({"/model.pkl": pickled or cloudpickle.dumps(model)})
        return self.models.package(
            artefact,
            split=split,
            evaluation=evaluation,
            run=run,
            snapshot_dir=self.project,
            frame=frame,
        )

    def version(self, package: Package) -> ModelVersion:
        self.repos.create(MODEL, kind="model", exist_ok=True)
        commit = self.repos.commit_tree(MODEL, package.tree, global_id=package.run.global_id)
        return self.models.create_version(package, commit)


@pytest.fixture
def house(tmp_path: Path, pool: Compute) -> Iterator[House]:
    db = Database.open(database_url(tmp_path))
    store = Store.open(tmp_path / "store")
    lineage = Lineage(db)
    repos = Repos(db, store)
    models = Models(db, repos, store, lineage, pool)
    db.create()
    project = tmp_path / "code"
    project.mkdir()
    yield House(db, store, repos, lineage, models, project)
    db.close()


@pytest.fixture(name="flights")
def flights_fixture():
    return flights


def flights(rows: int = 1500, seed: int = 0, first_day: int = 0) -> pl.DataFrame:
    """Flights whose lateness follows from distance and hour, with noise."""
    random = np.random.default_rng(seed)
    distance = random.normal(size=rows)
    hour = random.normal(size=rows)
    chance = 1 / (1 + np.exp(-(1.5 * distance - hour)))
    return pl.DataFrame(
        {
            "day": first_day + np.arange(rows) // 10,
            "distance": distance,
            "hour": hour,
            "carrier": random.choice(["AA", "UA", "DL"], rows),
            "late": (random.random(rows) < chance).astype(int),
        }
    )
