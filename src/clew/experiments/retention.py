"""Which checkpoints a policy keeps. Values in, values out.

Knows no rows of others and no store.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeGuard

import msgspec

from clew.base.records.trial_policy import Keep

LATEST = "latest of its trial"
TRIAL_BEST = "best of its trial"
BEST = "best of the experiment"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint to judge: ``value`` is the metric after its steps, None where there was none."""

    commit: str
    trial: str
    step: int
    value: float | None


def reasons(found: Iterable[Candidate], keep: Keep, mode: str) -> Mapping[str, list[str]]:
    """Why each checkpoint stays, by its commit; those that are not named may go.

    They come in the order in which they were made; of equals, the later counts.
    """
    why: dict[str, list[str]] = defaultdict(list)
    trials: dict[str, list[Candidate]] = defaultdict(list)
    for one in reversed(list(found)):
        trials[one.trial].append(one)
    sign = -1.0 if mode == "max" else 1.0

    def ranked(some: Iterable[Candidate]) -> list[Candidate]:
        known = [(sign * one.value, -one.step, one) for one in some if _is_finite(one.value)]
        return [one for _, _, one in sorted(known, key=lambda item: item[:2])]

    for own in trials.values():
        own.sort(key=lambda one: one.step, reverse=True)
        for one in own[: keep.trial_latest]:
            why[one.commit].append(LATEST)
        for one in ranked(own)[: keep.trial_best]:
            why[one.commit].append(TRIAL_BEST)
    for one in ranked(one for own in trials.values() for one in own)[: keep.best]:
        why[one.commit].append(BEST)
    return why


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
