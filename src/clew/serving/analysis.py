"""Whether a canary goes on, waits or goes back: numbers in, a decision with its evidence out.

Knows no rows and no clock.
"""

from __future__ import annotations

import math

from msgspec import Struct

from clew.serving.definitions import Rollout
from clew.serving.stats import Counts, quantile_s

QUIET_HOLDS = 5
"""Without any request for so many times ``hold_s`` a canary goes on: nobody is exposed."""
_Z_1_IN_1000 = 3.09
_LATENCY_FLOOR_S = 0.005
"""Slower by less than this is never a reason to go back."""


class Decision(Struct, frozen=True, kw_only=True):
    """``action``: hold, advance or back; ``reason``: one sentence; ``evidence``: its numbers."""

    action: str
    reason: str
    evidence: dict[str, object]


def judge(rollout: Rollout, canary: Counts, live: Counts, held_s: float) -> Decision:
    """What to do with a canary that has been on its step for ``held_s``.

    ``canary`` and ``live``: what both revisions answered since the step began.
    """
    evidence = _evidence(canary, live, held_s)
    if not canary.requests and not live.requests:
        if held_s >= rollout.hold_s * QUIET_HOLDS:
            return Decision(
                action="advance", reason="No request came: nobody is exposed.", evidence=evidence
            )
        return Decision(action="hold", reason="No request yet.", evidence=evidence)
    if canary.requests < rollout.min_requests:
        return Decision(
            action="hold",
            reason=f"{canary.requests} of {rollout.min_requests} requests seen.",
            evidence=evidence,
        )
    worse = _worse(rollout, canary, live)
    if worse:
        return Decision(action="back", reason=worse, evidence=evidence)
    if held_s < rollout.hold_s:
        return Decision(action="hold", reason="The step is not over.", evidence=evidence)
    return Decision(
        action="advance",
        reason=f"{canary.requests} requests, {canary.errors} errors: as good as the live one.",
        evidence=evidence,
    )


def _worse(rollout: Rollout, canary: Counts, live: Counts) -> str:
    """Why the canary is worse than the live revision; '' where it is not."""
    shares = (
        ("failed requests", canary.errors, live.errors, rollout.max_error_rate),
        ("refused requests", canary.rejected, live.rejected, rollout.max_error_rate),
        ("answers with NaN", canary.nans, live.nans, rollout.max_nan_rate),
    )
    for what, here, there, most in shares:
        mine, theirs = canary.rate(here), live.rate(there)
        if mine - theirs > most and _beyond_chance(here, canary.requests, there, live.requests):
            return f"{mine:.1%} {what} against {theirs:.1%}; at most {most:.1%} more is allowed."
    return _slower(rollout, canary, live)


def _beyond_chance(here: int, of_here: int, there: int, of_there: int) -> bool:
    """Whether a share is larger than another by more than 1 in 1,000 chances would make it.

    The pooled two-proportion z-test, one-sided; where the other has no requests, the share stands
    for itself.
    """
    if not of_there:
        return here > 0
    pooled = (here + there) / (of_here + of_there)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / of_here + 1 / of_there))
    return spread == 0 or (here / of_here - there / of_there) / spread > _Z_1_IN_1000


def _slower(rollout: Rollout, canary: Counts, live: Counts) -> str:
    mine, theirs = quantile_s(canary.buckets, 0.9), quantile_s(live.buckets, 0.9)
    if mine is None or theirs is None or live.requests < rollout.min_requests:
        return ""
    if mine - theirs > _LATENCY_FLOOR_S and mine > theirs * rollout.max_latency_ratio:
        return (
            f"90 % within {mine * 1e3:.1f} ms against {theirs * 1e3:.1f} ms; at most "
            f"{rollout.max_latency_ratio:g} times as long is allowed."
        )
    return ""


def _evidence(canary: Counts, live: Counts, held_s: float) -> dict[str, object]:
    return {"held_s": round(held_s, 3), "canary": _numbers(canary), "live": _numbers(live)}


def _numbers(counts: Counts) -> dict[str, object]:
    p90 = quantile_s(counts.buckets, 0.9)
    return {
        "requests": counts.requests,
        "errors": counts.errors,
        "rejected": counts.rejected,
        "nans": counts.nans,
        "p90_ms": None if p90 is None else round(p90 * 1e3, 3),
    }
