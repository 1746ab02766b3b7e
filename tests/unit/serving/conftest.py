"""What the tests of serving share: a workspace with endpoints, and real serving processes."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from clew.base.ids import new_id
from clew.base.records import Signature
from clew.db import Database
from clew.lineage import Lineage
from clew.repos import Repos
from clew.serving import EndpointDefinition, Serving, ServingProcess, ServingSettings, immediate
from clew.store import Store
from clew.testing.postgres import database_url

HERE = Path(__file__).parent
HAS_GRPC = importlib.util.find_spec("h2") is not None


def beside(name: str) -> ModuleType:
    """A module that stands next to the tests."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


fake = beside("fake_process")


class Workspace:
    """Rooms below and at serving, in one directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = database_url(home)
        self.db = Database.open(self.url)
        self.db.create()
        self.store = Store.open(home / "store")
        self.repos = Repos(self.db, self.store)
        self.spool = home / "spool"
        self.lineage = Lineage(self.db)
        self.serving = Serving(self.db, self.repos, self.store, self.lineage, self.spool)
        self.repos.create("p/model", kind="model")
        self.processes: list[ServingProcess] = []

    def endpoint(self, name="e", rollout=None, **more) -> None:
        with self.db.begin() as tx:
            definition = EndpointDefinition(
                name=name, pipeline="p", model="p/model", rollout=rollout or immediate(), **more
            )
            self.serving.define(tx, definition)

    def deploy(self, law: dict, endpoint="e", example: bytes = b"", **more):
        """A revision whose model keeps this law."""
        files = {"/fake.json": json.dumps(law).encode()}
        if example:
            files["/clew/example.json"] = example
        commit = self.repos.commit("p/model", files, replace=True)
        asked = {
            "model_version": new_id(),
            "version": commit.id[:4],
            "global_id": new_id(),
            "reason": "a test",
        }
        return self.serving.deploy(
            endpoint,
            commit=commit.id,
            tree=commit.tree,
            signature=msgspec.convert(law["signature"], Signature),
            **(asked | more),
        )

    def serve(self, **more) -> ServingProcess:
        if not HAS_GRPC:
            more.pop("grpc_port", None)
        settings = ServingSettings(
            database_url=self.url,
            store_address=str(self.home / "store"),
            spool_dir=self.spool,
            log_file=self.home / "serving.log",
            command=[sys.executable, str(HERE / "fake_process.py")],
            **more,
        )
        process = ServingProcess.start(settings)
        self.processes.append(process)
        return process

    def wait(self, ready, timeout_s: float = 60.0):
        """Wait, by the events of the workspace, until ``ready`` gives something true."""
        deadline = time.monotonic() + timeout_s
        while True:
            seen = self.db.events.last()
            if found := ready():
                return found
            assert time.monotonic() < deadline, "it did not come to pass"
            self.db.events.wait(seen, 0.05)

    def state(self, revision) -> str:
        return self.serving.revision(revision.id).state

    def close(self) -> None:
        for process in self.processes:
            process.stop()
        self.db.close()


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path)
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One serving process for all tests of a file, with an endpoint of each kind of model."""
    workspace = Workspace(tmp_path_factory.mktemp("served"))
    try:
        for name, law in {
            "matrix": fake.matrix(scale=2.0, fail_above=1e6, refuse_above=1e5),
            "columns": fake.columns(),
            "wide": fake.matrix(wide=True),
            "text": fake.text(),
            "half": fake.half(),
        }.items():
            workspace.endpoint(name)
            workspace.deploy(law, name, version="3")
        workspace.endpoint("empty")
        workspace.process = workspace.serve(grpc_port=0)
        yield workspace
    finally:
        workspace.close()


@pytest.fixture
def laws():
    return fake


@pytest.fixture
def load():
    return beside("load")
