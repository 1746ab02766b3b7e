"""What a pipeline's steps run in, made exact when it is applied: versions, digests, programs.

Knows pipelines and the door of places. What was exact in the version before stays as it was, so
that applying a file again changes nothing.
"""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from clew.base.errors import NotFound
from clew.pipelines import PipelineDefinition, StepDefinition
from clew.places import find_python, pin_image, require_sandbox
from clew.store import digest_of
from clew.workspace.rooms import Rooms


def placed(rooms: Rooms, definition: PipelineDefinition, project: Path) -> PipelineDefinition:
    """The definition with the environments of its steps resolved and their images pinned.

    Raises:
        Invalid: ``environment.python``, ``environment.unsatisfiable``,
            ``environment.requirements``, ``image.missing``.
        Unavailable: ``environment.no_uv``, ``environment.offline``, ``sandbox.missing``,
            ``image.no_runtime``.
    """
    if not any(step.runtime.elsewhere for step in definition.steps):
        return definition
    try:
        old = rooms.pipelines.definition(definition.name)
    except NotFound:
        old = None
    steps = tuple(
        _placed(rooms, step, old.step(step.name) if old else None, project)
        for step in definition.steps
    )
    return replace(definition, steps=steps)


def _placed(
    rooms: Rooms, step: StepDefinition, old: StepDefinition | None, project: Path
) -> StepDefinition:
    runtime = step.runtime
    if runtime.sandbox:
        require_sandbox()
    if runtime.image:
        same = old is not None and old.runtime.image == runtime.image
        pinned = old.runtime.pinned if same and old else pin_image(runtime.image)
        packages = {"image": pinned}
        return replace(
            step,
            runtime=replace(runtime, pinned=pinned),
            packages=packages,
            environment=digest_of("env", packages),
        )
    if not runtime.own_environment:
        return step
    if old is not None and _same(step, old):
        return replace(
            step,
            runtime=replace(runtime, lock=old.runtime.lock),
            packages=old.packages,
            environment=old.environment,
        )
    found = rooms.environments.resolve(runtime.requirements, runtime.python, project)
    return replace(
        step,
        runtime=replace(runtime, lock=found.lock),
        packages=found.packages,
        environment=found.digest,
    )


def _same(step: StepDefinition, old: StepDefinition) -> bool:
    """Whether the environment of an earlier version is what this one asks for too."""
    ours, theirs = step.runtime, old.runtime
    if (ours.requirements, ours.python) != (theirs.requirements, theirs.python):
        return False
    return old.packages.get("python") == find_python(ours.python).minor
