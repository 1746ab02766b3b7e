"""Experiments: trials of a training function, and searches that promote them from checkpoints.

Knows nothing of pipelines, models and gates; a training step is a job whose runner calls here.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.experiments.definitions import SearchDefinition, asha, grid, random, single
from clew.experiments.spaces import Distribution, choice, loguniform, randint, uniform
from clew.experiments.trial import Trial

if TYPE_CHECKING:
    from clew.experiments.experiments import Experiments

__all__ = [
    "Distribution",
    "Experiments",
    "SearchDefinition",
    "Trial",
    "asha",
    "choice",
    "grid",
    "loguniform",
    "randint",
    "random",
    "single",
    "uniform",
]

__getattr__ = on_demand(
    __name__,
    {
        "Experiments": "experiments",
    },
)
