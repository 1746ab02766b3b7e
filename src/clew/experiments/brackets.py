"""Brackets and rungs: how many trials begin where, and at which steps they are compared.

Values in, values out; knows no trial and no clock. The sources, which the tests quote case by case:

- ASHA: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020,
  https://arxiv.org/abs/1810.05934, algorithm 2.
- Hyperband: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization",
  JMLR 18 (2018), https://arxiv.org/abs/1603.06560, algorithm 1.
- Determined's adaptive ASHA: master/pkg/searcher/adaptive_asha.go (the shares of brackets) and
  asha_stopping.go (``makeRungs``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from msgspec import Struct

from clew.base.errors import Invalid
from clew.experiments.definitions import BRACKETED, SearchDefinition


class Bracket(Struct, frozen=True, kw_only=True):
    """A search within the search: trials ``first`` to ``first + trials - 1``, halved at ``rungs``.

    ``rungs`` are steps, ascending.
    """

    first: int
    trials: int
    rungs: tuple[int, ...]


def brackets_of(definition: SearchDefinition, trials: int) -> tuple[Bracket, ...]:
    """The brackets of a search of so many trials; one for all but Hyperband, whose definition says
    how many there are (0: what the paper asks for).

    Raises:
        Invalid: ``search.invalid`` where there are fewer trials than brackets.
    """
    if definition.searcher not in BRACKETED:
        steps = rungs(definition.min_steps, definition.max_steps, definition.reduction)
        return (Bracket(first=0, trials=trials, rungs=steps),)
    eta, most = definition.reduction, definition.max_steps
    deepest = depth(definition.min_steps, most, eta)
    count = min(definition.brackets or deepest + 1, deepest + 1)
    halvings = [deepest - i for i in range(count)]
    if definition.trials:
        shares = shared_out(definition.trials, eta, [one + 1 for one in halvings])
    else:
        shares = [hyperband_trials(deepest, one, eta) for one in halvings]
    starts = itertools.accumulate([0, *shares[:-1]])
    return tuple(
        Bracket(first=first, trials=share, rungs=bracket_rungs(one, most, eta))
        for first, share, one in zip(starts, shares, halvings, strict=True)
    )


def rungs(min_steps: int, max_steps: int, reduction: int) -> tuple[int, ...]:
    """Steps of each rung: r·η^k while below R, then R itself.

    Where R/r is a power of η this is ASHA's list; else the paper would end below R.
    """
    found = []
    steps = min_steps
    while steps < max_steps:
        found.append(steps)
        steps *= reduction
    return (*found, max_steps)


def depth(min_steps: int, max_steps: int, reduction: int) -> int:
    """s_max of Hyperband: the greatest s with R·η^-s not below ``min_steps``.

    Without logarithms, which say 4.999… for log₃ 243.
    """
    found = 0
    while min_steps * reduction ** (found + 1) <= max_steps:
        found += 1
    return found


def hyperband_trials(deepest: int, halvings: int, reduction: int) -> int:
    """N of bracket s: ⌈(s_max + 1)·η^s / (s + 1)⌉ (Hyperband, algorithm 1, line 4, with B = (s_max
    + 1)·R).
    """
    grown = math.prod([reduction] * halvings)
    return math.ceil((deepest + 1) * grown / (halvings + 1))


def bracket_rungs(halvings: int, max_steps: int, reduction: int) -> tuple[int, ...]:
    """r_i = R·η^(i - s) for i = 0 … s, in whole steps (Determined's ``makeRungs``)."""
    return tuple(max(1, max_steps // reduction ** (halvings - i)) for i in range(halvings + 1))


def shared_out(trials: int, reduction: int, counts: Sequence[int]) -> list[int]:
    """Trials of brackets that have so many rungs, so that they cost about the same.

    In the proportion η^(rungs - 1) / rungs, at least one each, the rest to the first
    (Determined's ``getBracketMaxTrials``, but the total stays what was asked for).

    Raises:
        Invalid: ``search.invalid`` where there are fewer trials than brackets.
    """
    if trials < len(counts):
        raise Invalid(
            "search.invalid",
            f"{trials} trials are too few for {len(counts)} brackets.",
            hint="Ask for fewer brackets, or for more trials (0: as many as Hyperband wants).",
        )
    weights = [reduction ** (one - 1) / one for one in counts]
    shares = [max(int(weight / sum(weights) * trials), 1) for weight in weights]
    while sum(shares) > trials:
        shares[shares.index(max(shares))] -= 1
    shares[0] += trials - sum(shares)
    return shares
