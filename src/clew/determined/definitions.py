"""What a Determined experiment is for Clew, as values that travel as JSON.

Knows searches and policies of trials; how a configuration becomes one is for ``configuring``.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.base.records.trial_policy import TrialPolicy
from clew.experiments import Distribution, SearchDefinition

HARNESS = "determined==0.38.1"
"""What the environment of every trial has: the last release of the harness."""

ENTRY = "clew_experiment.py"
"""The file of a project that defines an experiment, written by ``clew det run``."""

CONFIG = "clew_experiment.json"
"""The experiment configuration beside it."""

OPEN_END = SearchDefinition.OPEN_END
"""The last step of a trial that ends when its program does."""

INVALID_HP = "The trial says that its hyperparameters are invalid"


class Task(Struct, frozen=True, kw_only=True):
    """What every trial of an experiment is started with. JSON-able: options of its step.

    ``config`` is the configuration as the harness reads it. ``fixed`` are hyperparameters that are
    the same in all trials, ``labels`` what values of a parameter stand for that are no plain ones;
    names below others have dots. ``entrypoint`` is one text for the shell, or a command line.
    ``variables`` are those of the environment: ``cpu`` or ``cuda`` with their own, by the device.
    ``time_metric`` is that by which a search halves, '' for steps; ``halves``: whether it does.
    ``grace_s`` is how long a trial may take to end once it was told to. ``source`` is the trial
    whose latest checkpoint all trials begin with, '' for none.
    """

    config: dict[str, Any]
    fixed: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    shell: bool = False
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    metric: str = ""
    time_metric: str = ""
    halves: bool = False
    slots: int = 1
    at_most: int = 0
    grace_s: float = 3600.0
    source: str = ""


class Determined(Struct, frozen=True, kw_only=True):
    """An experiment configuration as Clew carries it out.

    ``notes`` are what of it has no effect here, one sentence each, for people. Higher
    ``priority`` goes first.
    """

    name: str
    description: str
    task: Task
    search: SearchDefinition
    space: dict[str, Distribution]
    policy: TrialPolicy
    priority: int = 0
    notes: tuple[str, ...] = ()


def wrong(field_name: str, why: str, hint: str = "") -> Invalid:
    """The error of a field whose value means nothing."""
    return Invalid(
        "determined.config",
        f"{field_name} {why}.",
        hint=hint or "See the reference of experiment configurations of Determined 0.38.",
    )


def unsupported(field_name: str, hint: str) -> Invalid:
    """The error of a field that Clew does not carry out: better now than a surprise later."""
    return Invalid("determined.unsupported", f"{field_name} is not carried out by Clew.", hint=hint)
