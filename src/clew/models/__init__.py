"""Models: the frozen test set, versions in MLflow format, gates with evidence, aliases.

Knows no pipeline, no search and no endpoint: who trains and who serves call it.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.models.definitions import EvaluationDefinition, GateDefinition, HoldoutDefinition, holdout
from clew.models.records import Judgement, Package, Split, TrainingRun

if TYPE_CHECKING:
    from clew.models.candidate import Candidate
    from clew.models.forms import load_model
    from clew.models.loading import LoadedModel
    from clew.models.models import Models

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

__getattr__ = on_demand(
    __name__,
    {
        "Candidate": "candidate",
        "LoadedModel": "loading",
        "load_model": "forms",
        "Models": "models",
    },
)
