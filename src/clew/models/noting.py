"""How a rule of a gate is noted: what was seen, what was required, why that passes, what to do.

Knows no rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clew.base.errors import Invalid
from clew.base.records import Check

if TYPE_CHECKING:
    from clew.models.evaluation import Bench


class Noting:
    """A bench, and the rules that were asked of it so far."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._checks: list[Check] = []

    @property
    def _task(self) -> str:
        return self._bench.candidate.scored.task

    def _value(self, metric: str) -> float:
        """The candidate's metric; NaN (which passes no rule) where it is undefined."""
        name = self._bench.metric(metric).name
        return self._bench.candidate.metrics.get(name, math.nan)

    def _note(
        self,
        name: str,
        passed: bool,
        observed: float | None,
        required: str,
        reason: str,
        evidence: Mapping[str, object] | None = None,
        *,
        next_step: str = "",
    ) -> None:
        if not isinstance(name, str) or not name:
            raise Invalid(
                "gate.rule", f"A rule cannot be named {name!r}.", hint="Give it a short text."
            )
        defined = observed if observed is not None and math.isfinite(observed) else None
        self._checks.append(
            Check(
                name=name,
                passed=passed,
                observed=defined,
                required=required,
                reason=reason,
                evidence=dict(evidence or {}),
                next_step="" if passed else next_step,
            )
        )
