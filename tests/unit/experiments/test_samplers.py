"""Samplers: what they learn, and that what they keep in memory changes nothing."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from clew.base.errors import Invalid, Unavailable
from clew.experiments import SearchDefinition, asha, choice, loguniform, randint, uniform
from clew.experiments.definitions import cmaes, gp, nsga2, qmc, tpe
from clew.experiments.pareto import front
from clew.experiments.samplers import Sampler
from clew.experiments.studies import Told, importances, population

SPACE = {
    "x": uniform(-5, 5),
    "y": loguniform(1e-3, 10),
    "kind": choice("a", "b"),
    "depth": randint(2, 5).when(kind="b"),
}
NEEDS = {"cmaes": "cmaes", "gp": "torch"}
SEARCHES = [
    tpe(metric="loss", trials=40, seed=3),
    qmc(metric="loss", trials=40, seed=3),
    cmaes(metric="loss", trials=40, seed=3, population=5),
    gp(metric="loss", trials=40, seed=3),
    nsga2(objectives={"loss": "min", "size": "max"}, trials=40, seed=3),
]


def loss(params: Any) -> float:
    return (params["x"] - 1) ** 2 + 0.1 * params["y"] + 0.1 * params.get("depth", 0)


def told(params: Any, noted: Any, state: str, objectives: int) -> Told:
    others = (params["y"],) if objectives > 1 else ()
    return Told(params=params, state=state, step=3, loss=loss(params), others=others, noted=noted)


def skip_without(definition: SearchDefinition) -> None:
    needed = NEEDS.get(definition.sampler)
    if needed and find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")


@pytest.mark.parametrize("definition", SEARCHES, ids=lambda one: one.sampler)
def test_a_sampler_made_anew_after_a_crash_says_what_the_old_one_says(
    definition: SearchDefinition,
) -> None:
    skip_without(definition)
    trials = 14 if definition.sampler == "gp" else 30
    sampler, before = Sampler(definition, SPACE), []
    for number in range(trials):
        found = sampler.suggest(number, before)
        if number % 6 == 5:
            fresh = [Told(**{name: getattr(one, name) for name in one.__struct_fields__})
                     for one in before]  # fmt: skip
            assert Sampler(definition, SPACE).suggest(number, fresh) == found
        state = "failed" if number == 4 else "done"
        before.append(told(found.params, found.noted, state, len(definition.objectives)))
        if number % 5 == 0 and definition.sampler == "tpe" and number:
            before[-1] = told(found.params, found.noted, "paused", 0)


@pytest.mark.parametrize("definition", SEARCHES, ids=lambda one: one.sampler)
def test_a_sampler_that_learns_gets_better(definition: SearchDefinition) -> None:
    if definition.sampler == "qmc":
        return
    skip_without(definition)
    sampler, before = Sampler(definition, SPACE), []
    for number in range(24 if definition.sampler == "gp" else 40):
        found = sampler.suggest(number, before)
        before.append(told(found.params, found.noted, "done", len(definition.objectives)))
    losses = [loss(one.params) for one in before]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_a_sequence_covers_the_space_more_evenly_than_chance_and_depends_on_the_seed() -> None:
    space = {"x": uniform(0, 1), "y": uniform(0, 1)}

    def points(seed: int) -> list[tuple[Any, Any]]:
        sampler = Sampler(qmc(metric="loss", trials=16, seed=seed), space)
        found = [sampler.suggest(number, []).params for number in range(16)]
        return [(one["x"], one["y"]) for one in found]

    one = points(1)
    assert len({(int(x * 4), int(y * 4)) for x, y in one}) == 16  # one in each field of 4 × 4
    assert one == points(1) != points(2)


@pytest.mark.parametrize(("sampler", "make"), [("cmaes", cmaes), ("gp", gp)])
def test_a_sampler_whose_package_is_missing_names_the_extra(sampler: str, make: Any) -> None:
    if find_spec(NEEDS[sampler]) is not None:
        pytest.skip(f"{NEEDS[sampler]} is installed")
    with pytest.raises(Unavailable) as missing:
        Sampler(make(metric="loss", trials=3), SPACE).suggest(0, [])
    assert missing.value.code == "sampler.missing"
    assert f"clew[{sampler}]" in missing.value.hint


@pytest.mark.parametrize(
    "write",
    [
        lambda: asha(metric="loss", trials=9, sampler="gp"),
        lambda: asha(metric="loss", trials=9, sampler="cmaes"),
        lambda: nsga2(objectives={"loss": "min"}, trials=9),
        lambda: nsga2(objectives={"loss": "min", "size": "big"}, trials=9),
        lambda: qmc(metric="loss", trials=9, warm_start="told"),
        lambda: tpe(metric="loss", trials=9, warm_start="hot"),
        lambda: tpe(metric="loss", trials=9, patience=-1),
    ],
)
def test_what_no_sampler_can_do_is_refused_when_written(write: Any) -> None:
    with pytest.raises(Invalid) as refused:
        write()
    assert refused.value.code == "search.invalid"


def test_a_population_leaves_room_for_generations() -> None:
    two = {"a": "min", "b": "min"}
    assert population(nsga2(objectives=two, trials=60)) == 12
    assert population(nsga2(objectives=two, trials=10)) == 4
    assert population(nsga2(objectives=two, trials=1000)) == 50
    assert population(nsga2(objectives=two, trials=1000, population=80)) == 80


def test_tpe_starts_from_what_it_is_told_of_an_earlier_search() -> None:
    space = {"x": uniform(0, 1)}
    definition = tpe(metric="loss", trials=10, warm_start="told")
    prior = [
        Told(params={"x": n / 40}, state="done", step=27, loss=abs(n / 40 - 0.7)) for n in range(40)
    ]
    warm = [Sampler(definition, space, prior=prior).suggest(n, []).params["x"] for n in range(10)]
    cold = [Sampler(definition, space).suggest(n, []).params["x"] for n in range(10)]
    assert sum(abs(x - 0.7) for x in warm) < sum(abs(x - 0.7) for x in cold) / 2


def test_the_front_holds_what_none_beats() -> None:
    assert front([(1, 4), (2, 2), (4, 1), (3, 3), (2, 2), (1, 5)]) == [0, 1, 2, 4]
    assert front([]) == []


def test_importances_say_which_parameter_matters() -> None:
    space = {name: one for name, one in SPACE.items() if name != "depth"}
    sampler = Sampler(asha(metric="loss", trials=50, sampler="random"), space)
    done = [told(sampler.suggest(n, []).params, {}, "done", 1) for n in range(50)]
    found = importances(space, done)
    assert next(iter(found)) == "x"
    assert found["x"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert importances(space, done[:2]) == {}
