"""Spaces whose parameters depend on each other, and rules over them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clew.base.errors import Invalid
from clew.experiments import Distribution, asha, choice, grid, loguniform, randint, uniform
from clew.experiments.conditions import flat, is_feasible, nested
from clew.experiments.definitions import tpe
from clew.experiments.samplers import Sampler, feasible_points, suggest
from clew.experiments.spaces import draw, grid_points, grid_size
from clew.experiments.trial import Params

NESTED = {
    "model": choice("svm", "forest"),
    "svm": nested(
        {"C": loguniform(1e-3, 10), "kernel": choice("rbf", "poly"),
         "degree": randint(2, 4).when(kernel="poly")},
        model="svm",
    ),
    "forest": nested({"trees": randint(10, 30, step=10)}, model="forest"),
}  # fmt: skip


def exists(params: dict[str, object]) -> set[str]:
    return set(params)


def test_parameters_exist_only_where_their_conditions_hold() -> None:
    space = flat(NESTED)
    seen = {tuple(sorted(draw(space, 1, number))) for number in range(60)}
    assert seen == {
        ("forest.trees", "model"),
        ("model", "svm.C", "svm.kernel"),
        ("model", "svm.C", "svm.degree", "svm.kernel"),
    }
    for number in range(60):
        params = draw(space, 1, number)
        assert ("svm.degree" in params) == (params.get("svm.kernel") == "poly")


def test_a_conditional_space_survives_json() -> None:
    space = flat(NESTED)
    text = msgspec.json.encode(space)
    assert msgspec.json.decode(text, type=dict[str, Distribution]) == space


def test_a_grid_of_a_conditional_space_has_each_combination_once() -> None:
    space = flat({
        "model": choice("svm", "forest"),
        "kernel": choice("rbf", "poly").when(model="svm"),
        "degree": randint(2, 3).when(kernel="poly"),
    })  # fmt: skip
    assert list(grid_points(space)) == [
        {"model": "svm", "kernel": "rbf"},
        {"model": "svm", "kernel": "poly", "degree": 2},
        {"model": "svm", "kernel": "poly", "degree": 3},
        {"model": "forest"},
    ]
    assert grid_size(space) == 4


def test_nested_parameters_are_read_by_their_names() -> None:
    params = Params({"model": "svm", "svm.C": 2.0, "svm.more.deep": 3})
    assert params.svm.C == params["svm"]["C"] == params["svm.C"] == 2.0
    assert params.svm.more.deep == 3
    with pytest.raises(AttributeError, match="forest"):
        _ = params.forest


@pytest.mark.parametrize(
    "space",
    [
        {"a": uniform(0, 1).when(b=1)},
        {"a": choice(1, 2).when(b=1), "b": choice(1, 2).when(a=1)},
        {"a": 3},
        {"": uniform(0, 1)},
        {"a": {"b.c": uniform(0, 1)}},
    ],
)
def test_a_space_that_cannot_be_is_refused(space: Any) -> None:
    with pytest.raises(Invalid) as refused:
        asha(metric="loss", trials=2).over(space)
    assert refused.value.code == "space.invalid"


@pytest.mark.parametrize(
    ("rule", "params", "holds"),
    [
        ("a * b <= 512", {"a": 8, "b": 64}, True),
        ("a * b <= 512", {"a": 9, "b": 64}, False),
        ("1 < a < b", {"a": 2, "b": 3}, True),
        ("kind != 'x' or a > 2", {"kind": "x", "a": 2}, False),
        ("kind in ('x', 'y') and not a == 1", {"kind": "y", "a": 2}, True),
        ("log2(a) % 1 == 0", {"a": 8}, True),
        ("1 / a < 3", {"a": 0}, False),
        ("a ** b < 10", {"a": 10, "b": 10_000}, False),
        ("svm.C > 1", {"svm.C": 2}, True),
        ("svm.C > 1", {"model": "forest"}, True),
        ("max(a, b) - abs(-a) >= 0", {"a": 1, "b": 2}, True),
    ],
)
def test_a_rule_holds_or_not(rule: str, params: dict[str, object], holds: bool) -> None:
    assert is_feasible([rule], params) is holds


@pytest.mark.parametrize(
    "rule",
    [
        "a +", "depht < 1", "a.b < 1", "__import__('os')", "a.__class__", "[x for x in a]",
        "open('x')", "a['b'] < 1", "metrics[0] < 1", "lambda: 1",
        "a if b else 1", "max(a, key=b)", "",
    ],
)  # fmt: skip
def test_a_rule_that_says_more_than_rules_may_is_refused(rule: str) -> None:
    space = {"a": uniform(0, 1), "b": uniform(0, 1), "depth": uniform(0, 1)}
    with pytest.raises(Invalid) as refused:
        asha(metric="loss", trials=2, constraints=[rule]).over(space)
    assert refused.value.code == "constraint.invalid"


def test_a_rule_that_compares_what_cannot_be_compared_says_so() -> None:
    with pytest.raises(Invalid) as refused:
        is_feasible(["a < 'x'"], {"a": 1})
    assert refused.value.code == "constraint.invalid"


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_every_proposal_keeps_the_constraints(sampler: str) -> None:
    space = {"a": randint(1, 10), "b": randint(1, 10)}
    rules = ["a + b <= 6", "a != b"]
    definition = asha(metric="loss", trials=20, sampler=sampler, constraints=rules)
    found = [suggest(definition, space, number, []) for number in range(20)]
    assert all(is_feasible(rules, params) for params in found)
    assert len({tuple(one.values()) for one in found}) > 5


def test_a_grid_keeps_the_constraints_and_one_that_no_point_keeps_is_refused() -> None:
    space = {"a": randint(1, 3), "b": randint(1, 3)}
    assert list(feasible_points(space, ["a < b"])) == [
        {"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 2, "b": 3},
    ]  # fmt: skip
    assert suggest(grid(metric="loss", constraints="a < b"), space, 2, []) == {"a": 2, "b": 3}


def test_constraints_that_no_draw_keeps_are_told() -> None:
    definition = tpe(metric="loss", trials=3, constraints=["a > 2"])
    with pytest.raises(Invalid) as refused:
        Sampler(definition, {"a": uniform(0, 1)}).suggest(0, [])
    assert refused.value.code == "space.infeasible"
