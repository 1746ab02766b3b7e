from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clew.base.ids import new_id
from clew.base.records import CodeRef
from clew.compute import Compute, ProcessPool
from clew.compute.inline import InlinePool
from clew.db import Database
from clew.experiments import Experiments, SearchDefinition
from clew.lineage import Lineage
from clew.repos import Repos
from clew.store import Store
from clew.testing.postgres import database_url


@dataclass
class House:
    """A workspace without the floors above experiments."""

    home: Path
    db: Database
    store: Store
    repos: Repos
    lineage: Lineage
    project: Path

    def experiments(self, compute: Compute) -> Experiments:
        return Experiments(self.db, self.repos, self.store, self.lineage, compute)

    def write(self, text: str) -> None:
        """The user's file."""
        (self.project / "train.py").write_text(textwrap.dedent(text))

    def search(
        self, compute: Compute, definition: SearchDefinition, space: dict[str, Any], **given: Any
    ) -> Any:
        job = given.pop("job", new_id())
        arguments = {
            "job": job,
            "pipeline": "shop",
            "step": "model",
            "global_id": new_id(),
            "definition": definition,
            "space": space,
            "function": CodeRef(snapshot="", file="train.py", name="model"),
            "snapshot_dir": str(self.project),
            "inputs": [],
        }
        return self.experiments(compute).search(**{**arguments, **given})


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "project").mkdir()
    db = Database.open(database_url(tmp_path))
    db.create()
    store = Store.open(tmp_path / "store")
    yield House(
        home=tmp_path,
        db=db,
        store=store,
        repos=Repos(db, store),
        lineage=Lineage(db),
        project=tmp_path / "project",
    )
    db.close()


@pytest.fixture
def inline(tmp_path: Path) -> Iterator[InlinePool]:
    pool = InlinePool(tmp_path / "scratch")
    yield pool
    pool.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Callable[[int], ProcessPool]]:
    pools: list[ProcessPool] = []

    def start(size: int) -> ProcessPool:
        pools.append(ProcessPool(size, tmp_path / "scratch", tmp_path / "logs"))
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()
