"""What the tests of serving share: a workspace with endpoints, and real serving processes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType

import msgspec
import psutil
import pytest
from hypothesis import HealthCheck, Phase, seed, settings

from clew.base.ids import PredictionIds, new_id
from clew.base.records import Signature
from clew.db import Database
from clew.lineage import Lineage
from clew.repos import Repos
from clew.serving import (
    EndpointDefinition,
    Serving,
    ServingProcess,
    ServingSettings,
    accounts,
    immediate,
    tables,
)
from clew.serving.accounts import now_us
from clew.serving.stats import Account
from clew.store import Store
from clew.testing.postgres import database_url

HERE = Path(__file__).parent
HAS_GRPC = importlib.util.find_spec("h2") is not None
PREDICTIONS = PredictionIds()


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
            "moments": fake.moments(),
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


# asked over HTTP ---------------------------------------------------------------------------------

ROW = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}


def ask(process, name, verb="infer", *, body=None, version="", headers=None):
    """Post a question to an endpoint; its status and body."""
    place = f"/versions/{version}" if version else ""
    address = f"{process.url}/v2/models/{name}{place}/{verb}"
    asked = urllib.request.Request(address, json.dumps(body or ROW).encode(), headers or {})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def told(answer):
    """The outputs of a good answer, by name."""
    status, body = answer
    assert status == 200, body
    return {one["name"]: one["data"] for one in body["outputs"]}


def children(process):
    """Pids of the processes that the serving process has started."""
    (server,) = process.pids
    return [child.pid for child in psutil.Process(server).children()]


# revisions and traffic as rows ------------------------------------------------------------------


def states(workspace):
    revisions = workspace.serving.endpoint("e").revisions
    return {each.number: (each.state, each.traffic) for each in revisions}


def process(workspace, name="s1"):
    """A serving process that is only told of."""
    with workspace.db.begin() as tx:
        accounts.register(tx, name, "http://127.0.0.1:1")


def loaded(workspace, revision, process="s1", error=""):
    workspace.serving._rollouts.report(revision.id, process, error)


@pytest.fixture
def live(workspace, laws):
    """An endpoint with a live revision, and a process that is only told of."""
    workspace.endpoint()
    process(workspace)
    first = workspace.deploy(laws.matrix())
    loaded(workspace, first)
    return first


def answered(workspace, revision, requests, **more):
    account = Account()
    for _ in range(requests):
        account.add(0.001)
    for name, value in more.items():
        setattr(account, name, value)
    with workspace.db.begin() as tx:
        accounts.add_counts(tx, {("e", revision.id): account.snapshot()})


def rewarded(workspace, revision, rewards, *, metric="reward", arm="live", unit=""):
    """Rows of feedback on predictions of a revision, as the room keeps them."""
    rows = [
        {
            "prediction": PREDICTIONS.next(), "row": 0, "name": "", "endpoint": "e",
            "revision": revision.id, "model_version": revision.model_version,
            "global_id": "g", "arm": arm, "propensity": 0.5, "label": None, "reward": None,
            "correct": None, "error": None, "predicted_us": now_us() + 60_000_000,
            "at_us": now_us(), "commit": "c", metric: float(reward),
        }
        for reward in rewards
    ]  # fmt: skip
    rows = [{**row, "unit": unit or row["prediction"]} for row in rows]
    with workspace.db.begin() as tx:
        tx.execute(tables.feedback.insert(), rows)


# drawn examples, and a wire of ours --------------------------------------------------------------


@pytest.fixture
def loop():
    with asyncio.Runner() as runner:
        yield runner.get_loop()


def fuzz(examples):
    """So many examples, drawn from a fixed seed (or FUZZ_SEED)."""

    def decorate(test):
        drawn = settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        return seed(int(os.environ.get("FUZZ_SEED", "41")))(drawn(test))

    return decorate


class Wire(asyncio.Transport):
    """What a connection of HTTP/2 writes, as frames: stream and payload."""

    def __init__(self):
        super().__init__()
        self.written, self.closed = bytearray(), False

    def write(self, data):
        assert not self.closed
        self.written += data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    abort = close

    def can_write_eof(self):
        return False

    def frames(self, kind):
        found, at, raw = [], 0, bytes(self.written)
        while at < len(raw):
            stop = at + 9 + int.from_bytes(raw[at : at + 3], "big")
            if raw[at + 3] == kind:
                found.append((int.from_bytes(raw[at + 5 : at + 9], "big"), raw[at + 9 : stop]))
            at = stop
        return found
