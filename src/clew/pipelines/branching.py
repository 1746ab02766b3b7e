"""A pipeline on a branch: the same steps, whose outputs go to that branch of their repos.

Knows definitions only; which branch an input has is found where the graph is made.
"""

from __future__ import annotations

from msgspec.structs import replace

from clew.base.address import DEFAULT_BRANCH, check_ref_name
from clew.pipelines.definitions import InputDefinition, PipelineDefinition, StepDefinition

_AT = "@"


def on_branch(definition: PipelineDefinition, branch: str) -> PipelineDefinition:
    """The pipeline ``name@branch``: it reads that branch of repos that have it, else what it read.

    Its steps are those of the pipeline, with the same keys: what the pipeline has made is known to
    it, and what it makes is known to the pipeline. Schedules tick for the pipeline alone.

    Raises:
        Invalid: ``name.invalid``.
    """
    if branch in {"", DEFAULT_BRANCH}:
        return definition
    check_ref_name(branch)
    own = {step.output_repo for step in definition.steps}
    return replace(
        definition,
        name=f"{definition.name}{_AT}{branch}",
        sources=tuple(replace(one, cron=None) for one in definition.sources),
        steps=tuple(_step(step, branch, own) for step in definition.steps),
    )


def trunk_of(pipeline: str) -> str:
    """The pipeline that ``name@branch`` is a branch of; itself, where it is none."""
    return pipeline.partition(_AT)[0]


def _step(step: StepDefinition, branch: str, own: set[str]) -> StepDefinition:
    inputs = tuple(_input(one, branch, own) for one in step.inputs)
    return replace(step, inputs=inputs, output_branch=branch)


def _input(one: InputDefinition, branch: str, own: set[str]) -> InputDefinition:
    if one.repo in own:
        return replace(one, branch=branch)
    return replace(one, prefers=branch)
