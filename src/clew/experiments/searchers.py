"""What to do next in a search: start a trial, promote one, wait, or end. Values in, value out.

Knows no database, no process and no clock: the same trials always get the same answer.

The rules are those of asynchronous successive halving (ASHA): Li et al., "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934, algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from clew.experiments.definitions import SearchDefinition


class Rules(Struct, frozen=True, kw_only=True):
    """A search in numbers. ``rungs``: steps at which trials are compared, ascending."""

    rungs: tuple[int, ...]
    reduction: int
    trials: int
    complete_best: bool


class Progress(Struct, frozen=True, kw_only=True):
    """How far a trial has come.

    ``losses[k]`` is its loss at rung k (smaller is better; ``inf`` is the worst and is never
    promoted). ``state``: running, paused (waits at its rung with a checkpoint), done or failed.
    """

    number: int
    losses: tuple[float, ...]
    state: str


class Action(Struct, frozen=True, kw_only=True):
    """``kind``: start (trial ``number`` is new, to rung 0), promote (``number`` to ``rung``),
    wait (for a running trial) or finished.
    """

    kind: str
    number: int = -1
    rung: int = 0


WAIT = Action(kind="wait")
FINISHED = Action(kind="finished")


def rules_of(definition: SearchDefinition, trials: int) -> Rules:
    """The numbers of a search of ``trials`` trials."""
    return Rules(
        rungs=rungs(definition.min_steps, definition.max_steps, definition.reduction),
        reduction=definition.reduction,
        trials=trials,
        complete_best=definition.complete_best,
    )


def rungs(min_steps: int, max_steps: int, reduction: int) -> tuple[int, ...]:
    """Steps of each rung: r·η^k while below R, then R itself.

    Where R/r is a power of η this is the paper's list; else the paper would end below R.
    """
    found = []
    steps = min_steps
    while steps < max_steps:
        found.append(steps)
        steps *= reduction
    return (*found, max_steps)


def next_action(rules: Rules, trials: Sequence[Progress]) -> Action:
    """What a free worker should do: ``get_job`` of algorithm 2, and how the search ends.

    Promotions go first, from the highest rung down; then new trials while there are any. When all
    were started and nothing runs or is due, the search is over, but for ``complete_best``: if
    nobody got to the last rung, the best of the highest rung goes on.
    """
    for rung in range(len(rules.rungs) - 2, -1, -1):
        promoted = _promotable(rules, trials, rung)
        if promoted is not None:
            return Action(kind="promote", number=promoted.number, rung=rung + 1)
    if len(trials) < rules.trials:
        return Action(kind="start", number=len(trials))
    if any(trial.state == "running" for trial in trials):
        return WAIT
    return _complete_best(rules, trials)


def best(trials: Iterable[Progress]) -> Progress | None:
    """The best of those that got furthest; of equals, the one with the lower number.

    None where no trial that did not fail has a finite loss.
    """
    ranked = [
        (-(len(trial.losses) - 1), trial.losses[-1], trial.number, trial)
        for trial in trials
        if trial.state != "failed" and trial.losses and math.isfinite(trial.losses[-1])
    ]
    return min(ranked, key=lambda one: one[:3])[3] if ranked else None


def expected_steps(rules: Rules) -> int:
    """Steps that the whole search takes if promotion goes by the book (1/η of each rung)."""
    total, before, count = 0, 0, rules.trials
    for steps in rules.rungs:
        total += count * (steps - before)
        before = steps
        count = count // rules.reduction or (1 if rules.complete_best else 0)
    return total


def _promotable(rules: Rules, trials: Sequence[Progress], rung: int) -> Progress | None:
    """The best trial in the top 1/η of a rung that was not promoted from it yet."""
    seen = sorted(
        (trial for trial in trials if len(trial.losses) > rung),
        key=lambda trial: (trial.losses[rung], trial.number),
    )
    for trial in seen[: len(seen) // rules.reduction]:
        if _waits_at(trial, rung):
            return trial
    return None


def _complete_best(rules: Rules, trials: Sequence[Progress]) -> Action:
    leader = best(trials)
    if leader is None or not rules.complete_best:
        return FINISHED
    rung = len(leader.losses) - 1
    if rung == len(rules.rungs) - 1 or not _waits_at(leader, rung):
        return FINISHED
    return Action(kind="promote", number=leader.number, rung=rung + 1)


def _waits_at(trial: Progress, rung: int) -> bool:
    reached = len(trial.losses) - 1 == rung
    return trial.state == "paused" and reached and math.isfinite(trial.losses[rung])
