"""Whole searches of the newer kinds, and searches that end before their last trial."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from clew.base.errors import Invalid
from clew.experiments import asha, choice, randint, random, uniform
from clew.experiments.definitions import grid, hyperband, nsga2, qmc, tpe
from clew.experiments.limits import is_flat, spent

TRAINING = """
    def model(trial):
        done = trial.restore() or []
        for step in trial.steps():
            done.append(step)
            trial.report(step, loss=abs(trial.params.x - 0.3) + 1 / step, size=trial.params.x)
        return done
"""
SPACE = {"x": uniform(0, 1)}


def trials_of(house: Any, compute: Any, result: Any) -> Any:
    return house.experiments(compute).get(result.experiment).trials


def test_hyperband_gives_each_bracket_its_trials_and_rungs(house: Any, inline: Any) -> None:
    house.write(TRAINING)
    result = house.search(inline, hyperband(metric="loss", max_steps=9, sampler="random"), SPACE)
    trials = trials_of(house, inline, result)
    assert [sum(t.bracket == b for t in trials) for b in (0, 1, 2)] == [9, 5, 3]
    firsts = {b: min(t.step for t in trials if t.bracket == b) for b in (0, 1, 2)}
    assert firsts == {0: 1, 1: 3, 2: 9}
    assert sorted(t.step for t in trials if t.bracket == 1)[-1] == 9
    whole = [t for t in trials if t.step == 9]
    assert result.trial == min(whole, key=lambda trial: trial.value)


def test_the_stopping_rule_never_runs_a_trial_twice(house: Any, inline: Any) -> None:
    house.write(TRAINING.replace("done.append(step)", "done.append(step); print('at', step)"))
    definition = asha(metric="loss", trials=12, max_steps=9, sampler="random", promote=False)
    result = house.search(inline, definition, SPACE)
    experiments = house.experiments(inline)
    trials = trials_of(house, inline, result)
    best: list[float] = []
    for trial in trials:
        lines = [one for one in experiments.log(trial.id).splitlines() if one.startswith("at")]
        assert lines == [f"at {step}" for step in range(1, trial.step + 1)]
        best.append(abs(trial.params["x"] - 0.3))
        goes_on = sorted(best).index(best[-1]) < max(len(best) // 3, 1)
        assert (trial.step > 1) == goes_on
    assert trials[0].step == 9
    assert len(trials) == 12


@pytest.mark.parametrize("kind", [tpe, qmc])
def test_a_sampled_search_trains_every_trial_to_its_end(house: Any, inline: Any, kind: Any) -> None:
    house.write(TRAINING)
    result = house.search(inline, kind(metric="loss", trials=4, max_steps=2, seed=2), SPACE)
    assert [trial.step for trial in trials_of(house, inline, result)] == [2] * 4


def test_several_objectives_keep_the_front_and_the_first_decides(house: Any, inline: Any) -> None:
    house.write(TRAINING)
    objectives = {"loss": "min", "size": "max"}
    definition = nsga2(objectives=objectives, trials=12, max_steps=1, seed=1)
    result = house.search(inline, definition, SPACE)
    detail = house.experiments(inline).get(result.experiment)
    values = {t.id: (abs(t.params["x"] - 0.3), -t.params["x"]) for t in detail.trials}
    front = {
        one for one, mine in values.items()
        if not any(o != mine and o[0] <= mine[0] and o[1] <= mine[1] for o in values.values())
    }  # fmt: skip
    assert set(detail.experiment.front) == front
    assert len(front) > 1
    assert result.trial.id == min(front, key=lambda one: values[one][0])
    assert detail.experiment.objectives == objectives


def test_an_objective_that_is_never_reported_is_told(house: Any, inline: Any) -> None:
    house.write(TRAINING)
    definition = nsga2(objectives={"loss": "min", "latency": "min"}, trials=4, max_steps=1)
    with pytest.raises(Invalid) as refused:
        house.search(inline, definition, SPACE)
    assert refused.value.code == "trial.metric_missing"
    assert "'latency'" in refused.value.message


def test_nested_and_conditional_parameters_arrive_in_the_function(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            width = trial.params.net.width if trial.params.kind == "net" else 0
            trial.report(1, loss=-width)
            return dict(trial.params)
    """)
    space = {
        "kind": choice("net", "line"),
        "net": {"width": randint(1, 2).when(kind="net")},
    }
    result = house.search(inline, grid(metric="loss", max_steps=1), space)
    assert [trial.params for trial in trials_of(house, inline, result)] == [
        {"kind": "net", "net.width": 1}, {"kind": "net", "net.width": 2}, {"kind": "line"},
    ]  # fmt: skip
    assert result.trial.number == 1


def test_a_search_that_no_longer_gets_better_starts_no_new_trials(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            done = trial.restore() or []
            for step in trial.steps():
                trial.report(step, loss=max(4 - trial.number, 1) + 1 / step)
                done.append(step)
            return done
    """)
    definition = asha(
        metric="loss", trials=100, max_steps=9, sampler="random", patience=5, min_delta=0.1
    )
    result = house.search(inline, definition, SPACE)
    detail = house.experiments(inline).get(result.experiment)
    # Trial 3 is the first that cannot be bettered; five more show it.
    assert len(detail.trials) == 9
    assert detail.experiment.ended_by == "flat"
    assert detail.experiment.state == "done"
    assert (result.trial.number, result.trial.step) == (3, 9)


@pytest.mark.parametrize("limit", ["max_time_s", "max_cost_s"])
def test_a_budget_that_runs_out_ends_the_search_with_the_best_it_has(
    house: Any, processes: Any, limit: str
) -> None:
    house.write("""
        import signal

        def model(trial):
            done = trial.restore() or []
            for step in trial.steps():
                done.append(step)
                trial.report(step, loss=1 / step + trial.number)
                if trial.number == 1 and step == 2:
                    signal.pause()  # for good: only the budget ends it
            return done
    """)
    definition = random(metric="loss", trials=2, max_steps=3, **{limit: 0.2})
    result = house.search(processes(2), definition, SPACE)
    pool = processes(1)
    detail = house.experiments(pool).get(result.experiment)
    assert detail.experiment.ended_by == limit.removeprefix("max_").removesuffix("_s")
    assert detail.experiment.state == "done"
    assert result.trial.number == 0
    entry = house.store.get(result.artefact, "/model.pkl")
    assert pickle.loads(house.store.read(entry.digest)) == [1, 2, 3]
    others = [trial for trial in detail.trials if trial.number == 1]
    assert [(t.state, t.step) for t in others] in ([], [("stopped", 0)])


def test_a_budget_that_is_too_small_for_anything_still_gives_one_trial(
    house: Any, inline: Any
) -> None:
    house.write(TRAINING)
    definition = random(metric="loss", trials=5, max_steps=1, max_time_s=1e-9)
    result = house.search(inline, definition, SPACE)
    assert len(trials_of(house, inline, result)) == 1


def test_limits_count_time_cost_and_what_is_flat() -> None:
    definition = random(metric="loss", trials=9, max_time_s=10, max_cost_s=30, patience=2)
    assert spent(definition, 9.9, 29.9) == ""
    assert spent(definition, 10, 30) == "time"
    assert spent(definition, 1, 30) == "cost"
    assert not is_flat(definition, [3, 2])
    assert not is_flat(definition, [3, 2, 1])
    assert is_flat(definition, [1, 2, 3])
    assert not is_flat(definition, [1, 2, None])
    assert not is_flat(definition, [float("inf"), 2, 3])
    assert not is_flat(random(metric="loss", trials=9), [1, 2, 3])


@pytest.mark.parametrize("way", ["told", "enqueued"])
def test_a_search_starts_warm_from_the_last_one_of_its_step(
    house: Any, inline: Any, way: str
) -> None:
    house.write(TRAINING)
    first = house.search(inline, tpe(metric="loss", trials=20, max_steps=1, seed=1), SPACE)
    definition = tpe(metric="loss", trials=5, max_steps=1, seed=2, warm_start=way)
    second = house.search(inline, definition, SPACE)
    door = house.experiments(inline)
    detail = door.get(second.experiment)
    assert detail.experiment.prior == first.experiment
    edges = house.lineage.walk(second.experiment, "up")[1]
    assert (first.experiment, second.experiment) in {(e.source, e.target) for e in edges}
    far = [abs(float(trial.params["x"]) - 0.3) for trial in detail.trials]
    if way == "enqueued":
        ranked = sorted(trials_of(house, inline, first), key=lambda trial: trial.value)
        assert [t.params for t in detail.trials[:3]] == [t.params for t in ranked[:3]]
    else:
        assert sorted(far)[len(far) // 2] < 0.15
    again = house.search(
        inline, definition, {"x": uniform(2, 3)}
    )  # nothing of the old lies in the new space
    assert all(2 <= float(t.params["x"]) <= 3 for t in trials_of(house, inline, again))


def test_another_metric_is_no_prior(house: Any, inline: Any) -> None:
    house.write(TRAINING)
    house.search(inline, random(metric="loss", trials=2, max_steps=1), SPACE)
    definition = random(metric="size", trials=2, max_steps=1, warm_start="enqueued")
    result = house.search(inline, definition, SPACE)
    assert house.experiments(inline).get(result.experiment).experiment.prior is None
