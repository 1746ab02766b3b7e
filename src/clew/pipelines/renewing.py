"""A pipeline in the environment of now: upgrades and variables that it depends on count.

Knows definitions and versions of distributions; whoever asks registers what comes of it.
"""

from __future__ import annotations

from msgspec.structs import replace

from clew.pipelines.definitions import PipelineDefinition, StepDefinition
from clew.pipelines.environment import environment_now

ENV = "env:"
"""How names of environment variables begin among what a step depends on."""


def renewed(definition: PipelineDefinition) -> PipelineDefinition:
    """The same definition, its steps in the versions that are installed now."""
    steps = tuple(map(_renewed, definition.steps))
    return replace(definition, steps=steps) if steps != definition.steps else definition


def _renewed(step: StepDefinition) -> StepDefinition:
    depends = {
        name: StepDefinition.variable(name.removeprefix(ENV)) if name.startswith(ENV) else one
        for name, one in step.depends.items()
    }
    if depends != step.depends:
        step = replace(step, depends=depends)
    if step.runtime.own_environment or step.runtime.image:
        return step  # what it runs in was made exact when it was applied
    found = environment_now(step.packages)
    if not step.packages or found.packages == step.packages:
        return step
    return replace(step, environment=found.digest, packages=found.packages)
