"""Whether an A/B test has a winner: sums of outcomes in, a decision with its evidence out.

Knows no rows and no clock. May be asked after every outcome (``sequential``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from clew.base.records.traffic import Rollout
from clew.serving.sequential import Difference, Ratio, Sums, difference, sample_ratio

RATIO_ALPHA = 0.001
"""The chance that a sample ratio is ever called wrong that is right."""


class Outcome(Struct, frozen=True, kw_only=True):
    """``action``: go on, winner or stop; ``winner``: an arm; ``evidence``: the numbers."""

    action: str
    winner: str
    reason: str
    evidence: dict[str, object]


def compare(
    rollout: Rollout,
    control: str,
    weights: Mapping[str, float],
    sums: Mapping[str, Sums],
    assigned: Mapping[str, int],
) -> Outcome:
    """What to do with an A/B test of arms with these weights, the control among them.

    Each challenger is compared with the control at alpha over their number (Bonferroni).
    ``assigned``: requests without a key and keys that were drawn for each arm.
    """
    ratio = sample_ratio(assigned, weights)
    challengers = [name for name in weights if name != control]
    alpha = rollout.alpha / max(1, len(challengers))
    theirs = sums.get(control, Sums())
    seen = {
        name: difference(sums.get(name, Sums()), theirs, alpha=alpha, least=rollout.min_samples)
        for name in challengers
    }
    evidence = _evidence(rollout, control, weights, sums, assigned, seen, ratio, alpha)

    def end(action: str, reason: str, winner: str = "") -> Outcome:
        return Outcome(action=action, winner=winner, reason=reason, evidence=evidence)

    if ratio.e >= -math.log(RATIO_ALPHA):
        return end("stop", "The arms were not asked as their weights say: the test is not valid.")
    sign = 1 if rollout.goal == "max" else -1
    better = [name for name, one in seen.items() if (one.low if sign > 0 else -one.high) > 0]
    worse = [name for name, one in seen.items() if (one.high if sign > 0 else -one.low) < 0]
    if better:
        best = max(better, key=lambda name: sign * sums[name].mean)
        return end("winner", _said(rollout, seen[best]), best)
    if challengers and len(worse) == len(challengers):
        nearest = max(worse, key=lambda name: sign * seen[name].gap)
        return end("winner", _said(rollout, seen[nearest]), control)
    total = sum(one.units for one in sums.values())
    if rollout.max_samples and total >= rollout.max_samples:
        return end("stop", f"{total} outcomes and no difference beyond chance: no winner.")
    return end("go on", f"{total} outcomes; no difference beyond chance yet.")


def _said(rollout: Rollout, one: Difference) -> str:
    return (
        f"{rollout.metric} differs by {one.gap:+.4g} from the control, "
        f"{one.low:+.4g} to {one.high:+.4g} at {1 - rollout.alpha:.0%}, whenever one looks."
    )


def _evidence(
    rollout: Rollout,
    control: str,
    weights: Mapping[str, float],
    sums: Mapping[str, Sums],
    assigned: Mapping[str, int],
    seen: Mapping[str, Difference],
    ratio: Ratio,
    alpha: float,
) -> dict[str, object]:
    arms = {}
    for name in weights:
        one, gap = sums.get(name, Sums()), seen.get(name)
        arms[name] = {
            "units": one.units,
            "outcomes": one.outcomes,
            "mean": one.mean if one.units else None,
            "assigned": assigned.get(name, 0),
            "gap": None if gap is None else round(gap.gap, 6),
            "low": _finite(gap.low) if gap else None,
            "high": _finite(gap.high) if gap else None,
            "log_e": None if gap is None else round(gap.e, 3),
        }
    return {
        "test": "mixture sequential probability ratio test",
        "metric": rollout.metric,
        "goal": rollout.goal,
        "alpha": alpha,
        "decided_at_log_e": round(-math.log(alpha), 3),
        "min_samples": rollout.min_samples,
        "control": control,
        "arms": arms,
        "sample_ratio": {
            "chi_square": round(ratio.chi_square, 3),
            "p": ratio.p,
            "log_e": round(ratio.e, 3),
            "stop_at": round(-math.log(RATIO_ALPHA), 3),
        },
    }


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
