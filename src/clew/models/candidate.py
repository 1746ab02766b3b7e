"""What the author of a gate holds: the candidate, and the rules that can be asked of it.

Knows no store and no verdict; it notes each rule with what was seen and why that passes or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from clew.models.bootstrap import paired_difference
from clew.models.group_rules import GroupRules
from clew.models.service_rules import ServiceRules

if TYPE_CHECKING:
    import polars as pl

    from clew.base.records import Check
    from clew.models.metrics import Metric

_BETTER = "See which rows it gets wrong: clew model MODEL@VERSION --report"
_AGAINST = "Hold the two side by side: clew compare MODEL@VERSION MODEL@champion"


class Candidate(GroupRules, ServiceRules):
    """A model before its gate, on test rows that no model has ever learned from.

    Each rule below is noted with its evidence; the model is blessed if all of them pass. A rule
    does not stop the gate: the verdict tells all that is wrong.
    """

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the candidate on the test rows, by name."""
        return self._bench.candidate.metrics

    @property
    def champion_metrics(self) -> Mapping[str, float]:
        """Metrics of the champion on the same rows; empty where there is none."""
        return self._bench.champion.metrics if self._bench.champion else {}

    @property
    def frame(self) -> pl.DataFrame:
        """The test rows with the target."""
        return self._bench.frame

    @property
    def target(self) -> str:
        """The name of the target's column."""
        return self._bench.target

    @property
    def predictions(self) -> Mapping[str, Any]:
        """Outputs of the candidate by name (``label``, ``probability``, …), one row a test row."""
        return self._bench.candidate.outputs

    @property
    def checks(self) -> tuple[Check, ...]:
        """The rules so far."""
        return tuple(self._checks)

    def at_least(self, metric: str, value: float) -> None:
        """The metric must not be below ``value``."""
        found = self._value(metric)
        self._note(
            f"at_least {metric}",
            found >= value,
            found,
            f">= {value:g}",
            f"{metric} is {found:.6g}; at least {value:g} is required.",
            next_step=_BETTER,
        )

    def at_most(self, metric: str, value: float) -> None:
        """The metric must not be above ``value``."""
        found = self._value(metric)
        self._note(
            f"at_most {metric}",
            found <= value,
            found,
            f"<= {value:g}",
            f"{metric} is {found:.6g}; at most {value:g} is required.",
            next_step=_BETTER,
        )

    def beats_champion(
        self,
        metric: str,
        margin: float = 0.0,
        *,
        confidence: float = 0.95,
        tolerance: float = 0.01,
    ) -> None:
        """The candidate must be better than the champion by ``margin``, on the same test rows.

        With a margin of 0 it must not be worse: it passes if its metric is as good, or if what it
        is short of cannot be told from chance (the paired bootstrap's interval of ``confidence``
        reaches 0) and is at most ``tolerance`` of the champion's value. So an equal model does not
        flap, a worse one is refused where the test set can tell, and a small test set cannot
        excuse a large loss. The first model of all passes.
        """
        name = f"beats_champion {metric}"
        required = f"better by >= {margin:g}" if margin else "not worse than the champion"
        rule = self._bench.metric(metric)
        champion = self._bench.champion
        if champion is None:
            why = "There is no champion yet: the first model has nothing to beat."
            self._note(name, True, self.metrics.get(metric), required, why)
        elif champion.evaluated is None or champion.evaluated.scored.task != self._task:
            self._beats_record(name, rule, margin, tolerance, required)
        else:
            self._beats(name, rule, margin, confidence, tolerance, required)

    def require(
        self,
        name: str,
        passed: bool,
        reason: str = "",
        *,
        observed: float | None = None,
        required: str = "true",
        next_step: str = "",
    ) -> None:
        """A rule of your own: its name, whether it passes, and why; what was seen and required."""
        said = reason or f"{name}: {bool(passed)}"
        step = next_step or f"Look at the rule {name!r} in the gate's function."
        self._note(name, bool(passed), observed, required, said, next_step=step)

    def _beats(
        self,
        name: str,
        rule: Metric,
        margin: float,
        confidence: float,
        tolerance: float,
        required: str,
    ) -> None:
        champion = self._bench.champion
        assert champion is not None
        assert champion.evaluated is not None, "the caller has looked"
        mine, theirs = self._bench.candidate.scored, champion.evaluated.scored
        found = paired_difference(rule, mine, theirs, confidence=confidence)
        value, other = self._value(rule.name), champion.metrics.get(rule.name, math.nan)
        allowed = tolerance * abs(other)
        by_chance = margin == 0 and found.high >= 0 and found.value >= -allowed
        passed = found.value >= margin or by_chance
        reason = (
            f"{rule.name} is {value:.6g}, the champion's ({champion.name}) {other:.6g}: "
            f"{_better(found.value)}, {confidence:.0%} interval {found.low:+.3g} to "
            f"{found.high:+.3g}."
        )
        if by_chance and found.value < 0:
            reason += " That cannot be told from chance."
        evidence = {**asdict(found), "champion": champion.name, "champion_value": other}
        evidence |= {"candidate_value": value, "margin": margin, "allowed_by_chance": allowed}
        self._note(name, passed, found.value, required, reason, evidence, next_step=_AGAINST)

    def _beats_record(
        self, name: str, rule: Metric, margin: float, tolerance: float, required: str
    ) -> None:
        champion = self._bench.champion
        assert champion is not None, "the caller has looked"
        recorded = champion.metrics.get(rule.name)
        value = self._value(rule.name)
        why = champion.why_not or "it solves another task"
        start = f"The champion ({champion.name}) cannot be run on these test rows: {why} "
        evidence = {"champion": champion.name, "recorded": recorded, "why_not": why}
        if recorded is None:
            why = "Nothing is recorded of it either, so there is nothing to beat."
            self._note(name, True, value, required, start + why, evidence)
            return
        better_by = rule.better_by(value, recorded)
        allowed = tolerance * abs(recorded) if margin == 0 else 0.0
        self._note(
            name,
            better_by >= margin - allowed,
            better_by,
            required,
            f"{start}It had {rule.name} {recorded:.6g} when it was judged; this one has "
            f"{value:.6g}: {_better(better_by)}.",
            evidence,
            next_step=_AGAINST,
        )


def _better(by: float) -> str:
    return f"better by {by:.3g}" if by >= 0 else f"worse by {-by:.3g}"
