"""A change of code that changes no result: keys go on with the code of before.

Knows definitions as values; whoever asks registers what comes of it. See design/0023.
"""

from __future__ import annotations

from msgspec.structs import replace

from clew.pipelines.definitions import PipelineDefinition, StepDefinition

OF, OF_ENVIRONMENT = "of", "of_environment"


def accepted(
    step: StepDefinition, old: StepDefinition, *, environment: bool, by: str, reason: str
) -> StepDefinition | None:
    """The step with keys of ``old``; None where its code (and environment) is that already."""
    found: dict[str, str] = {}
    if step.code_key != old.code_key:
        found |= {"code": old.code_key, OF: step.fingerprint}
    if environment and step.environment_key != old.environment_key:
        found |= {"environment": old.environment_key, OF_ENVIRONMENT: step.environment}
    if not found:
        return None
    return replace(step, accepted={**step.accepted, **found, "by": by, "reason": reason})


def carried(new: PipelineDefinition, old: PipelineDefinition | None) -> PipelineDefinition:
    """What was accepted of the steps of ``old`` holds on, where their code is still the same."""
    if old is None:
        return new
    steps = tuple(_carried(step, old.step(step.name)) for step in new.steps)
    return replace(new, steps=steps) if steps != new.steps else new


def _carried(step: StepDefinition, old: StepDefinition | None) -> StepDefinition:
    if old is None or not old.accepted or step.accepted:
        return step
    before = old.accepted
    kept = dict(before)
    if before.get(OF) != step.fingerprint:
        kept = {name: value for name, value in kept.items() if name not in {"code", OF}}
    if before.get(OF_ENVIRONMENT) != step.environment:
        kept = {n: v for n, v in kept.items() if n not in {"environment", OF_ENVIRONMENT}}
    if not {"code", "environment"} & kept.keys():
        return step
    return replace(step, accepted=kept)
