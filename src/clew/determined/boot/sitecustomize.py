"""Shows the harness of Determined where the files of its task are, when it is imported.

Runs at the start of every Python of a trial, in the trial's own environment: knows nothing of Clew.
The harness reads ``/run/determined/info/*.json``, one place for a whole machine; trials that share
a machine without containers each have a directory of their own, which ``CLEW_DET_INFO`` names.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).resolve().parent
_FILES = {
    "RendezvousInfo": "rendezvous.json",
    "TrialInfo": "trial.json",
    "ResourcesInfo": "resources.json",
    "ClusterInfo": "cluster.json",
}


def _show_files(module: ModuleType) -> None:
    """Both ways, reading and writing, have the path as their one default."""
    for name, file in _FILES.items():
        for way in ("_from_file", "_to_file"):
            method = vars(getattr(module, name))[way]
            function = getattr(method, "__func__", method)
            function.__defaults__ = (str(Path(os.environ["CLEW_DET_INFO"], file)),)


def _show_code(module: ModuleType) -> None:
    """Trainers put the code of the trial into their checkpoints."""
    vars(module)["MANAGED_TRAINING_MODEL_COPY"] = os.environ["CLEW_DET_CODE"]


def _do_without_events(module: ModuleType) -> None:
    """Event files need TensorFlow or PyTorch, which every image of Determined has."""
    found = module.get_metric_writer

    def get_metric_writer() -> object:
        try:
            return found()
        except ImportError as error:
            logging.getLogger("determined").info("No event files are written: %s", error)
            return None

    vars(module)["get_metric_writer"] = get_metric_writer


_ACTS = {
    "determined._info": _show_files,
    "determined.constants": _show_code,
    "determined.tensorboard": _do_without_events,
}


class _Finder:
    """Acts on modules right after they were imported."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        act = _ACTS.get(name)
        spec = PathFinder.find_spec(name, path, target) if act else None
        if act is None or spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            act(module)

        loader.exec_module = exec_module
        return spec


def _go_on() -> None:
    """A ``sitecustomize`` of the user or of the system that this one stands before."""
    others = [one for one in sys.path if Path(one or os.curdir).resolve() != _HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if "CLEW_DET_INFO" in os.environ:
    sys.meta_path.insert(0, _Finder)
_go_on()
