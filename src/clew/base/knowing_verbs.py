"""The verbs that ask whether results can be trusted, and say that they can.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records import Job
from clew.base.records.knowing import Reproduction, Verification


class KnowingVerbs(Protocol):
    """Results that are there, held against the code that made them."""

    def verify(
        self, pipeline: str, step: str | None = None, *, sample: int = 20, seed: int = 0
    ) -> Verification:
        """Run some datums that would be skipped, and say which do not give what they gave.

        ``sample`` of each step (of all without one), drawn by ``seed``. Nothing is changed. Raises
        NotFound ``pipeline.unknown``, ``step.unknown``, Conflict ``verify.nothing``, Invalid
        ``verify.sample``, ``verify.kind``, ``verify.broken``.
        """
        ...

    def reproduce(self, ref: str) -> Reproduction:
        """Repeat a job (or the one that made a commit or a model version) by the code of then.

        With the data and the settings of then, in a scratch place: nothing is changed. ``ref`` may
        be ``model@3`` or ``model@champion``. Raises NotFound ``job.unknown``, Invalid
        ``reproduce.source``, ``reproduce.broken``, Conflict ``reproduce.state``,
        ``reproduce.gone``.
        """
        ...

    def accept(
        self,
        pipeline: str,
        step: str | None = None,
        *,
        reason: str,
        environment: bool = False,
        undo: bool = False,
    ) -> list[Job]:
        """Say that the code of now gives what that of the last good job gave: its results stay.

        ``environment``: the packages of now do, too. ``undo`` takes it back. The jobs that follow.
        Raises NotFound ``pipeline.unknown``, ``step.unknown``, Invalid ``accept.reason``, Conflict
        ``accept.nothing``.
        """
        ...
