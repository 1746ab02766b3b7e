"""Experiments: trials of a training function, and searches that promote them from checkpoints.

Knows nothing of pipelines, models and gates; a training step is a job whose runner calls here.
"""

from clew.experiments.definitions import SearchDefinition, asha, grid, random, single
from clew.experiments.experiments import Experiments
from clew.experiments.spaces import Distribution, choice, loguniform, randint, uniform
from clew.experiments.trial import Trial

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
