"""Whether a run that failed is tried again, and with what: restarts and rules over logs.

Knows the policy and one trial; nothing of how it is sent off again.
"""

from __future__ import annotations

import re

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


class Mended(msgspec.Struct, frozen=True, kw_only=True):
    """What comes next: another run (``again``) or none, and why, in a few words."""

    again: bool
    why: str


def mend(policy: TrialPolicy, track: Track, error: CallError, log: str) -> Mended:
    """Decide, and note on the trial what that uses up and changes."""
    if error.kind in {"clew", "cancelled"}:
        return Mended(again=False, why="nothing that another try would survive")
    # Not the traceback: it shows the lines of the source, whatever they say.
    rule = _rule(policy, f"{log}\n{error.message}")
    if rule is not None:
        return _by_rule(rule, track)
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


def _by_rule(rule: LogRule, track: Track) -> Mended:
    if rule.act == "give_up":
        return Mended(again=False, why=f"its log has {rule.pattern!r}")
    used = track.tries.get(rule.pattern, 0)
    scaled = {
        name: scaled_by(track.values_now()[name], factor)
        for name, factor in rule.factors
        if name in track.values_now()
    }
    if used >= rule.times or None in scaled.values() or (rule.act == "scale" and not scaled):
        return Mended(again=False, why=f"its log still has {rule.pattern!r}")
    track.tries[rule.pattern] = used + 1
    track.changed.update(scaled)
    said = ", ".join(f"{name}={value}" for name, value in scaled.items())
    return Mended(again=True, why=f"its log has {rule.pattern!r}, so with {said}")


def scaled_by(value: object, factor: float) -> object:
    """A number times a factor, of the same kind; whole ones are 1 or more. None for no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return max(1, int(value * factor)) if isinstance(value, int) else value * factor
