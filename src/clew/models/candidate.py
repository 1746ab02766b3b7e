"""What the author of a gate holds: the candidate, and the rules that can be asked of it.

Knows no store and no verdict; it notes each rule with what was seen and why that passes or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from clew.base.errors import Invalid
from clew.base.records import Check
from clew.models.bootstrap import paired_difference

if TYPE_CHECKING:
    import polars as pl

    from clew.models.evaluation import Bench
    from clew.models.metrics import Metric

_SHOWN_SLICES = 50


class Candidate:
    """A model before its gate, on test rows that no model has ever learned from.

    Each rule below is noted with its evidence; the model is blessed if all of them pass. A rule
    does not stop the gate: the verdict tells all that is wrong.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._checks: list[Check] = []

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

    def slices(self, column: str, metric: str, worst_gap: float, *, min_rows: int = 200) -> None:
        """On no group of rows may the metric be worse than overall by more than ``worst_gap``.

        Groups are the values of ``column`` in the test rows (quartiles of a number with many
        values); those under ``min_rows`` rows are too small to judge and are counted as left out.
        """
        rule = self._bench.metric(metric)
        found = self._bench.slices(column, rule, min_rows)
        name, required = f"slices {column} {metric}", f"worst gap <= {worst_gap:g}"
        evidence = {
            **asdict(found),
            "judged": [asdict(one) for one in found.judged[:_SHOWN_SLICES]],
            "min_rows": min_rows,
        }
        if not found.judged:
            why = f"No group of {column} has {min_rows} rows and a defined {metric}."
            self._note(name, True, None, required, why, evidence)
            return
        worst = found.judged[0]
        gap = max(0.0, -rule.better_by(worst.metric, found.overall))
        self._note(
            name,
            gap <= worst_gap,
            gap,
            required,
            f"{metric} is {worst.metric:.6g} for {column} {worst.value} ({worst.rows} rows) and "
            f"{found.overall:.6g} overall: a gap of {gap:.6g}, at most {worst_gap:g} is allowed.",
            evidence,
        )

    def latency(self, max_ms: float) -> None:
        """95 of 100 single rows must be answered within ``max_ms``, in this process alone."""
        median_ms, high_ms, calls = self._bench.latency_ms()
        self._note(
            "latency",
            high_ms <= max_ms,
            high_ms,
            f"p95 <= {max_ms:g} ms",
            f"95 of 100 single rows take up to {high_ms:.3g} ms; {max_ms:g} ms are allowed.",
            {"median_ms": median_ms, "p95_ms": high_ms, "calls": calls},
        )

    def require(self, name: str, passed: bool, reason: str = "") -> None:
        """A rule of your own: its name, whether it passes, and why."""
        self._note(name, bool(passed), None, "true", reason or f"{name}: {bool(passed)}")

    @property
    def _task(self) -> str:
        return self._bench.candidate.scored.task

    def _value(self, metric: str) -> float:
        """The candidate's metric; NaN (which passes no rule) where it is undefined."""
        return self.metrics.get(self._bench.metric(metric).name, math.nan)

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
        self._note(name, passed, found.value, required, reason, evidence)

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
        )

    def _note(
        self,
        name: str,
        passed: bool,
        observed: float | None,
        required: str,
        reason: str,
        evidence: Mapping[str, object] | None = None,
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
            )
        )


def _better(by: float) -> str:
    return f"better by {by:.3g}" if by >= 0 else f"worse by {-by:.3g}"
