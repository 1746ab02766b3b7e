"""How steps are run and trained, as a user writes it.

Knows the records of the rooms below; what nodes there are is for ``nodes``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from clew.authoring.declaring import Dependency
from clew.authoring.inputs import Source
from clew.authoring.policies import Written
from clew.base.ranks import Ranks
from clew.base.records.card_words import CardText
from clew.experiments import Distribution, SearchDefinition
from clew.models import HoldoutDefinition
from clew.places import RuntimeDefinition


class StepOptions(Struct, frozen=True, kw_only=True):
    """How a step runs; see :meth:`Pipeline.step`."""

    name: str = ""
    retries: int = 0
    timeout_s: float | None = None
    memory_bytes: int | None = None
    version: str = ""
    parameters: Mapping[str, object] = {}
    runtime: RuntimeDefinition = RuntimeDefinition()
    depends_on: tuple[Dependency, ...] = ()
    allow: tuple[str, ...] = ()
    how: Written = Written()


class GateOptions(Struct, frozen=True, kw_only=True):
    """What a gate is given; see :meth:`Pipeline.gate`."""

    parameters: Mapping[str, object] = {}
    depends_on: tuple[Dependency, ...] = ()
    allow: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    query: str = ""


class TrainingOptions(Struct, frozen=True, kw_only=True):
    """What makes a step a training step; see :meth:`Pipeline.train`."""

    target: str
    test: HoldoutDefinition | Source
    search: SearchDefinition
    space: Mapping[str, Distribution]
    ranks: Ranks | None = None
    card: CardText = CardText()
    feasible: Callable[..., Any] | None = None
    convert: bool = True
