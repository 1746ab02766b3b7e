"""The arithmetic of successive halving, against its sources.

PAPER: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020,
https://arxiv.org/abs/1810.05934. DETERMINED: determined-ai/determined,
master/pkg/searcher/asha.go and asha_test.go (version 0.13).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.experiments.brackets import Bracket, rungs
from clew.experiments.definitions import asha, random, single
from clew.experiments.searchers import (
    FINISHED,
    WAIT,
    Action,
    Progress,
    Rules,
    best,
    expected_steps,
    next_action,
    rules_of,
)

INF = math.inf


def at(number: int, *losses: float, state: str = "paused") -> Progress:
    return Progress(number=number, losses=losses, state=state)


def rules(*steps: int, reduction: int = 3, trials: int = 100, complete_best: bool = False) -> Rules:
    bracket = Bracket(first=0, trials=trials, rungs=steps)
    return Rules(
        brackets=(bracket,), reduction=reduction, trials=trials, complete_best=complete_best
    )


@pytest.mark.parametrize(
    ("least", "most", "reduction", "expected", "source"),
    [
        (1, 9, 3, (1, 3, 9), "PAPER figure 1, bracket s=0: r_i = 1, 3, 9"),
        (3, 9, 3, (3, 9), "PAPER figure 1, bracket s=1: r_i = 3, 9"),
        (9, 9, 3, (9,), "PAPER figure 1, bracket s=2: r_i = 9"),
        (1, 256, 4, (1, 4, 16, 64, 256), "PAPER section 4 (settings of SHA): r = R/256, eta = 4"),
        (1, 27, 3, (1, 3, 9, 27), "PAPER algorithm 2: r·eta^k up to R"),
        (10, 90, 3, (10, 30, 90), "DETERMINED TestASHASearchMethod: 90 in 3 rungs by 3"),
        (1, 20, 3, (1, 3, 9, 20), "ours: R is always the last rung"),
        (2, 5, 4, (2, 5), "ours: R is always the last rung"),
    ],
)
def test_rungs_are_the_published_ones(
    least: int, most: int, reduction: int, expected: tuple[int, ...], source: str
) -> None:
    assert rungs(least, most, reduction) == expected, source


@pytest.mark.parametrize(
    ("trials", "steps", "expected", "source"),
    [
        (9, (1, 3, 9), 9 * 1 + 3 * 2 + 1 * 6, "PAPER figure 1 s=0: 9, 3, 1 trials; ours resume"),
        (9, (3, 9), 9 * 3 + 3 * 6, "PAPER figure 1 s=1: 9, 3 trials"),
        (9, (9,), 9 * 9, "PAPER figure 1 s=2: 9 trials"),
        (16, (1, 3, 9, 27), 16 + 5 * 2 + 1 * 6, "16/3 = 5, 5/3 = 1, 1/3 = 0"),
    ],
)
def test_expected_steps_count_one_in_eta_at_each_rung(
    trials: int, steps: tuple[int, ...], expected: int, source: str
) -> None:
    assert expected_steps(rules(*steps, trials=trials)) == expected, source


def test_expected_steps_include_completing_the_best() -> None:
    assert expected_steps(rules(1, 3, 9, 27, trials=16, complete_best=True)) == 16 + 10 + 6 + 18


@pytest.mark.parametrize(
    ("trials", "expected", "source"),
    [
        ([], Action(kind="start", number=0), "PAPER algorithm 2: grow the bottom rung"),
        ([at(0, 0.5)], Action(kind="start", number=1), "top 1/3 of 1 is nobody"),
        ([at(0, 0.5), at(1, 0.4)], Action(kind="start", number=2), "top 1/3 of 2 is nobody"),
        (
            [at(0, 0.5), at(1, 0.4), at(2, 0.6)],
            Action(kind="promote", number=1, rung=1),
            "PAPER algorithm 2: top |rung|/eta = 1 of 3",
        ),
        (
            [at(0, 0.5), at(1, 0.4, state="running"), at(2, 0.6)],
            Action(kind="start", number=3),
            "a trial that is on its way is promoted already",
        ),
        (
            [at(0, 0.5), at(1, 0.4, 0.4), at(2, 0.6), at(3, 0.3)],
            Action(kind="promote", number=3, rung=1),
            "DETERMINED promotionsAsync: a newcomer in the top goes, although it grew no larger",
        ),
        (
            [at(0, 0.5), at(1, 0.4, 0.4), at(2, 0.6), at(3, 0.7), at(4, 0.8), at(5, 0.9)],
            Action(kind="promote", number=0, rung=1),
            "top 2 of 6: the first of them has gone",
        ),
        (
            [at(0, 0.1, 0.3), at(1, 0.2, 0.2), at(2, 0.3, 0.1)]
            + [at(n, 0.5) for n in range(3, 12)],
            Action(kind="promote", number=2, rung=2),
            "PAPER algorithm 2: from the highest rung down",
        ),
        (
            [at(0, 0.4), at(1, 0.4), at(2, 0.4)],
            Action(kind="promote", number=0, rung=1),
            "of equals, the one with the lower number",
        ),
        (
            [at(0, INF), at(1, INF), at(2, INF)],
            Action(kind="start", number=3),
            "the worst is never promoted",
        ),
        (
            [at(0, INF, state="failed"), at(1, 0.2), at(2, 0.6)],
            Action(kind="promote", number=1, rung=1),
            "DETERMINED trialExitedEarly: a failed trial counts as the worst of its rung",
        ),
        (
            [at(0, 0.1, INF, state="failed"), at(1, 0.2), at(2, 0.6)],
            Action(kind="start", number=3),
            "a failed trial is never promoted, and its place is not given away",
        ),
    ],
)
def test_the_next_action_is_that_of_get_job(
    trials: list[Progress], expected: Action, source: str
) -> None:
    assert next_action(rules(1, 3, 9), trials) == expected, source


def test_the_search_ends_when_all_are_started_and_nothing_is_due() -> None:
    three = rules(1, 3, 9, trials=2)
    assert next_action(three, [at(0, 0.1), at(1, state="running")]) == WAIT
    assert next_action(three, [at(0, 0.1), at(1, 0.2)]) == FINISHED


def test_the_best_is_completed_where_halving_leaves_nobody_at_the_last_rung() -> None:
    three = rules(1, 3, 9, trials=2, complete_best=True)
    assert next_action(three, [at(0, 0.1), at(1, 0.2)]) == Action(kind="promote", number=0, rung=1)
    assert next_action(three, [at(0, 0.1, 0.3), at(1, 0.2)]) == Action(
        kind="promote", number=0, rung=2
    )
    assert next_action(three, [at(0, 0.1, 0.3, 0.3, state="done"), at(1, 0.2)]) == FINISHED
    failed = at(0, 0.1, INF, state="failed")
    assert next_action(three, [failed, at(1, 0.2)]) == Action(kind="promote", number=1, rung=1)


def test_the_best_is_the_best_of_those_that_got_furthest() -> None:
    assert best([at(0, 0.1), at(1, 0.2, 0.9), at(2, 0.3, 0.8)]) == at(2, 0.3, 0.8)
    assert best([at(0, 0.5), at(1, 0.5)]) == at(0, 0.5)
    assert best([at(0, INF), at(1, 0.1, state="failed")]) is None


def test_a_search_without_halving_has_one_rung() -> None:
    one = rules_of(random(metric="loss", trials=3, max_steps=5), 3)
    assert one.rungs(0) == (5,)
    assert next_action(one, [at(n, 0.1, state="done") for n in range(3)]) == FINISHED
    assert rules_of(single(max_steps=4), 1).rungs(0) == (4,)


def run_alone(
    search: Rules, loss: Callable[[int, int], float], fails: Callable[[int, int], bool]
) -> list[Progress]:
    """All trials at the end, with one worker that takes no time."""
    trials: list[Progress] = []
    while True:
        action = next_action(search, trials)
        if action.kind == "start":
            trials.append(at(action.number))
        elif action.kind != "promote":
            return trials
        before = trials[action.number]
        failed = fails(action.number, action.rung)
        value = INF if failed else loss(action.number, action.rung)
        state = "failed" if failed else "paused"
        trials[action.number] = at(action.number, *before.losses, value, state=state)


@pytest.mark.parametrize(
    ("losses", "failing", "rungs_reached", "source"),
    [
        (
            [0.01 * n for n in range(1, 13)],
            None,
            [3, 2, 2, 2] + [1] * 8,
            "DETERMINED 'smaller is better': 90; 30 thrice; 10 for the rest",
        ),
        (
            [-0.01 * n for n in range(12, 0, -1)],
            None,
            [3, 2, 2, 2] + [1] * 8,
            "DETERMINED 'smaller is not better': the same for metrics with the sign turned",
        ),
        (
            [0.01 * n for n in range(1, 13)],
            2,
            [3, 2, 2, 2] + [1] * 8,
            "DETERMINED 'early exit': the third ends at its second rung and counts there",
        ),
    ],
)
def test_a_whole_search_promotes_as_published(
    losses: list[float], failing: int | None, rungs_reached: list[int], source: str
) -> None:
    ended = run_alone(
        rules(10, 30, 90, trials=12),
        lambda number, _rung: losses[number],
        lambda number, rung: number == failing and rung == 1,
    )
    assert [len(trial.losses) for trial in ended] == rungs_reached, source


def get_job(
    eta: int, top: int, losses: dict[int, list[float]], promoted: set[tuple[int, int]]
) -> tuple[int, int] | None:
    """PAPER algorithm 2 written down as it stands: (trial, rung) to promote, or None to grow."""
    for k in range(top - 1, -1, -1):
        rung = {trial: values[k] for trial, values in losses.items() if len(values) > k}
        candidates = sorted(rung, key=lambda trial: (rung[trial], trial))[: len(rung) // eta]
        promotable = [trial for trial in candidates if (trial, k) not in promoted]
        if promotable:
            return promotable[0], k + 1
    return None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.randoms(use_true_random=False),
    workers=st.integers(1, 5),
    eta=st.integers(2, 4),
    count=st.integers(1, 30),
)
def test_any_interleaving_of_workers_follows_algorithm_2(
    seed: object, workers: int, eta: int, count: int
) -> None:
    search = rules(*rungs(1, eta**3, eta), reduction=eta, trials=count)
    losses: dict[int, list[float]] = {}
    promoted: set[tuple[int, int]] = set()
    running: dict[int, int] = {}
    while True:
        seen = [
            at(n, *losses[n], state="running" if n in running else "paused") for n in sorted(losses)
        ]
        action = next_action(search, seen)
        job = get_job(eta, 3, losses, promoted)
        if job is not None:
            assert action == Action(kind="promote", number=job[0], rung=job[1])
        elif len(losses) < count:
            assert action == Action(kind="start", number=len(losses))
        else:
            assert action == (WAIT if running else FINISHED)
        if action.kind in {"start", "promote"} and len(running) < workers:
            losses.setdefault(action.number, [])
            running[action.number] = action.rung
            if action.rung:
                promoted.add((action.number, action.rung - 1))
        elif running:
            ended = seed.choice(sorted(running))
            del running[ended]
            losses[ended].append(seed.random())
        else:
            return


def test_the_same_results_give_the_same_search() -> None:
    search = rules_of(asha(metric="loss", trials=20), 20)
    once = run_alone(search, lambda n, r: (n * 7 % 20) / (r + 1), lambda *_: False)
    again = run_alone(search, lambda n, r: (n * 7 % 20) / (r + 1), lambda *_: False)
    assert once == again
    assert best(once) == at(0, 0.0, 0.0, 0.0, 0.0)
