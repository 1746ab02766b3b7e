"""A pipeline as it would be if packages had other versions: for plans of what might be.

Knows definitions and versions; nothing is asked of an index. Environments that steps have of their
own are resolved by whoever has the tools for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from clew.base.errors import Invalid
from clew.pipelines.definitions import PipelineDefinition, StepDefinition
from clew.pipelines.environment import environment_from

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def with_packages(
    definition: PipelineDefinition, packages: Mapping[str, str]
) -> tuple[PipelineDefinition, tuple[str, ...]]:
    """The steps that run in the server's environment, with these versions of what they use.

    ``packages`` maps distributions to versions (``python`` among them: ``3.12``). Also what has to
    be said of it.

    Raises:
        Invalid: ``plan.package``.
    """
    wanted = {plain_name(name): version for name, version in packages.items()}
    for name, version in wanted.items():
        _check(name, version)
    steps = tuple(_supposed(step, wanted) for step in definition.steps)
    return replace(definition, steps=steps), tuple(_unused(definition, wanted))


def plain_name(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _check(name: str, version: str) -> None:
    if not _NAME.fullmatch(name) or not version or not re.fullmatch(r"[\w.!+-]+", version):
        raise Invalid(
            "plan.package",
            f"{name}=={version} is not a version of a package.",
            hint="Write --with NAME==VERSION, such as --with polars==2.1.0.",
        )


def _supposed(step: StepDefinition, wanted: Mapping[str, str]) -> StepDefinition:
    if step.runtime.own_environment or step.runtime.image:
        return step
    packages = {
        name: wanted.get(plain_name(name), version) for name, version in step.packages.items()
    }
    if packages == step.packages:
        return step
    found = environment_from(packages)
    return replace(step, environment=found.digest, packages=found.packages)


def _unused(definition: PipelineDefinition, wanted: Mapping[str, str]) -> Iterator[str]:
    used = {plain_name(name) for step in definition.steps for name in step.packages}
    for name in sorted(wanted.keys() - used):
        yield f"no step depends on {name}: another version of it runs nothing"
