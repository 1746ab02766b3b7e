"""What a pipeline's steps run in, made exact when it is applied: versions, digests, programs.

Knows pipelines and the door of places. What was exact in the version before stays as it was, so
that applying a file again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    return resolved(rooms, step, runtime.requirements, runtime.python, project)


def resolved(
    rooms: Rooms, step: StepDefinition, lines: Sequence[str], python: str, project: Path
) -> StepDefinition:
    """The step with these requirements, as the index has them now. A training gets what packaging
    its model needs beside them. Raises as :func:`placed`.
    """
    if step.kind == "train":
        convert = bool(step.options["evaluation"].get("convert", True))
        own = rooms.models.resolve(lines, python, project, convert=convert)
        lock, packages = own.lock, own.packages
    else:
        found = rooms.environments.resolve(lines, python, project)
        lock, packages = found.lock, found.packages
    return replace(
        step,
        runtime=replace(step.runtime, requirements=tuple(lines), lock=lock, python=python),
        packages=packages,
        environment=digest_of("env", packages),
    )


def _same(step: StepDefinition, old: StepDefinition) -> bool:
    """Whether the environment of an earlier version is what this one asks for too."""
    ours, theirs = step.runtime, old.runtime
    if (step.kind, ours.requirements, ours.python) != (
        old.kind, theirs.requirements, theirs.python,
    ):  # fmt: skip
        return False
    return old.packages.get("python") == find_python(ours.python).minor
