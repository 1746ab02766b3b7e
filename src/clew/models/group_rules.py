"""Rules of a gate about groups of rows and about probabilities: slices, fairness, calibration.

Knows what groups and metrics are, and nothing of how a model is served.
"""

from __future__ import annotations

import math

from msgspec.structs import asdict

from clew.base.errors import Invalid
from clew.models.bootstrap import interval
from clew.models.curves import calibration as calibration_curve
from clew.models.fairness import MEASURES, fairness, yes_or_no
from clew.models.noting import Noting
from clew.models.slicing import labels_of

_SHOWN = 50
_CALIBRATED = frozenset({"ece", "brier", "log_loss"})


class GroupRules(Noting):
    """The part of :class:`clew.Candidate` that asks of groups of rows."""

    def slices(self, column: str, metric: str, worst_gap: float, *, min_rows: int = 200) -> None:
        """On no group of rows may the metric be worse than overall by more than ``worst_gap``.

        Groups are the values of ``column`` in the test rows, or of an SQL expression over their
        columns (quartiles of a number with many values); those under ``min_rows`` rows are too
        small to judge and are counted as left out. Each group's interval is in the evidence.
        """
        rule = self._bench.metric(metric)
        found = self._bench.slices(column, rule, min_rows)
        name, required = f"slices {column} {metric}", f"worst gap <= {worst_gap:g}"
        evidence = {
            **asdict(found),
            "judged": [asdict(one) for one in found.judged[:_SHOWN]],
            "min_rows": min_rows,
        }
        if not found.judged:
            why = f"No group of {column} has {min_rows} rows and a defined {metric}."
            self._note(name, True, None, required, why, evidence)
            return
        worst = found.judged[0]
        gap = max(0.0, -rule.better_by(worst.metric, found.overall))
        sure = "" if worst.low is None else f", {worst.low:.4g} to {worst.high:.4g}"
        self._note(
            name,
            gap <= worst_gap,
            gap,
            required,
            f"{metric} is {worst.metric:.6g} for {column} {worst.value} ({worst.rows} rows{sure}) "
            f"and {found.overall:.6g} overall: a gap of {gap:.6g}, at most {worst_gap:g} is "
            "allowed.",
            evidence,
            next_step=f"Look at the rows with {column} {worst.value}: more of them, or features "
            "that tell them apart, close a gap.",
        )

    def fairness(
        self,
        column: str,
        measure: str = "demographic_parity",
        at_most: float = 0.1,
        *,
        favourable: str = "",
        min_rows: int = 50,
    ) -> None:
        """Groups of people may not be treated more differently than ``at_most``.

        Args:
            column: Its values (or those of an SQL expression) make the groups.
            measure: ``demographic_parity`` (how often the favourable answer is given),
                ``equal_opportunity`` (the same among those who deserve it), ``equalized_odds`` (and
                among those who do not), or any metric. What counts is the difference of the highest
                and the lowest group.
            at_most: The largest difference allowed.
            favourable: The favourable class; of two, the second by default.
            min_rows: Smaller groups are left out.
        """
        scored = self._bench.candidate.scored
        rules = MEASURES.get(measure)
        if rules is None:
            rules = (self._bench.metric(measure),)
        else:
            scored = yes_or_no(scored, favourable)
        found = fairness(scored, labels_of(self._bench.frame, column), rules, min_rows)
        name, required = f"fairness {column} {measure}", f"difference <= {at_most:g}"
        evidence: dict[str, object] = {
            **asdict(found),
            "groups": [
                {"group": one.value, "rows": one.rows, **one.rates} for one in found.groups[:_SHOWN]
            ],
            "min_rows": min_rows,
        }
        if not math.isfinite(found.difference):
            why = f"There are no two groups of {column} with {min_rows} rows to compare."
            self._note(name, True, None, required, why, evidence)
            return
        self._note(
            name,
            found.difference <= at_most,
            found.difference,
            required,
            f"{measure} differs by {found.difference:.4g} between groups of {column} (95 % "
            f"interval {found.low:.3g} to {found.high:.3g}); at most {at_most:g} is allowed.",
            evidence,
            next_step="Compare the groups in the evidence: the rows that one of them lacks, a "
            "feature that stands for it, or a threshold of its own.",
        )

    def calibration(self, at_most: float, measure: str = "ece", *, sure: bool = False) -> None:
        """Probabilities must be what they say: the error may be ``at_most``.

        Args:
            at_most: The largest error allowed.
            measure: ``ece`` (mean gap of probability and share, by tenths), ``brier`` or
                ``log_loss``.
            sure: The upper end of the 95 % interval must keep the bound too, not only the value.
        """
        if measure not in _CALIBRATED:
            raise Invalid(
                "gate.metric",
                f"{measure!r} does not measure calibration.",
                hint=f"Use one of {', '.join(sorted(_CALIBRATED))}.",
            )
        scored = self._bench.candidate.scored
        found = interval(self._bench.metric(measure), scored)
        seen = found.high if sure else found.value
        evidence: dict[str, object] = asdict(found)
        if scored.task == "binary" and scored.scores is not None:
            curve = calibration_curve(scored.truth, scored.scores)
            evidence["curve"] = [
                dict(zip(curve, values, strict=True))
                for values in zip(*curve.values(), strict=True)
            ]
        self._note(
            f"calibration {measure}",
            seen <= at_most,
            seen,
            f"{'upper bound ' if sure else ''}<= {at_most:g}",
            f"{measure} is {found.value:.4g} (95 % interval {found.low:.3g} to {found.high:.3g}); "
            f"at most {at_most:g} is allowed.",
            evidence,
            next_step="Calibrate it on rows of its own, such as with scikit-learn's "
            "CalibratedClassifierCV, and return that.",
        )
