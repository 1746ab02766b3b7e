"""Trains one trial outside of Clew's own compute, as a rank that somebody else has started.

Knows what ``torchrun`` and its kin set (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``) and where the
bytes are; there is no search to ask and no parent to tell: rank 0 prints what it reports, a JSON
object a line. Started as ``python -m clew.experiments.alone`` with ``CLEW_TRAINING``: the payload
of :func:`clew.experiments.worker.run_trial` with the tree of the project as ``snapshot``, and the
digest of the file of its ``environment`` where the training has one of its own: it is built here
first, once for all ranks of a machine, and this process goes on in it.

``CLEW_CHECKPOINTS``, where set, is a directory that all ranks see and that outlives them: rank 0
notes its latest checkpoint there, and who is started again goes on from it. ``CLEW_OUTPUT`` is a
directory for what was trained: ``model.pkl``, ``checkpoint.pkl`` (or ``checkpoint/``),
``meta.json`` and ``metrics.json``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from clew.base.errors import Invalid
from clew.base.own_code import for_another_python
from clew.base.records.environments import OwnEnvironment
from clew.experiments.members import FollowerPort
from clew.experiments.trial import Checkpoint, Trial
from clew.experiments.worker import WorkerPort, train
from clew.places import Environments
from clew.store import Store

TRAINING, CHECKPOINTS, OUTPUT = "CLEW_TRAINING", "CLEW_CHECKPOINTS", "CLEW_OUTPUT"
Message = dict[str, Any]
MODULE = "clew.experiments.alone"
_NOTE = "latest.json"


class Lines:
    """A context without a parent: what rank 0 says is printed, and nobody pauses anything."""

    call_id = "alone"

    def __init__(self, scratch: Path, rank: int, notes: Path | None) -> None:
        self.scratch = scratch
        self.metrics: dict[str, object] = {}
        self._rank = rank
        self._notes = notes

    def send(self, message: Message) -> None:
        """Print it; remember a checkpoint for whoever is started again."""
        if self._rank:
            return
        if message["kind"] == "report":
            self.metrics = {"step": message["step"], **message["metrics"]}
        if message["kind"] == "checkpoint" and self._notes is not None:
            _write(self._notes / _NOTE, {"tree": message["tree"], "step": message["step"]})
        print(json.dumps(message, default=str), flush=True)  # noqa: T201 - the log of the job

    def ask(self, message: Message) -> Message:
        """Nobody pauses it, and at its last step it ends."""
        return {"pause": False} if message["kind"] == "pulse" else {"target": 0}


class Alone(Trial):
    """A trial as one rank of a group that nobody of ours conducts: all take the same steps."""

    def __init__(self, *, rank: int, world_size: int, local_rank: int, **given: Any) -> None:
        super().__init__(**given)
        self.rank, self.world_size, self.local_rank = rank, world_size, local_rank

    def latest_checkpoint(self) -> Checkpoint | None:
        """That of rank 0; others keep none."""
        return super().latest_checkpoint() if self.rank == 0 else None

    def _take(self, checkpoint: Checkpoint, shard: bool) -> None:
        if shard and self.world_size > 1:
            raise Invalid(
                "checkpoint.alone",
                "Parts of a checkpoint are not joined where no launcher of ours is there.",
                hint="Gather the state on rank 0 and save it without shard=True.",
            )
        if self.rank == 0:
            super()._take(checkpoint, shard)


def run(environ: Mapping[str, str]) -> dict[str, object]:
    """Train as the rank that the environment says; what :func:`train` gives."""
    told: dict[str, Any] = json.loads(environ[TRAINING])
    rank, size = int(environ.get("RANK", "0")), int(environ.get("WORLD_SIZE", "1"))
    notes = Path(environ[CHECKPOINTS]) if environ.get(CHECKPOINTS) else None
    store = Store.attach(told["store"])
    with tempfile.TemporaryDirectory(prefix="clew-alone-") as place:
        project = Path(place, "project")
        store.export_tree(told.pop("snapshot"), "/", project)
        sys.path.insert(0, str(project))
        payload = {**told, "snapshot_dir": str(project)}
        _go_on(payload, notes)
        context = Lines(Path(place, "scratch"), rank, notes)
        context.scratch.mkdir()
        port = FollowerPort(payload, context) if rank else WorkerPort(payload, context)
        local = int(environ.get("LOCAL_RANK", "0"))
        trial = Alone(rank=rank, world_size=size, local_rank=local, port=port, **payload["trial"])
        found = train(payload, context, trial, port)
    if rank == 0:
        print(json.dumps({"kind": "trained", **found}), flush=True)  # noqa: T201 - as above
        if environ.get(OUTPUT):
            _give(store, str(found["tree"]), context.metrics, Path(environ[OUTPUT]))
    return found


def enter(environ: Mapping[str, str]) -> None:
    """Go on in the environment that the training has of its own, where it has one.

    Raises:
        Invalid: ``environment.python`` where this machine has not its Python.
        Unavailable: ``environment.build``.
    """
    told: dict[str, Any] = json.loads(environ[TRAINING])
    digest = told.pop("environment", "")
    if not digest:
        return
    content = Store.attach(told["store"]).read(digest)
    own = msgspec.json.decode(content, type=OwnEnvironment)
    environments = Environments.at_hand()
    environments.bake(own.lock, own.python)
    command = environments.worker(own.lock, own.python, MODULE)
    os.execve(command[0], command, {**for_another_python(environ), TRAINING: json.dumps(told)})  # noqa: S606 - no shell, and the line is ours


def _go_on(payload: dict[str, Any], notes: Path | None) -> None:
    """Begin with the checkpoint that an earlier start has noted."""
    if notes is None or not (notes / _NOTE).exists():
        return
    latest = json.loads((notes / _NOTE).read_text())
    payload["restore"] = latest["tree"]
    payload["trial"] = {**payload["trial"], "start": latest["step"]}


def _give(store: Store, tree: str, metrics: Mapping[str, object], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    _write(target / "metrics.json", metrics)
    for entry in store.entries(tree) if tree else ():
        file = target / entry.path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        store.export(entry.digest, file)


def _write(file: Path, values: Mapping[str, object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(values))
    temporary.replace(file)


if __name__ == "__main__":
    enter(os.environ)
    run(os.environ)
