"""The environment that a training step has of its own, as models keep it.

Knows definitions; nothing of how environments are made.
"""

from __future__ import annotations

from clew.base.records.environments import OwnEnvironment
from clew.pipelines import StepDefinition


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
