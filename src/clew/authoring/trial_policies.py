"""How trials are run and kept, as a user writes it: checkpoints that stay, restarts, logs.

Knows values only; every refusal is Invalid ``pipeline.definition``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from clew.authoring.checks import invalid
from clew.base.records.trial_policy import Keep, LogRule, TrialPolicy


def keep(*, best: int = 1, trial_best: int = 1, trial_latest: int = 1) -> Keep:
    """Which checkpoints of a search stay; see :func:`trials`.

    Args:
        best: So many checkpoints of the search with the best metric.
        trial_best: So many of each trial.
        trial_latest: So many of the latest of each trial (0 counts when the search is over).
    """
    numbers = {"best": best, "trial_best": trial_best, "trial_latest": trial_latest}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise invalid(f"keep({name}={number!r})", "Give a whole number, 0 or more.")
    return Keep(**numbers)


def on_log(
    pattern: str,
    *,
    retry: bool = True,
    scale: Mapping[str, float] | None = None,
    exclude_slot: bool = False,
    times: int = 3,
) -> LogRule:
    """What to do where a trial failed and its log (or its error) has what ``pattern`` finds.

    Args:
        pattern: A regular expression, searched in what the run printed and in its error.
        retry: False: the trial has failed, whatever restarts are left.
        scale: Parameters to multiply before it goes on: ``{"batch_size": 0.5}``.
        exclude_slot: Give the slot (the GPU, the node, else the process) where it was seen to no
            trial any more, until somebody gives it back (``clew pools --restore SLOT``), and go on
            elsewhere.
        times: How often at most the trial is tried again because of this rule.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise invalid(f"on_log({pattern!r}) is no pattern: {error}", "See the module re.") from None
    if retry is not bool(scale or exclude_slot):
        raise invalid(
            f"on_log({pattern!r}) says not what to do",
            "Give retry=False, factors to scale by, or exclude_slot=True.",
        )
    if times < 1 or any(factor <= 0 for factor in (scale or {}).values()):
        raise invalid(f"on_log({pattern!r})", "times and the factors of scale are above 0.")
    return LogRule(
        pattern=pattern,
        act="scale" if retry else "give_up",
        factors=tuple(sorted((scale or {}).items())),
        times=times,
        exclude=exclude_slot,
    )


def trials(
    *,
    keep: Keep | None = None,
    restarts: int = 0,
    on_log: LogRule | Sequence[LogRule] = (),
) -> TrialPolicy:
    """How the trials of a training step are run and kept: ``train(..., trials=clew.trials(...))``.

    Nothing of it changes what comes out, so nothing runs anew where it changes.

    Args:
        keep: Which checkpoints stay: ``clew.keep(best=1, trial_best=1, trial_latest=1)``.
        restarts: How often a trial that fails goes on from its latest checkpoint.
        on_log: What to do where a failed trial printed something: ``clew.on_log(...)``, in order.
    """
    if isinstance(restarts, bool) or not isinstance(restarts, int) or restarts < 0:
        raise invalid(f"trials(restarts={restarts!r})", "restarts is a whole number, 0 or more.")
    return TrialPolicy(
        keep=keep or Keep(),
        restarts=restarts,
        on_log=(on_log,) if isinstance(on_log, LogRule) else tuple(on_log),
    )
