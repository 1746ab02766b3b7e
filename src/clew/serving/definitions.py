"""What a user says about an endpoint: its name, its model, and how a new version takes over.

Knows nothing of rows, processes or requests: these are values that travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct, field

from clew.base.errors import Invalid


class Rollout(Struct, frozen=True, kw_only=True):
    """How a new revision takes over. ``steps``: percentages, rising, the last one 100.

    A step lasts at least ``hold_s`` and ``min_requests`` requests to the new revision. It goes
    back when the share of failed requests is ``max_error_rate`` above that of the live revision,
    or when it is ``max_latency_ratio`` times slower (90th percentile). One step of 100 is an
    immediate rollout: no analysis, still no request lost.
    """

    steps: tuple[int, ...] = (100,)
    hold_s: float = 2.0
    min_requests: int = 20
    max_error_rate: float = 0.02
    max_nan_rate: float = 0.02
    max_latency_ratio: float = 5.0

    @property
    def is_canary(self) -> bool:
        """Whether there is a step before 100 %."""
        return len(self.steps) > 1

    def __str__(self) -> str:
        if not self.is_canary:
            return "immediate"
        return f"canary {' → '.join(str(step) for step in self.steps)} %"


def canary(
    steps: Sequence[int] = (10, 50, 100),
    *,
    hold_s: float = 2.0,
    min_requests: int = 20,
    max_error_rate: float = 0.02,
    max_nan_rate: float = 0.02,
    max_latency_ratio: float = 5.0,
) -> Rollout:
    """A rollout by steps of traffic with an analysis before each next step.

    A last step of 100 is added where it is missing.

    Raises:
        Invalid: ``rollout.steps`` where the percentages do not rise from above 0 to 100.
    """
    whole = tuple(steps) if steps and steps[-1] == 100 else (*steps, 100)
    rising = all(low < high for low, high in pairwise(whole))
    if not rising or not 0 < whole[0] <= 100:
        raise Invalid(
            "rollout.steps",
            f"The steps of a canary must rise from above 0 to 100, not {list(steps)}.",
            hint="Write clew.canary(steps=[10, 50, 100]).",
        )
    return Rollout(
        steps=whole,
        hold_s=hold_s,
        min_requests=min_requests,
        max_error_rate=max_error_rate,
        max_nan_rate=max_nan_rate,
        max_latency_ratio=max_latency_ratio,
    )


def immediate() -> Rollout:
    """A rollout in one step, as soon as every serving process has loaded the new revision."""
    return Rollout()


class EndpointDefinition(Struct, frozen=True, kw_only=True):
    """A name that predictions are asked from, and the model (the name of its repo) behind it.

    ``log``: keep every prediction in the repo ``{pipeline}/{endpoint}.predictions``.
    ``max_queue``: requests that may wait in one serving process; more are answered with 429.
    """

    name: str
    pipeline: str
    model: str
    rollout: Rollout = field(default_factory=Rollout)
    log: bool = True
    max_queue: int = 1024
