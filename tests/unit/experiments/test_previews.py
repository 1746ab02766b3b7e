"""What a search will cost, before it starts; and what mattered, after it."""

from __future__ import annotations

from typing import Any

import pytest

from clew.base.errors import Invalid, NotFound
from clew.base.records import BracketPlan
from clew.experiments import asha, choice, grid, randint, single, uniform
from clew.experiments import random as independent
from clew.experiments.definitions import hyperband
from clew.experiments.preview import preview_of

SPACE = {"x": uniform(0, 1)}


@pytest.mark.parametrize(
    ("definition", "brackets", "expected", "most"),
    [
        (
            asha(metric="loss", trials=27, max_steps=27),
            [(27, (1, 3, 9, 27))],
            27 + 18 + 18 + 18,
            729,
        ),
        (hyperband(metric="loss", max_steps=3), [(3, (1, 3)), (2, (3,))], 3 + 2 + 6, 15),
        (independent(metric="loss", trials=4, max_steps=5), [(4, (5,))], 20, 20),
        (single(max_steps=7), [(1, (7,))], 7, 7),
    ],
)
def test_a_preview_counts_trials_rungs_and_steps(
    definition: Any, brackets: list[Any], expected: int, most: int
) -> None:
    found = preview_of("model", definition, SPACE)
    assert found.brackets == tuple(BracketPlan(trials=n, rungs=r) for n, r in brackets)
    assert (found.expected_steps, found.most_steps) == (expected, most)
    assert found.trials == sum(n for n, _ in brackets)
    assert found.points is None
    assert found.cost_s is None


def test_a_preview_counts_the_points_of_a_space_that_ends() -> None:
    space = {"a": choice(1, 2, 3), "b": randint(1, 4)}
    whole = preview_of("model", grid(metric="loss", max_steps=2), space)
    assert (whole.trials, whole.points, whole.expected_steps) == (12, 12, 24)
    ruled = preview_of("model", grid(metric="loss", constraints=["a < b"], max_steps=1), space)
    assert (ruled.trials, ruled.points) == (6, 6)
    with pytest.raises(Invalid) as refused:
        preview_of("model", grid(metric="loss", constraints=["a > b + 9"]), space)
    assert refused.value.code == "space.infeasible"


def test_the_last_search_says_what_a_step_takes(house: Any, inline: Any) -> None:
    house.write(
        "def model(trial):\n    for n in trial.steps():\n        trial.report(n, loss=1.0)\n"
    )
    door = house.experiments(inline)
    definition = independent(metric="loss", trials=3, max_steps=4, patience=9)
    before = door.preview("shop", "model", definition, SPACE)
    assert before.cost_s is None
    assert before.limits == {"patience": 9}
    result = house.search(inline, definition, SPACE)
    trials = door.get(result.experiment).trials
    after = door.preview("shop", "model", definition, SPACE)
    assert after.cost_s == pytest.approx(sum(trial.busy_s for trial in trials))


def test_importances_are_asked_by_the_experiment(house: Any, inline: Any) -> None:
    house.write(
        "def model(trial):\n    p = trial.params\n"
        "    trial.report(1, loss=p.x + 0.01 * p.y)\n"
    )  # fmt: skip
    space = {"x": uniform(0, 1), "y": uniform(0, 1), "z": choice("only")}
    result = house.search(inline, independent(metric="loss", trials=24, max_steps=1), space)
    door = house.experiments(inline)
    found = door.importances(result.experiment[:8])
    assert [one.parameter for one in found] == ["x", "y", "z"]
    assert found[0].share > 0.9
    assert found[2].share == 0
    assert door.importances(result.experiment) == found
    with pytest.raises(NotFound):
        door.importances("zzzzzzzz")
