"""Whether an A/B test has a winner: sums of outcomes in, a decision with its evidence out.

Knows no rows and no clock. May be asked after every outcome (``sequential``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from clew.base.records.traffic import Rollout
from clew.serving.sequential import (
    Difference,
    Ratio,
    Sums,
    difference,
    rejected,
    sample_ratio,
)

RATIO_ALPHA = 0.001
"""The chance that a sample ratio is ever called wrong that is right."""


class Outcome(Struct, frozen=True, kw_only=True):
    """``action``: go on, winner or stop; ``winner``: an arm; ``worse``: arms that are shown to be
    worse than the control; ``evidence``: the numbers.
    """

    action: str
    winner: str
    reason: str
    evidence: dict[str, object]
    worse: tuple[str, ...] = ()


def compare(
    rollout: Rollout,
    control: str,
    weights: Mapping[str, float],
    sums: Mapping[str, Sums],
    assigned: Mapping[str, int],
    *,
    begun: int = 0,
    lost: int = 0,
) -> Outcome:
    """What to do with an A/B test of arms with these weights, the control among them.

    Each challenger is compared with the control, at alpha for all of them together
    (``sequential.rejected``): the test began with ``begun`` of them (0: those that there are),
    ``lost`` were shown to be worse and left. ``assigned``: requests without a key and keys that
    were drawn for each arm.
    """
    ratio = sample_ratio(assigned, weights)
    challengers = [name for name in weights if name != control]
    family = max(begun, len(challengers) + lost, 1)

    def look(alpha: float) -> dict[str, Difference]:
        least, tuned = rollout.min_samples, rollout.alpha / family
        theirs = sums.get(control, Sums())
        return {
            name: difference(sums.get(name, Sums()), theirs, alpha=alpha, least=least, tuned=tuned)
            for name in challengers
        }

    logs = {name: one.e for name, one in look(rollout.alpha / family).items()}
    decided = rejected(logs, rollout.alpha, family - lost)
    alpha = rollout.alpha / max(1, family - lost - len(decided))
    seen = look(alpha)
    evidence = _evidence(rollout, control, weights, sums, assigned, seen, ratio, alpha)
    evidence |= {"comparisons": family, "correction": "Holm"} if family > 1 else {}

    def end(action: str, reason: str, winner: str = "", worse: Sequence[str] = ()) -> Outcome:
        return Outcome(
            action=action, winner=winner, reason=reason, evidence=evidence, worse=tuple(worse)
        )

    if ratio.e >= -math.log(RATIO_ALPHA):
        return end("stop", "The arms were not asked as their weights say: the test is not valid.")
    sign = 1 if rollout.goal == "max" else -1
    better = [name for name in decided if sign * seen[name].gap > 0]
    worse = [name for name in decided if name not in better]
    if better:
        best = max(better, key=lambda name: sign * sums[name].mean)
        return end("winner", _said(rollout, seen[best]), best)
    if challengers and len(worse) == len(challengers):
        nearest = max(worse, key=lambda name: sign * seen[name].gap)
        return end("winner", _said(rollout, seen[nearest]), control)
    total = sum(one.units for one in sums.values())
    if rollout.max_samples and total >= rollout.max_samples:
        return end("stop", f"{total} outcomes and no difference beyond chance: no winner.")
    if worse:
        return end("go on", f"{total} outcomes; {_said(rollout, seen[worse[0]])}", worse=worse)
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
