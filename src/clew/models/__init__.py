"""Models: the frozen test set, versions in MLflow format, gates with evidence, aliases.

Knows no pipeline, no search and no endpoint: who trains and who serves call it.
"""

from clew.models.candidate import Candidate
from clew.models.definitions import (
    EvaluationDefinition,
    GateDefinition,
    HoldoutDefinition,
    holdout,
)
from clew.models.loading import LoadedModel, load_model
from clew.models.models import Models
from clew.models.records import Judgement, Package, Split, TrainingRun

__all__ = [
    "Candidate",
    "EvaluationDefinition",
    "GateDefinition",
    "HoldoutDefinition",
    "Judgement",
    "LoadedModel",
    "Models",
    "Package",
    "Split",
    "TrainingRun",
    "holdout",
    "load_model",
]
