from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.base.errors import Invalid
from clew.experiments import (
    Distribution,
    SearchDefinition,
    asha,
    choice,
    grid,
    loguniform,
    randint,
    random,
    single,
    uniform,
)
from clew.experiments.samplers import suggest
from clew.experiments.spaces import draw, grid_points, grid_size, trial_seed
from clew.experiments.studies import Told

SPACE = {
    "rate": loguniform(1e-4, 1.0),
    "drop": uniform(0.0, 0.5),
    "width": uniform(0.0, 1.0, step=0.25),
    "depth": randint(2, 10),
    "units": randint(1, 1000, log=True),
    "odd": randint(1, 10, step=2),
    "kind": choice("a", 1, True, None, 2.5),
}


def is_in(one: Distribution, value: Any) -> bool:
    if one.kind == "choice":
        return any(value is option or value == option for option in one.options)
    if not one.low <= value <= one.high:
        return False
    if one.kind == "randint" and not isinstance(value, int):
        return False
    return not one.step or math.isclose((value - one.low) / one.step % 1, 0, abs_tol=1e-9)


@pytest.mark.parametrize(
    "definition",
    [
        asha(metric="auc", mode="max", trials=16, max_steps=81, min_steps=3, reduction=4, seed=9),
        random(metric="loss", trials=5),
        grid(metric="loss"),
        single(),
    ],
)
def test_definitions_and_spaces_survive_json(definition: SearchDefinition) -> None:
    text = msgspec.json.encode((definition, SPACE))
    found = msgspec.json.decode(text, type=tuple[SearchDefinition, dict[str, Distribution]])
    assert found == (definition, SPACE)


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (lambda: asha(metric="", trials=1), "search.invalid"),
        (lambda: asha(metric="a", trials=0), "search.invalid"),
        (lambda: asha(metric="a", trials=1, mode="best"), "search.invalid"),
        (lambda: asha(metric="a", trials=1, reduction=1), "search.invalid"),
        (lambda: asha(metric="a", trials=1, min_steps=3, max_steps=2), "search.invalid"),
        (lambda: asha(metric="a", trials=1, sampler="gp"), "search.invalid"),
        (lambda: uniform(1, 0), "space.invalid"),
        (lambda: uniform(0, math.inf), "space.invalid"),
        (lambda: loguniform(0, 1), "space.invalid"),
        (lambda: randint(1.5, 3), "space.invalid"),
        (lambda: choice(), "space.invalid"),
        (lambda: choice([object()]), "space.invalid"),
        (lambda: grid_size({"x": uniform(0, 1)}), "grid.continuous"),
    ],
)
def test_what_cannot_be_searched_is_refused_when_written(write: Any, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        write()
    assert refused.value.code == code
    assert refused.value.hint


@given(seed=st.integers(0, 2**40), number=st.integers(0, 10_000))
def test_random_parameters_lie_in_their_space(seed: int, number: int) -> None:
    params = draw(SPACE, seed, number)
    assert all(is_in(SPACE[name], value) for name, value in params.items())


def test_random_parameters_depend_on_seed_number_and_name_alone() -> None:
    whole = draw(SPACE, 1, 7)
    assert draw({"depth": SPACE["depth"]}, 1, 7)["depth"] == whole["depth"]
    assert draw(SPACE, 1, 8) != whole
    assert draw(SPACE, 2, 7) != whole
    # Written down once; another machine or version must draw the same.
    assert trial_seed(0, 0) == 1899791649
    assert draw({"x": uniform(0, 1)}, 0, 0) == {"x": 0.8829064567614744}


def test_a_grid_has_every_combination_once_and_turns_the_last_fastest() -> None:
    space = {"a": choice("x", "y"), "b": randint(1, 3), "c": uniform(0, 1, step=0.5)}
    points = list(grid_points(space))
    assert len(points) == grid_size(space) == 18
    assert points[:3] == [{"a": "x", "b": 1, "c": c} for c in (0.0, 0.5, 1.0)]
    assert len({tuple(point.values()) for point in points}) == 18
    assert grid_size({}) == 1
    assert list(grid_points({})) == [{}]


def told(number: int, state: str, loss: float | None) -> Told:
    return Told(params=draw(SPACE, 3, number), state=state, step=1, loss=loss)


def test_tpe_depends_on_the_trials_before_and_the_seed_alone() -> None:
    definition = asha(metric="loss", trials=40, seed=5)
    states = ["paused", "done", "failed", "running"]
    before = [
        told(n, states[n % 4], {0: 0.1 * n, 1: math.inf if n == 1 else 0.2 * n}.get(n % 4))
        for n in range(30)
    ]
    first = suggest(definition, SPACE, 30, before)
    assert first == suggest(definition, SPACE, 30, before)
    assert first != suggest(definition, SPACE, 31, before)
    assert all(is_in(SPACE[name], value) for name, value in first.items())


def test_tpe_learns_from_paused_trials() -> None:
    space = {"x": uniform(0, 1)}
    definition = asha(metric="loss", trials=100)
    before = [
        Told(params={"x": n / 40}, state="paused", step=1, loss=abs(n / 40 - 0.7))
        for n in range(40)
    ]
    found = [suggest(definition, space, n, before)["x"] for n in range(40, 60)]
    assert sum(abs(float(str(x)) - 0.7) for x in found) / 20 < 0.15


def test_equal_options_of_different_types_are_kept_apart() -> None:
    space = {"x": choice(1, True, 1.0)}
    definition = asha(metric="loss", trials=100)
    before = [
        Told(params={"x": option}, state="done", step=1, loss=0.0 if option is True else 1.0)
        for option in [1, True, 1.0] * 8
    ]
    found = [suggest(definition, space, n, before)["x"] for n in range(24, 30)]
    assert any(value is True for value in found)


def test_the_door_and_the_random_sampler_do_not_import_optuna_or_data_libraries() -> None:
    program = """
import sys
import clew.experiments as door
from clew.experiments.samplers import suggest
suggest(door.asha(metric="m", trials=1, sampler="random"), {"x": door.uniform(0, 1)}, 0, [])
heavy = {"optuna", "pandas", "polars", "pyarrow", "sklearn", "mlflow", "numpy", "duckdb"}
print(sorted(heavy & set(sys.modules)))
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
