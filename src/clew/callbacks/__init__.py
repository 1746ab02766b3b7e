"""Callbacks that tie training libraries to a trial: reports, checkpoints, the end, going on.

Each is a few lines for its user and imports its library when it is asked for. Knows a trial by what
it can do, and nothing of searches.
"""

from clew.callbacks.of_keras import keras
from clew.callbacks.of_lightgbm import lightgbm
from clew.callbacks.of_lightning import lightning
from clew.callbacks.of_pytorch import pytorch
from clew.callbacks.of_sklearn import sklearn
from clew.callbacks.of_transformers import transformers
from clew.callbacks.of_xgboost import xgboost
from clew.callbacks.scoring import scores

__all__ = [
    "keras",
    "lightgbm",
    "lightning",
    "pytorch",
    "scores",
    "sklearn",
    "transformers",
    "xgboost",
]
