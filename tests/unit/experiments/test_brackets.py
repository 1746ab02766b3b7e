"""The arithmetic of brackets and of the stopping rule, against its sources.

HYPERBAND: Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization",
JMLR 18 (2018), https://arxiv.org/abs/1603.06560, algorithm 1 and table 1. DETERMINED:
determined-ai/determined, master/pkg/searcher: adaptive_asha.go, adaptive_asha_test.go,
asha_stopping.go, asha_stopping_test.go.
"""

from __future__ import annotations

import math

import pytest

from clew.base.errors import Invalid
from clew.experiments import asha
from clew.experiments.brackets import (
    Bracket,
    bracket_rungs,
    brackets_of,
    depth,
    hyperband_trials,
    shared_out,
)
from clew.experiments.definitions import hyperband
from clew.experiments.searchers import (
    FINISHED,
    Action,
    Progress,
    Rules,
    best,
    expected_steps,
    goes_on,
    most_steps,
    next_action,
    rules_of,
)

TABLE_1 = [
    (81, (1, 3, 9, 27, 81)),
    (34, (3, 9, 27, 81)),
    (15, (9, 27, 81)),
    (8, (27, 81)),
    (5, (81,)),
]
"""R = 81, η = 3. Algorithm 1, line 4, n = ⌈(B/R)·η^s/(s + 1)⌉ with B = 5R, gives 81, 34, 15, 8, 5.
The paper's table 1 prints 81, 27, 9, 6, 5, which is ⌊(B/R)/(s + 1)⌋·η^s; we keep to the algorithm.
"""


def at(number: int, *losses: float, state: str = "paused") -> Progress:
    return Progress(number=number, losses=losses, state=state)


@pytest.mark.parametrize(
    ("halvings", "trials", "rungs"),
    [(4 - index, n, r) for index, (n, r) in enumerate(TABLE_1)],
)
def test_brackets_are_those_of_hyperband_for_81_steps(
    halvings: int, trials: int, rungs: tuple[int, ...]
) -> None:
    assert hyperband_trials(4, halvings, 3) == trials, "HYPERBAND algorithm 1, line 4"
    assert bracket_rungs(halvings, 81, 3) == rungs, "HYPERBAND table 1, column r_i"


@pytest.mark.parametrize(
    ("least", "most", "reduction", "expected", "source"),
    [
        (1, 81, 3, 4, "HYPERBAND table 1: s_max = 4"),
        (1, 243, 3, 5, "HYPERBAND: log 243 / log 3 is 4.999… in floats; s_max is 5"),
        (1, 256, 4, 4, "HYPERBAND section 4: R = 256 with eta = 4 has 5 brackets"),
        (1, 80, 3, 3, "HYPERBAND algorithm 1, line 1: rounded down"),
        (9, 81, 3, 2, "ours: no bracket begins below min_steps"),
        (81, 81, 3, 0, "no halving"),
    ],
)
def test_the_deepest_bracket_is_the_published_one(
    least: int, most: int, reduction: int, expected: int, source: str
) -> None:
    assert depth(least, most, reduction) == expected, source


@pytest.mark.parametrize(
    ("halvings", "most", "reduction", "expected", "source"),
    [
        (2, 9, 3, (1, 3, 9), "DETERMINED TestMakeRungs 1"),
        (3, 10, 2, (1, 2, 5, 10), "DETERMINED TestMakeRungs 2"),
        (0, 9, 3, (9,), "DETERMINED TestMakeRungs 3"),
        (2, 900, 3, (100, 300, 900), "DETERMINED TestMakeRungs 4"),
    ],
)
def test_rungs_of_a_bracket_are_the_published_ones(
    halvings: int, most: int, reduction: int, expected: tuple[int, ...], source: str
) -> None:
    assert bracket_rungs(halvings, most, reduction) == expected, source


@pytest.mark.parametrize(
    ("trials", "reduction", "rungs", "expected", "source"),
    [
        (5, 3, (2, 1), [3, 2], "DETERMINED TestAdaptiveASHASearchMethod: 3 of 2 rungs, 2 of 1"),
        (
            128,
            4,
            (3, 2),
            [94, 34],
            "DETERMINED weights 16/3 and 4/2: 93 and 34, the rest to the first",
        ),
        (100, 3, (5, 4, 3), [63, 26, 11], "DETERMINED weights 81/5, 27/4, 9/3: 62, 26, 11"),
        (3, 3, (3, 2, 1), [1, 1, 1], "at least one each"),
        (4, 3, (5, 4, 3, 2), [1, 1, 1, 1], "ours: never more than were asked for"),
    ],
)
def test_trials_are_shared_out_as_published(
    trials: int, reduction: int, rungs: tuple[int, ...], expected: list[int], source: str
) -> None:
    assert shared_out(trials, reduction, rungs) == expected, source


def test_hyperband_runs_its_brackets_from_most_halving_to_none() -> None:
    found = brackets_of(hyperband(metric="loss", max_steps=81), 0)
    assert [(one.trials, one.rungs) for one in found] == TABLE_1
    assert [one.first for one in found] == [0, 81, 115, 130, 138]
    rules = rules_of(hyperband(metric="loss", max_steps=81), 0)
    assert rules.trials == 143
    assert [rules.bracket_number(n) for n in (0, 80, 81, 137, 138, 142)] == [0, 0, 1, 3, 4, 4]
    two = brackets_of(hyperband(metric="loss", max_steps=81, brackets=2, trials=10), 10)
    assert [one.trials for one in two] == [8, 2]
    assert brackets_of(asha(metric="loss", trials=4, max_steps=9), 4) == (
        Bracket(first=0, trials=4, rungs=(1, 3, 9)),
    )


def test_fewer_trials_than_brackets_are_refused() -> None:
    with pytest.raises(Invalid) as refused:
        rules_of(hyperband(metric="loss", max_steps=81, trials=3), 3)
    assert refused.value.code == "search.invalid"


@pytest.mark.parametrize(
    ("trials", "expected", "source"),
    [
        ([at(0, 0.3), at(1, 0.2), at(2, 0.1)], Action(kind="promote", number=2, rung=1), "1 of 3"),
        (
            [at(0, 0.3, 0.3), at(1, 0.2, 0.2), at(2, 0.1, 0.1)] + [at(n, 0.5) for n in range(3, 9)],
            Action(kind="promote", number=2, rung=2),
            "ASHA algorithm 2 within a bracket",
        ),
        (
            [at(n, 0.9, 0.9, state="done") for n in range(9)] + [at(9, 0.1), at(10, 0.2)],
            Action(kind="start", number=11),
            "HYPERBAND line 9: ranked within their own bracket, where 1/3 of 2 is nobody",
        ),
    ],
)
def test_trials_are_promoted_within_their_bracket(
    trials: list[Progress], expected: Action, source: str
) -> None:
    brackets = (
        Bracket(first=0, trials=9, rungs=(1, 3, 9)),
        Bracket(first=9, trials=5, rungs=(3, 9)),
    )
    rules = Rules(brackets=brackets, reduction=3, trials=14, complete_best=False)
    assert next_action(rules, trials) == expected, source


def test_the_best_of_brackets_is_of_those_with_most_steps() -> None:
    brackets = (
        Bracket(first=0, trials=1, rungs=(1, 3, 9)),
        Bracket(first=1, trials=1, rungs=(9,)),
    )
    rules = Rules(brackets=brackets, reduction=3, trials=2, complete_best=True)
    assert best([at(0, 0.1, 0.1), at(1, 0.5, state="done")], rules) == at(1, 0.5, state="done")
    assert next_action(rules, [at(0, 0.1), at(1, 0.5, state="done")]) == FINISHED


@pytest.mark.parametrize(
    ("losses", "expected", "source"),
    [
        ([0.5], True, "DETERMINED TestStopTrials 'first validation'"),
        ([0.5, 0.4], True, "DETERMINED TestStopTrials 'second validation better than first'"),
        ([0.5, 0.6], False, "DETERMINED TestStopTrials 'second validation worse than first'"),
        ([0.5, 0.4, 0.45], False, "1 of 3, and it is second"),
        ([0.5, 0.4, 0.45, 0.6, 0.7, 0.42], True, "2 of 6, and it is second"),
        ([0.5, 0.4, 0.45, 0.6, 0.7, 0.46], False, "2 of 6, and it is third"),
        ([0.5, 0.5], True, "DETERMINED insertMetric: before its equals"),
        ([math.inf], False, "ours: what is not finite never goes on"),
    ],
)
def test_the_stopping_rule_is_the_published_one(
    losses: list[float], expected: bool, source: str
) -> None:
    rules = rules_of(asha(metric="loss", trials=10, max_steps=9, promote=False), 10)
    seen = [at(number, loss) for number, loss in enumerate(losses)]
    assert goes_on(rules, seen, len(losses) - 1) is expected, source


def test_with_ever_worse_trials_the_stopping_rule_lets_the_first_alone_go_on() -> None:
    """DETERMINED TestASHAStopping: 10 trials, each worse than the last; 9 are stopped."""
    rules = rules_of(
        asha(metric="loss", trials=10, max_steps=900, min_steps=100, promote=False), 10
    )
    seen = [at(0, 1.0)]
    assert goes_on(rules, seen, 0)
    for number in range(1, 10):
        seen.append(at(number, 1.0 + number))
        assert not goes_on(rules, seen, number)
    assert next_action(rules, [at(0, 1.0, 1.0, 1.0, state="done"), *seen[1:]]) == FINISHED


def test_what_a_search_of_brackets_costs_is_the_sum_of_them() -> None:
    rules = rules_of(hyperband(metric="loss", max_steps=9), 0)
    brackets = [(one.trials, one.rungs) for one in rules.brackets]
    assert brackets == [(9, (1, 3, 9)), (5, (3, 9)), (3, (9,))]
    assert expected_steps(rules) == (9 + 3 * 2 + 1 * 6) + (5 * 3 + 1 * 6) + 3 * 9
    assert most_steps(rules) == (9 + 5 + 3) * 9
