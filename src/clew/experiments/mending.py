"""Whether a run that failed is tried again, and with what: restarts and rules over logs.

Knows the policy and one trial; nothing of how it is sent off again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from clew.base.records.trial_policy import LogRule, TrialPolicy
from clew.compute import CallError
from clew.experiments.tracks import Track

DEATHS_ALLOWED = 2
LOSSES_ALLOWED = 20
"""A trial in whose runs the worker process ends that often is to blame for it."""

OF_TRIALS = frozenset({"raised", "timeout", "memory", "died"})
"""Failures that another try of the same trial may survive."""

RESTARTS = "restarts"
_OF_RANK = re.compile(r"\[?[Rr]ank (\d+)\b")
"""How lines of a group's log, and its errors, name the rank that they are of."""


class Mended(msgspec.Struct, frozen=True, kw_only=True):
    """What comes next: another run (``again``) or none, and why, in a few words."""

    again: bool
    why: str
    excluded: tuple[str, ...] = ()
    """Slots that nobody should get any more."""
    pattern: str = ""


def mend(
    policy: TrialPolicy,
    track: Track,
    error: CallError,
    log: str,
    *,
    slots: Sequence[str] = (),
    ranks: int = 1,
) -> Mended:
    """Decide, and note on the trial what that uses up and changes.

    ``slots``: what it ran on, an equal part for each of ``ranks``.
    """
    if error.kind in {"clew", "cancelled"}:
        return Mended(again=False, why="nothing that another try would survive")
    # Not the traceback: it shows the lines of the source, whatever they say.
    text = f"{log}\n{error.message}"
    rule = _rule(policy, text)
    if rule is not None:
        return _by_rule(rule, track, _seen_on(rule, text, slots, ranks))
    track.deaths += error.kind == "died"
    track.losses += error.kind == "lost"
    allowed = {"died": track.deaths < DEATHS_ALLOWED, "lost": track.losses < LOSSES_ALLOWED}
    if allowed.get(error.kind):
        return Mended(again=True, why="its worker ended, which is no fault of the trial yet")
    used = track.tries.get(RESTARTS, 0)
    if error.kind in OF_TRIALS and used < policy.restarts:
        track.tries[RESTARTS] = used + 1
        return Mended(again=True, why=f"restart {used + 1} of {policy.restarts}")
    return Mended(again=False, why="no restarts are left")


def _rule(policy: TrialPolicy, text: str) -> LogRule | None:
    """The first rule whose pattern is found."""
    return next((rule for rule in policy.on_log if re.search(rule.pattern, text)), None)


def _seen_on(rule: LogRule, text: str, slots: Sequence[str], ranks: int) -> tuple[str, ...]:
    """The slots where the pattern was seen: those of the rank in whose line it is, else all."""
    found = re.search(rule.pattern, text)
    assert found is not None
    line = text[text.rfind("\n", 0, found.start()) + 1 : found.end()]
    told = _OF_RANK.match(line)
    rank, each = int(told[1]) if told else 0, len(slots) // ranks
    if told is None or not each or rank >= ranks:
        return tuple(slots)
    return tuple(slots[rank * each : (rank + 1) * each])


def _by_rule(rule: LogRule, track: Track, slots: tuple[str, ...]) -> Mended:
    if rule.act == "give_up":
        return Mended(again=False, why=f"its log has {rule.pattern!r}")
    used = track.tries.get(rule.pattern, 0)
    scaled = {
        name: scaled_by(track.values_now()[name], factor)
        for name, factor in rule.factors
        if name in track.values_now()
    }
    nothing_new = not scaled and not (rule.exclude and slots)
    if used >= rule.times or None in scaled.values() or nothing_new:
        return Mended(again=False, why=f"its log still has {rule.pattern!r}")
    track.tries[rule.pattern] = used + 1
    track.changed.update(scaled)
    excluded = slots if rule.exclude else ()
    said = ", ".join(
        [*(f"with {name}={value}" for name, value in scaled.items()),
         *(f"not on {slot}" for slot in excluded)]
    )  # fmt: skip
    why = f"its log has {rule.pattern!r}, so {said}"
    return Mended(again=True, why=why, excluded=excluded, pattern=rule.pattern)


def scaled_by(value: object, factor: float) -> object:
    """A number times a factor, of the same kind; whole ones are 1 or more. None for no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return max(1, int(value * factor)) if isinstance(value, int) else value * factor
