"""Models: the frozen test set, versions in MLflow format, gates with evidence, aliases.

Knows no pipeline, no search and no endpoint: who trains and who serves call it.
"""

from clew.models.definitions import (
    EvaluationDefinition,
    GateDefinition,
    HoldoutDefinition,
    holdout,
)

__all__ = ["EvaluationDefinition", "GateDefinition", "HoldoutDefinition", "holdout"]
