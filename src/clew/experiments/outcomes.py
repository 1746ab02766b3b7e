"""How a search ends without a model, in words: cancelled, failed, or nothing feasible.

Knows tracks; nothing of how a search goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from clew.base.errors import Conflict, Invalid
from clew.experiments.searchers import Progress
from clew.experiments.tracks import Track


def cancelled(name: str) -> Conflict:
    """Somebody ended the search."""
    return Conflict(
        "experiment.cancelled",
        f"The search of {name} was cancelled.",
        hint="Run the step again when you want its model.",
    )


def failed_search(name: str, failed: Sequence[Track], trials: int) -> Invalid:
    """Too many trials failed; the first of them says why."""
    first = failed[0]
    summary, _, traceback = first.error.partition("\n")
    return Invalid(
        "experiment.failed",
        f"{len(failed)} of {trials} trials of {name} failed. Trial {first.number}: {summary}",
        hint=traceback or "Look at the log of that trial.",
    )


def best_loss(one: Progress) -> float | None:
    """Of rungs at which it was feasible; infinite where there is none, None before the first."""
    if not one.losses:
        return None
    ranks = [one.rank(rung) for rung in range(len(one.losses))]
    return min((loss for violation, loss in ranks if violation <= 0), default=math.inf)


def infeasible(name: str, rules: Sequence[str], tracks: Sequence[Track], near: int) -> Invalid:
    """No trial keeps the rules over what was measured: that is the answer of the search."""
    judged = [track for track in tracks if track.breaches and track.state != "failed"]
    broken = {
        rule: sum(1 for track in judged if track.breaches[-1].get(rule, 0.0) != 0) for rule in rules
    }
    told = "; ".join(f"{rule} is broken by {count}" for rule, count in broken.items() if count)
    closest = tracks[near]
    at = ", ".join(f"{key} = {value:.6g}" for key, value in sorted(closest.others.items()))
    return Invalid(
        "experiment.infeasible",
        f"None of {len(judged)} trials of {name} keeps all constraints: {told}. The nearest is "
        f"trial {closest.number}, with {at}.",
        hint="Loosen a constraint, widen the space, or search longer; its trials are kept.",
    )
