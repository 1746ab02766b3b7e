"""Records of traffic: how a revision takes over, who gets how much, and what came back.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field

PATIENCE = 20
"""A step of a canary decides at the latest after so many times its minimum of requests."""
MAX_DRIFT = 0.25
"""How far the answers of a canary may be from those of the live revision, unless it is said."""


class Rollout(Struct, frozen=True, kw_only=True):
    """How a new revision gets its share of the requests. Made by ``clew.canary`` and its like.

    ``kind``: immediate, canary, shadow, split, ab_test or bandit. Percentages are of requests.
    Fields that a kind does not name in its function mean nothing to it.
    """

    kind: str = "immediate"
    steps: tuple[int, ...] = (100,)
    hold_s: float = 2.0
    min_requests: int = 20
    max_requests: int = 0
    max_error_rate: float = 0.02
    max_nan_rate: float = 0.02
    max_latency_ratio: float = 5.0
    max_drift: float | None = None
    max_disagreement: float | None = None
    shadow: bool = False
    weight: float = 0.0
    metric: str = "reward"
    goal: str = "max"
    alpha: float = 0.05
    min_samples: int = 100
    max_samples: int = 0
    promote: bool = True
    floor: float = 0.05
    reward: str = "binary"
    every_s: float = 2.0
    most: int = 1

    @property
    def is_canary(self) -> bool:
        """Whether there is a step before 100 %."""
        return self.kind == "canary" and (len(self.steps) > 1 or self.shadow)

    @property
    def patience(self) -> int:
        """Requests to the canary after which a step decides by what it has."""
        return max(self.min_requests, self.max_requests or PATIENCE * self.min_requests)

    @property
    def drift_bound(self) -> float:
        """How far the distribution of an output may be from that of the live revision's."""
        return MAX_DRIFT if self.max_drift is None else self.max_drift

    def __str__(self) -> str:
        if self.is_canary:
            first = "shadow → " if self.shadow else ""
            any_answer = ", answers may differ" if self.drift_bound >= 1 else ""
            return f"canary {first}{' → '.join(str(step) for step in self.steps)} %{any_answer}"
        said = {
            "shadow": f"shadow of {self.weight:g} %",
            "split": f"split, {self.weight:g} % to the new one",
            "ab_test": f"A/B test of {self.metric}, {self.weight:g} % to the new one",
            "bandit": f"bandit on {self.metric}, at least {100 * self.floor:g} % each",
        }
        return said.get(self.kind, "immediate")


class TrafficArm(Struct, frozen=True, kw_only=True):
    """A revision with requests, now or as a shadow. ``weight`` in percent; of a shadow: copied.

    ``compared``, ``disagreed``, ``dropped``: copies of a shadow that were compared with the live
    answer, that differed, and that were left out under load. ``outcomes``: units (predictions, or
    keys) with an outcome; ``mean``, and ``low`` to ``high`` (its difference to the control,
    always valid, in an A/B test; the middle 95 % of its posterior in a bandit).
    """

    revision: str
    number: int
    model_version: str
    state: str
    weight: float
    requests: int
    errors: int
    nans: int
    p90_ms: float | None
    compared: int = 0
    disagreed: int = 0
    dropped: int = 0
    overloads: int = 0
    """Requests refused with 429, and (``expired``) given up with 504; not among ``requests``."""
    expired: int = 0
    assigned: int = 0
    outcomes: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    best: float | None = None
    """The chance that it is the best arm, of a bandit."""


class TrafficChange(Struct, frozen=True, kw_only=True):
    """A change of traffic: why, who has how much since (revision → percent), and the evidence."""

    at: datetime
    reason: str
    split: dict[str, float]
    evidence: dict[str, object]


class Traffic(Struct, frozen=True, kw_only=True):
    """How an endpoint's requests are shared now.

    ``plan``: immediate (one revision has all), canary, split, ab_test or bandit; ``state``:
    steady, or running while there is something to decide. ``evidence``: the latest look at it.
    ``changes``: the latest, newest first.
    """

    endpoint: str
    plan: str
    rollout: str
    state: str
    since: datetime | None
    arms: tuple[TrafficArm, ...]
    evidence: dict[str, object]
    changes: tuple[TrafficChange, ...]


class Feedback(Struct, frozen=True, kw_only=True):
    """What became of a prediction. ``row``: which row of its request; ``name``: of what kind.

    ``label``: what was true (any JSON value); ``reward``: how good the answer was, a number.
    """

    id: str
    label: object = None
    reward: float | None = None
    row: int = 0
    name: str = ""


class FeedbackResult(Struct, frozen=True, kw_only=True):
    """What became of feedback: ids by fate.

    ``kept``: new or corrected; ``known``: the same was there; ``unknown``: no such prediction in
    the log; ``unsampled``: not found, and it is one that the endpoint's sampling leaves out.
    """

    kept: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unsampled: tuple[str, ...] = ()


class FeedbackRow(Struct, frozen=True, kw_only=True):
    """Feedback as it is joined to its prediction.

    ``correct``: whether the label is the answer's; ``error``: how far it is from it.
    """

    name: str
    row: int
    label: object
    reward: float | None
    correct: bool | None
    error: float | None
    at: datetime
    commit: str | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """The feedback on one prediction, with what made that prediction."""

    id: str
    endpoint: str
    revision: str
    model_version: str
    arm: str
    propensity: float
    feedback: tuple[FeedbackRow, ...] = field(default_factory=tuple)
