"""Clew: follow the thread from any prediction back to the raw file it came from.

The names that a user's file needs, each loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "Pipeline": "authoring",
    "cross": "authoring",
    "union": "authoring",
    "join": "authoring",
    "group": "authoring",
    "cron": "authoring",
    "backoff": "authoring",
    "trials": "authoring.trial_policies",
    "keep": "authoring.trial_policies",
    "on_log": "authoring.trial_policies",
    "card": "authoring.cards",
    "node": "authoring.graphs",
    "sequence": "authoring.graphs",
    "ensemble": "authoring.graphs",
    "switch": "authoring.graphs",
    "splitter": "authoring.graphs",
    "Trial": "experiments",
    "asha": "experiments",
    "random": "experiments",
    "grid": "experiments",
    "single": "experiments",
    # There are more searches than a door has names.
    "hyperband": "experiments.definitions",
    "tpe": "experiments.definitions",
    "qmc": "experiments.definitions",
    "gp": "experiments.definitions",
    "cmaes": "experiments.definitions",
    "nsga2": "experiments.definitions",
    "nested": "experiments.conditions",
    "uniform": "experiments",
    "loguniform": "experiments",
    "randint": "experiments",
    "choice": "experiments",
    "Candidate": "models",
    "holdout": "models",
    "workers": "base.ranks",
    "gpus": "base.gpus",
    "database": "sources",
    "directory": "sources",
    "bucket": "sources",
    "webhook": "sources",
    "redis_stream": "sources",
    "kafka": "sources",
    # The words of conditions are more than a door has names.
    "on_commit": "triggers.conditions",
    "on_event": "triggers.conditions",
    "on_source": "triggers.conditions",
    "on_webhook": "triggers.conditions",
    "on_drift": "triggers.conditions",
    "on_metric": "triggers.conditions",
    "on_query": "triggers.conditions",
    "amount": "triggers.conditions",
    "schedule": "triggers.conditions",
    "run": "triggers.actions",
    "retrain": "triggers.actions",
    "rollback": "triggers.actions",
    "notify": "triggers.actions",
    "Table": "quality",
    "File": "repos",
    "Codec": "codecs",
    "codec": "codecs",
    "canary": "serving",
    "immediate": "serving",
    "shadow": "serving.definitions",
    "split": "serving.definitions",
    "ab_test": "serving.definitions",
    "bandit": "serving.definitions",
    "drift": "monitoring",
    "connect": "sdk",
    "load": "sdk.loading",
    "udf": "sdk.udfs",
}

__all__ = [*_ROOMS, "__version__"]  # noqa: PLE0604 - names are strings, kept in one place


def __getattr__(name: str) -> Any:
    if name == "callbacks":
        return import_module("clew.callbacks")
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'clew' has no attribute {name!r}")
    value = getattr(import_module(f"clew.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
