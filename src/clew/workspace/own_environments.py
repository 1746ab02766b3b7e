"""The environment that a training step has of its own, as models keep it.

Knows definitions; nothing of how environments are made.
"""

from __future__ import annotations

import re

from clew.base.errors import Invalid
from clew.base.records.environments import OwnEnvironment
from clew.pipelines import StepDefinition

_OF_THIS_MACHINE = re.compile(r"^(?:\S+ @ file:|file:|[./]|-e |--find-links)", re.M)


def check_elsewhere(own: OwnEnvironment) -> OwnEnvironment:
    """The environment itself, if another machine can have it.

    Raises:
        Invalid: ``export.environment``.
    """
    if own.python.startswith("/"):
        raise Invalid(
            "export.environment",
            f"The model asks for the Python at {own.python}, which is of this machine.",
            hint='Name a version in the training, python="3.12", and train it again.',
        )
    if _OF_THIS_MACHINE.search(own.lock):
        raise Invalid(
            "export.environment",
            "The environment of the model has packages from directories of this machine.",
            hint="Name versions in requirements=, of an index that is reached from there too.",
        )
    return own


def own_environment_of(step: StepDefinition) -> OwnEnvironment | None:
    """None for the environment of the server."""
    runtime = step.runtime
    if not runtime.own_environment:
        return None
    return OwnEnvironment(
        requirements=runtime.requirements,
        lock=runtime.lock,
        python=runtime.python or step.packages["python"],
        packages=step.packages,
    )
