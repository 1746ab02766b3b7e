"""A pipeline in the environment of now: what was upgraded since it was applied counts.

Knows definitions and versions of distributions; whoever asks registers what comes of it.
"""

from __future__ import annotations

from dataclasses import replace

from clew.pipelines.definitions import PipelineDefinition, StepDefinition
from clew.pipelines.environment import environment_now


def renewed(definition: PipelineDefinition) -> PipelineDefinition:
    """The same definition, its steps in the versions that are installed now."""
    steps = tuple(map(_renewed, definition.steps))
    return replace(definition, steps=steps) if steps != definition.steps else definition


def _renewed(step: StepDefinition) -> StepDefinition:
    found = environment_now(step.packages)
    if not step.packages or found.packages == step.packages:
        return step
    return replace(step, environment=found.digest, packages=found.packages)
