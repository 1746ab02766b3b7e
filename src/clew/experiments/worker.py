"""Runs one trial in a worker process: loads data and function, and brings results to the parent.

Knows no rows and no search: it speaks to its parent in messages and writes bytes to the store.

Messages: ``report`` {step, metrics}, ``checkpoint`` {step, tree}, ``file`` {path, type, step,
digest, size_bytes}, ``progress`` {share, text} and ``usage`` {at_us, values} are sent, ``rung``
{step} is asked and answered by {target}, ``pulse`` by {pause}. The value of the call is {paused,
step, checkpoint_step, tree}.
"""

from __future__ import annotations

import inspect
import json
import pickle
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cloudpickle

from clew.base.errors import Invalid
from clew.base.pickled import dumped_whole
from clew.codecs import annotations_of, load_value
from clew.compute import CallContext, Witness, load_function
from clew.experiments.judging import Judge
from clew.experiments.logged import Logged
from clew.experiments.paths import (
    CHECKPOINT_DIRECTORY,
    CHECKPOINT_PATH,
    META_FORMAT,
    META_PATH,
    MODEL_PATH,
)
from clew.experiments.trial import Checkpoint, Trial
from clew.experiments.usage import Sampling
from clew.store import EMPTY_TREE, Entry, Store

SAVE_EVERY_S = 1.0
"""How often at most a running trial's checkpoints are written."""

PULSE_EVERY_S = 1.0
"""How often at most a running trial asks whether it should pause before its next rung."""


def run_trial(payload: dict[str, Any], context: CallContext) -> dict[str, object]:
    """Train one trial until it pauses or ends.

    The payload: ``store`` (path), ``snapshot_dir``, ``file``, ``name`` of the function, ``inputs``
    [{parameter, tree, paths}], ``trial`` {id, number, params, seed, start, target, max_steps},
    ``restore`` (the tree that :meth:`Trial.restore` reads, '' for none); and what it gets by name
    (``parameters``), may read without a word (``allow``) and has ``declared``; ``feasible``
    ({file, name} of a feasibility function, or None).

    The tree that comes back has /checkpoint.pkl or files below /checkpoint/ (what restore gives),
    /model.pkl where that is not the returned model, or the trial is done, and /meta.json; it is ''
    where there is neither.
    """
    port = WorkerPort(payload, context)
    return train(payload, context, Trial(port=port, **payload["trial"]), port)


def train(
    payload: dict[str, Any], context: CallContext, trial: Trial, port: WorkerPort
) -> dict[str, object]:
    """Call the user's function; the value of :func:`run_trial`."""
    witness = Witness(
        payload["snapshot_dir"],
        allow=payload["allow"],
        declared=payload["declared"],
        store=payload["store"],
    )
    with witness.importing(payload["file"]):
        function = load_function(payload["snapshot_dir"], payload["file"], payload["name"])
    if given := payload.get("feasible"):
        with witness.importing(given["file"]):
            rule = load_function(payload["snapshot_dir"], given["file"], given["name"])
        port.judge_by(Judge(rule, trial.params))
    arguments = _arguments(function, payload, trial, port)
    try:
        with Sampling(context.send):
            model = witness.around(function)(**arguments)
    finally:
        if reads := witness.all():
            context.send({"kind": "undeclared", "reads": reads})
    latest = trial.latest_checkpoint()
    content = port.copy_to_keep(model, trial.paused() and latest is None)
    if latest is None and model is not None:
        latest = Checkpoint(step=trial.step, content=port.copy(model), meta={})
    return {
        "paused": trial.paused(),
        "step": trial.step,
        "checkpoint_step": latest.step if latest else 0,
        "tree": port.keep(latest, content),
    }


class WorkerPort:
    """The trial's way to its parent and to the store."""

    def __init__(self, payload: dict[str, Any], context: CallContext) -> None:
        self.store = _store(payload["store"])
        self._payload = payload
        self._context = context
        self._saved_at_s = time.monotonic()
        self.scratch = context.scratch
        """A directory of this run alone."""
        self._folders = 0
        self._pulse_at_s = time.monotonic()
        self._judge: Judge | None = None

    def judge_by(self, judge: Judge) -> None:
        """Have each report say how far from feasible the trial is."""
        self._judge = judge

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Send it; the parent batches."""
        if self._judge is not None:
            metrics = self._judge.with_answer(metrics)
        self._context.send({"kind": "report", "step": step, "metrics": metrics})

    def reached(self, step: int) -> int:
        """Ask the search."""
        answer = self._context.ask({"kind": "rung", "step": step})
        return int(str(answer["target"]))

    def pausing(self) -> bool:
        """Ask the parent, now and then."""
        if time.monotonic() - self._pulse_at_s < PULSE_EVERY_S:
            return False
        answer = self._context.ask({"kind": "pulse"})
        self._pulse_at_s = time.monotonic()
        return bool(answer["pause"])

    def load(self) -> Any:
        """Unpickle the checkpoint (or the model) of the tree that this run begins with.

        Where that is a directory, its files in one of the caller's own.
        """
        tree = self._payload["restore"]
        if not tree:
            return None
        entry = self.store.get(tree, CHECKPOINT_PATH)
        if entry is None and any(self.store.entries(tree, CHECKPOINT_DIRECTORY)):
            folder = self.folder()
            folder.rmdir()
            self.store.export_tree(tree, CHECKPOINT_DIRECTORY, folder)
            return folder
        entry = entry or self.store.get(tree, MODEL_PATH)
        if entry is None:
            raise Invalid(
                "checkpoint.empty",
                f"The tree {tree} holds neither {CHECKPOINT_PATH} nor {MODEL_PATH}.",
                hint="Start from the checkpoint or the artefact of a trial.",
            )
        with self.store.open_file(entry.digest) as file:
            return pickle.load(file)

    def folder(self) -> Path:
        """A new empty directory below the scratch of this run."""
        self._folders += 1
        folder = self.scratch / ".clew" / f"checkpoint-{self._folders}"
        folder.mkdir(parents=True)
        return folder

    def copy(self, obj: object) -> bytes:
        """A pickle that refers to the user's classes: read again beside the same code."""
        content: bytes = cloudpickle.dumps(obj)
        return content

    def copy_to_keep(self, model: object, is_checkpoint: bool) -> bytes | None:
        """A pickle of the model that brings the user's classes along: read without the code."""
        if model is None or is_checkpoint:
            return None
        return dumped_whole(model, self._payload["snapshot_dir"])

    def meta(self) -> dict[str, object]:
        """Of the tree that this run begins with; empty where there is none."""
        tree = self._payload["restore"]
        entry = self.store.get(tree, META_PATH) if tree else None
        if entry is None:
            return {}
        found: dict[str, object] = json.loads(self.store.read(entry.digest))["meta"]
        return found

    def save(self, checkpoint: Checkpoint, *, now: bool = False) -> bool:
        """Write a checkpoint and tell the parent, unless the last one is younger than a second."""
        if not (now or self.is_due()):
            return False
        tree = self.keep(checkpoint, None)
        self._context.send({"kind": "checkpoint", "step": checkpoint.step, "tree": tree})
        self.saved()
        return True

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.monotonic() - self._saved_at_s >= SAVE_EVERY_S

    def saved(self) -> None:
        """One was written now."""
        self._saved_at_s = time.monotonic()

    def keep(self, checkpoint: Checkpoint | None, model: bytes | None) -> str:
        """Bytes into the store, durable when this returns; the tree of them, '' for nothing."""
        if checkpoint is None and model is None:
            return ""
        contents: dict[str, bytes | Path] = {META_PATH: self._meta(checkpoint)}
        if checkpoint is not None and checkpoint.directory is not None:
            contents |= _files_below(checkpoint.directory)
        elif checkpoint is not None:
            contents[CHECKPOINT_PATH] = checkpoint.content
        if model is not None:
            contents[MODEL_PATH] = model
        with self.store.writer() as writer:
            put = {path: writer.put(content) for path, content in contents.items()}
            entries = [
                Entry(path=path, digest=digest, size_bytes=size)
                for path, (digest, size) in sorted(put.items())
            ]
            return writer.tree(EMPTY_TREE, entries)

    def log(self, logged: Logged) -> None:
        """Write a file of the trial; the parent keeps its name."""
        with self.store.writer() as writer:
            digest, size_bytes = writer.put(logged.content)
        self._context.send(
            {
                "kind": "file",
                "path": logged.path,
                "type": logged.kind,
                "step": logged.step,
                "digest": digest,
                "size_bytes": size_bytes,
            }
        )

    def progress(self, share: float, text: str) -> None:
        """Send it."""
        self._context.send({"kind": "progress", "share": share, "text": text})

    def _meta(self, checkpoint: Checkpoint | None) -> bytes:
        trial = self._payload["trial"]
        about = {
            "format": META_FORMAT,
            "trial": trial["id"],
            "number": trial["number"],
            "params": trial["params"],
            "seed": trial["seed"],
            "step": checkpoint.step if checkpoint else None,
            "meta": checkpoint.meta if checkpoint else {},
        }
        return json.dumps(about, sort_keys=True, default=str).encode()


def _files_below(directory: Path) -> dict[str, bytes | Path]:
    """Where each file of a checkpoint stands in its tree; links to files are followed."""
    return {
        f"{CHECKPOINT_DIRECTORY}/{file.relative_to(directory).as_posix()}": file
        for file in directory.rglob("*")
        if file.is_file()
    }


def _arguments(
    function: Callable[..., Any], payload: dict[str, Any], trial: Trial, port: WorkerPort
) -> dict[str, Any]:
    inputs = {one["parameter"]: one for one in payload["inputs"]}
    arguments: dict[str, Any] = {}
    annotations = annotations_of(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in inputs:
            one = inputs.pop(name)
            arguments[name] = load_value(
                port.store,
                one["tree"],
                one["paths"],
                annotations.get(name),
                scratch=port.scratch / "inputs" / name,
            )
        elif name in payload["parameters"]:
            arguments[name] = payload["parameters"][name]
        elif name == "trial" or annotations.get(name) is Trial:
            arguments[name] = trial
        elif parameter.default is inspect.Parameter.empty:
            raise _wrong_arguments(f"{name!r} of {function.__name__} is no input", payload)
    if inputs:
        raise _wrong_arguments(f"{function.__name__} takes no {', '.join(inputs)}", payload)
    return arguments


def _wrong_arguments(why: str, payload: dict[str, Any]) -> Invalid:
    names = ", ".join(one["parameter"] for one in payload["inputs"])
    return Invalid(
        "trial.arguments",
        f"The training function cannot be called: {why}.",
        hint=f"Its parameters should be: {names or 'no inputs'}, and trial.",
    )


@lru_cache(maxsize=4)
def _store(path: str) -> Store:
    return Store.attach(path)
