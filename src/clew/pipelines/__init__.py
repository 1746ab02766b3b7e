"""Incremental pipelines: only what changed runs, and it can say why.

Knows nothing of experiments, models and endpoints: their kinds of steps are plugged in.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.pipelines.definitions import (
    Combination,
    InputDefinition,
    PipelineDefinition,
    SourceDefinition,
    StepDefinition,
)
from clew.pipelines.environment import environment_of
from clew.pipelines.fingerprint import Fingerprint, fingerprint

if TYPE_CHECKING:
    from clew.pipelines.pipelines import Pipelines
    from clew.pipelines.runner import Runner, RunResult, StepRun

__all__ = [
    "Combination",
    "Fingerprint",
    "InputDefinition",
    "PipelineDefinition",
    "Pipelines",
    "RunResult",
    "Runner",
    "SourceDefinition",
    "StepDefinition",
    "StepRun",
    "environment_of",
    "fingerprint",
]

__getattr__ = on_demand(
    __name__,
    {
        "Pipelines": "pipelines",
        "RunResult": "runner",
        "Runner": "runner",
        "StepRun": "runner",
    },
)
