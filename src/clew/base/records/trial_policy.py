"""How the trials of a training step are run and kept: never what comes out of them.

Plain values that travel with a definition; they know no storage, and no key counts them.
"""

from __future__ import annotations

from msgspec import Struct, field


class Keep(Struct, frozen=True, kw_only=True):
    """Which checkpoints stay: so many of the best of a search, of each trial, and of its latest.

    While a search goes on, at least the latest of each trial stays. What a model version, an
    alias, an endpoint or a warm start rests on stays in any case.
    """

    best: int = 1
    trial_best: int = 1
    trial_latest: int = 1


class LogRule(Struct, frozen=True, kw_only=True):
    """What to do where a run that failed has printed (or raised) what ``pattern`` finds.

    ``act``: ``give_up`` (no other try) or ``scale`` (the parameters of ``factors`` are multiplied,
    where there are some, and it is tried again, up to ``times`` times, also beyond the restarts of
    the policy). ``exclude``: no trial gets the slot any more where it was seen.
    """

    pattern: str
    act: str
    factors: tuple[tuple[str, float], ...] = ()
    times: int = 3
    exclude: bool = False


class TrialPolicy(Struct, frozen=True, kw_only=True):
    """``restarts``: how often a trial that fails goes on from its latest checkpoint."""

    keep: Keep = field(default_factory=Keep)
    restarts: int = 0
    on_log: tuple[LogRule, ...] = ()
