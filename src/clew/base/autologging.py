"""Training that user code does is logged by MLflow, without a line of its own.

Knows MLflow by name alone, and loads it only beside a library that trains: code that uses neither
pays for neither. Runs where user code runs.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from clew.base.tracking import AUTOLOG

LIBRARIES = frozenset(
    {"sklearn", "xgboost", "lightgbm", "lightning", "pytorch_lightning", "keras", "tensorflow"}
    | {"statsmodels", "transformers"}
)
"""What MLflow logs the training of."""

_EXPERIMENT = "MLFLOW_EXPERIMENT_ID"
_ASKED = {
    "log_models": False,
    "log_datasets": False,
    "log_input_examples": False,
    "log_model_signatures": False,
    "silent": True,
}
"""How MLflow is asked to log by itself; user code that asks for it asks otherwise."""


class _Finder:
    """Hears which library is about to be imported."""

    def __init__(self) -> None:
        self.active = False
        self.begun = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the import system asks. Answers once: with what MLflow's own finder, new before
        this one and so not asked any more, says of the library.
        """
        if not self.active or self.begun or path is not None or name not in LIBRARIES:
            return None
        self.begin()
        return importlib.util.find_spec(name)

    def begin(self) -> None:
        """Load MLflow and let it log what the libraries train."""
        self.begun = True
        if importlib.util.find_spec("mlflow") is None:
            return
        try:
            _set_off()
        except Exception:
            logging.getLogger("clew").exception("autologging could not begin")


_finder = _Finder()


@contextmanager
def autologging(variables: Mapping[str, str]) -> Iterator[None]:
    """While it lasts, training is logged where ``variables`` (of the environment) say.

    What user code has left open or set (a run, an experiment, a tracking URI) ends with it.
    """
    if "MLFLOW_TRACKING_URI" not in variables:
        yield
        return
    listen(on=variables.get(AUTOLOG) != "off")
    before = os.environ.get(_EXPERIMENT)
    failed = True
    try:
        yield
        failed = False
    finally:
        _finder.active = False
        _leave(before, failed)


def listen(*, on: bool) -> None:
    """Begin when a library that trains is there, or comes."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.active = on
    if on and not _finder.begun and not LIBRARIES.isdisjoint(sys.modules):
        _finder.begin()


def _set_off() -> None:
    """Models, inputs and data sets stay with Clew, which keeps them as commits: they are dear."""
    mlflow: Any = importlib.import_module("mlflow")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    hooks: Any = importlib.import_module("mlflow.utils.import_hooks")
    hooks.register_post_import_hook(_leave_out_pictures, "mlflow.sklearn.utils")
    mlflow.autolog(**_ASKED, log_traces=False)


def _leave_out_pictures(utils: Any) -> None:
    """MLflow draws a classifier's confusion matrix and curves on its training data at each fit,
    which takes seconds, and has no setting for it. They are drawn where user code asks for
    autologging itself; Clew's evaluation reports have those of the test data.
    """
    draw = getattr(utils, "_get_classifier_artifacts", None)
    if draw is None:
        return
    settings: Any = importlib.import_module("mlflow.utils.autologging_utils")

    @functools.wraps(draw)
    def pictures(*args: Any, **kwargs: Any) -> Any:
        setting = settings.get_autologging_config
        ours = all(setting("sklearn", name) == value for name, value in _ASKED.items())
        return [] if ours else draw(*args, **kwargs)

    utils._get_classifier_artifacts = pictures


def _leave(experiment: str | None, failed: bool) -> None:
    mlflow: Any = sys.modules.get("mlflow")
    if mlflow is None or not hasattr(mlflow, "active_run"):
        return
    with suppress(Exception):  # the server may be gone: then its run stays open there
        while mlflow.active_run() is not None:
            mlflow.end_run("FAILED" if failed else "FINISHED")
    with suppress(Exception):
        mlflow.set_tracking_uri(None)
        fluent: Any = sys.modules.get("mlflow.tracking.fluent")
        if hasattr(fluent, "_active_experiment_id"):
            fluent._active_experiment_id = None
    if experiment is None:
        os.environ.pop(_EXPERIMENT, None)
