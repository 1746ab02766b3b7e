"""What to do next in a search: start a trial, promote one, wait, or end. Values in, value out.

Knows no database, no process and no clock: the same trials always get the same answer.

The rules are those of asynchronous successive halving (ASHA): Li et al., "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, https://arxiv.org/abs/1810.05934, algorithm 2; within
each bracket of Hyperband, the same. The stopping rule is Determined's (asha_stopping.go).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from clew.experiments.brackets import Bracket, brackets_of
from clew.experiments.definitions import STOPPING, SearchDefinition


class Rules(Struct, frozen=True, kw_only=True):
    """A search in numbers. ``promotes``: paused trials go on; else those that stop are stopped."""

    brackets: tuple[Bracket, ...]
    reduction: int
    trials: int
    complete_best: bool
    promotes: bool = True

    def bracket(self, number: int) -> Bracket:
        """The bracket of a trial."""
        return self.brackets[self.bracket_number(number)]

    def bracket_number(self, number: int) -> int:
        """Which bracket a trial is in, from 0."""
        found = 0
        for index, one in enumerate(self.brackets):
            if number >= one.first:
                found = index
        return found

    def rungs(self, number: int) -> tuple[int, ...]:
        """Steps at which a trial is compared, ascending."""
        return self.bracket(number).rungs


class Progress(Struct, frozen=True, kw_only=True):
    """How far a trial has come.

    ``losses[k]`` is its loss at rung k (smaller is better; ``inf`` is the worst and is never
    promoted). ``state``: running, paused (waits at its rung with a checkpoint), done or failed.
    ``others``: the losses by further objectives. ``violations[k]``: how far from feasible it was
    at rung k, 0 where it kept all rules; empty where there are none.
    """

    number: int
    losses: tuple[float, ...]
    state: str
    others: tuple[float, ...] = ()
    violations: tuple[float, ...] = ()

    def rank(self, rung: int) -> tuple[float, float]:
        """Its place at a rung, smaller is better: what is feasible goes before what is not, and
        what is nearer to it before what is further (Deb 2000); then by the loss.
        """
        return (self.violations[rung] if self.violations else 0.0, self.losses[rung])

    @property
    def is_feasible(self) -> bool:
        """Whether it kept all rules at the last rung that it reached."""
        return not self.violations or self.violations[-1] <= 0


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
    """The numbers of a search of ``trials`` trials (of Hyperband, as its definition says)."""
    brackets = brackets_of(definition, trials)
    return Rules(
        brackets=brackets,
        reduction=definition.reduction,
        trials=sum(one.trials for one in brackets),
        complete_best=definition.complete_best,
        promotes=definition.searcher not in STOPPING,
    )


def next_action(rules: Rules, trials: Sequence[Progress]) -> Action:
    """What a free worker should do: ``get_job`` of algorithm 2, and how the search ends.

    Promotions go first, from the highest rung down; then new trials while there are any. When all
    were started and nothing runs or is due, the search is over, but for ``complete_best``: if
    nobody got to the last rung, the best of the highest rung goes on.
    """
    for bracket in rules.brackets if rules.promotes else ():
        action = _promotion(rules, bracket, trials)
        if action is not None:
            return action
    if len(trials) < rules.trials:
        return Action(kind="start", number=len(trials))
    if any(trial.state == "running" for trial in trials):
        return WAIT
    return _complete_best(rules, trials)


def goes_on(rules: Rules, trials: Sequence[Progress], number: int) -> bool:
    """Whether the stopping rule lets a trial go on from the rung that it is at.

    It does if it is among the top ⌊n/η⌋ of those that got there so far, itself included; while
    they are fewer than η, if it is the best (Determined's ``stopRun``).
    """
    trial = trials[number]
    rung = len(trial.losses) - 1
    if not math.isfinite(trial.losses[rung]) or rung + 1 >= len(rules.rungs(number)):
        return False
    within = _within(rules.bracket(number), trials)
    seen = [one.rank(rung) for one in within if rung < len(one.losses)]
    better = sum(rank < trial.rank(rung) for rank in seen)
    return better < max(len(seen) // rules.reduction, 1)


def best(trials: Iterable[Progress], rules: Rules | None = None) -> Progress | None:
    """The best of the feasible trials that got furthest; of equals, the one that is better by the
    further objectives, then the one with the lower number. So it is on the Pareto front.

    None where no feasible trial that did not fail has a finite loss. With ``rules`` of several
    brackets, furthest is counted in steps, else in rungs.
    """
    return _leader((trial for trial in trials if trial.is_feasible), rules)


def nearest(trials: Iterable[Progress], rules: Rules | None = None) -> Progress | None:
    """The trial that is nearest to feasible; None where all are, or none has a finite loss."""
    far = [one for one in trials if not one.is_feasible and one.state != "failed"]
    known = [one for one in far if one.losses and math.isfinite(one.losses[-1])]
    least = min((one.violations[-1] for one in known), default=0.0)
    return _leader((one for one in known if one.violations[-1] <= least), rules)


def _leader(trials: Iterable[Progress], rules: Rules | None) -> Progress | None:
    found, rank = None, None
    several = rules is not None and len(rules.brackets) > 1
    for trial in trials:
        if trial.state == "failed" or not trial.losses or not math.isfinite(trial.losses[-1]):
            continue
        reached = len(trial.losses) - 1
        if several and rules is not None:
            reached = rules.rungs(trial.number)[reached]
        mine = (-reached, trial.losses[-1], trial.others, trial.number)
        if rank is None or mine < rank:
            found, rank = trial, mine
    return found


def expected_steps(rules: Rules) -> int:
    """Steps that the whole search takes if promotion goes by the book (1/η of each rung).

    By the stopping rule nobody knows before; this is then the least.
    """
    found = sum(_bracket_steps(rules, one) for one in rules.brackets)
    finishers = any(_finishes(rules, one) for one in rules.brackets)
    if not rules.complete_best or finishers:
        return found
    # The best of the highest rung that anybody reaches goes on alone.
    return found + min(_left_to_best(rules, one) for one in rules.brackets)


def most_steps(rules: Rules) -> int:
    """Steps if every trial went to its last rung."""
    return sum(one.trials * one.rungs[-1] for one in rules.brackets)


def _bracket_steps(rules: Rules, bracket: Bracket) -> int:
    total, before, count = 0, 0, bracket.trials
    for steps in bracket.rungs:
        total += count * (steps - before)
        before = steps
        count //= rules.reduction
    return total


def _finishes(rules: Rules, bracket: Bracket) -> bool:
    return bracket.trials >= math.prod([rules.reduction] * (len(bracket.rungs) - 1))


def _left_to_best(rules: Rules, bracket: Bracket) -> int:
    count, reached = bracket.trials, 0
    for steps in bracket.rungs:
        if count:
            reached = steps
        count //= rules.reduction
    return bracket.rungs[-1] - reached


def _promotion(rules: Rules, bracket: Bracket, trials: Sequence[Progress]) -> Action | None:
    """What algorithm 2 promotes next in a bracket; None where nothing is due."""
    if len(bracket.rungs) == 1:
        return None
    within = _within(bracket, trials)
    for rung in range(len(bracket.rungs) - 2, -1, -1):
        seen = [trial for trial in within if len(trial.losses) > rung]
        if any(_waits_at(trial, rung) for trial in seen):
            top = heapq.nsmallest(
                len(seen) // rules.reduction,
                seen,
                key=lambda trial: (*trial.rank(rung), trial.number),
            )
            for trial in top:
                if _waits_at(trial, rung):
                    return Action(kind="promote", number=trial.number, rung=rung + 1)
    return None


def _within(bracket: Bracket, trials: Sequence[Progress]) -> Sequence[Progress]:
    if bracket.first == 0 and bracket.trials >= len(trials):
        return trials
    return trials[bracket.first : bracket.first + bracket.trials]


def _complete_best(rules: Rules, trials: Sequence[Progress]) -> Action:
    leader = best(trials, rules) or nearest(trials, rules)
    if leader is None or not rules.complete_best:
        return FINISHED
    rung = len(leader.losses) - 1
    if rung == len(rules.rungs(leader.number)) - 1 or not _waits_at(leader, rung):
        return FINISHED
    return Action(kind="promote", number=leader.number, rung=rung + 1)


def _waits_at(trial: Progress, rung: int) -> bool:
    reached = len(trial.losses) - 1 == rung
    return trial.state == "paused" and reached and math.isfinite(trial.losses[rung])
