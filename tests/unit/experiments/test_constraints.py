"""Constraints over what trials measure: judged at rungs, kept by the best, told to samplers."""

from __future__ import annotations

import pytest

from clew.base.errors import Invalid
from clew.experiments import asha, grid, random, uniform
from clew.experiments.definitions import nsga2, tpe
from clew.experiments.judging import distance
from clew.experiments.measuring import amounts, breaches, measured, violation
from clew.experiments.samplers import Sampler
from clew.experiments.searchers import Progress, best, goes_on, nearest, next_action, rules_of
from clew.experiments.studies import Told

SPACE = {"x": uniform(0, 1)}

TRAIN = """
    def model(trial):
        x = trial.params["x"]
        for step in trial.steps():
            trial.report(step, loss=1 - x + 1 / step, latency_ms=10 * x)
            trial.checkpoint({"x": x})
        return x
    """


@pytest.mark.parametrize(
    ("rule", "values", "amount"),
    [
        ("latency_ms <= 5", {"latency_ms": 5.0}, 0),
        ("latency_ms <= 5", {"latency_ms": 7.5}, 2.5),
        ("recall >= 0.9", {"recall": 0.7}, pytest.approx(0.2)),
        ("a < 1 and b < 1", {"a": 3.0, "b": 2.0}, 3),
        ("a < 1 or b < 1", {"a": 3.0, "b": 2.0}, 1),
        ("0 <= a <= 1", {"a": 4.0}, 3),
        ("a == 2", {"a": 1.5}, 0.5),
        ("a != 2", {"a": 2.0}, 1),
        ("not a > 1", {"a": 2.0}, 1),
        ('metrics["val/loss"] <= 1', {"val/loss": 3.0}, 2),
        ("log(a) <= 0", {"a": -1.0}, None),
        ("a <= 1", {"a": float("nan")}, None),
    ],
)
def test_a_rule_is_broken_by_as_much_as_it_is_missed(rule, values, amount):
    assert breaches([rule], {}, values) == {rule: amount}


def test_a_strict_rule_is_broken_where_both_sides_are_equal():
    assert violation(breaches(["a < 1"], {}, {"a": 1.0})) > 0


def test_only_rules_that_name_what_is_not_in_the_space_are_measured():
    rules = ["x <= 0.5", "latency_ms <= 5", "latency_ms <= 10 * x"]
    definition = random(metric="loss", trials=2, constraints=rules)
    assert measured(definition, SPACE) == tuple(rules[1:])
    assert amounts({rules[1]: None, rules[2]: 2.0}, rules[1:])[1] == 2.0


@pytest.mark.parametrize(
    ("answer", "far"),
    [(True, 0), (False, 1), (0.0, 0), (-3, 0), (2.5, 2.5), ([1, -1, 2], 3), ({"a": 0.5}, 0.5)],
)
def test_a_feasibility_function_answers_with_a_truth_or_numbers(answer, far):
    assert distance(answer) == far


def test_a_feasibility_function_that_answers_nothing_is_refused():
    with pytest.raises(Invalid) as refused:
        distance(None)
    assert refused.value.code == "trial.infeasibility"


def seen(number, loss, far, state="paused"):
    return Progress(number=number, losses=(loss,), state=state, violations=(far,))


def test_promotion_takes_the_feasible_first_then_the_nearest():
    definition = asha(metric="loss", trials=6, max_steps=9, reduction=3)
    rules = rules_of(definition, 6)
    trials = [seen(0, 0.1, 5.0), seen(1, 0.9, 0.0), seen(2, 0.2, 1.0), seen(3, 0.3, 0.0)]
    trials += [seen(4, 0.05, 0.5), seen(5, 0.4, 2.0)]
    assert next_action(rules, trials).number == 3
    far = [seen(n, one.losses[0], 1.0 + n) for n, one in enumerate(trials)]
    assert next_action(rules, far).number == 0
    assert best(trials).number == 3
    assert best(far) is None
    assert nearest(far).number == 0
    assert nearest([seen(0, 0.1, 0.0)]) is None


def test_the_stopping_rule_lets_the_feasible_go_on():
    rules = rules_of(asha(metric="loss", trials=4, max_steps=9, promote=False), 4)
    trials = [seen(0, 0.1, 3.0), seen(1, 0.8, 0.0), seen(2, 0.2, 1.0)]
    assert [goes_on(rules, trials, one) for one in range(3)] == [False, True, False]


def late_ones(sampler, rule):
    """Where a sampler goes that is told that x is the better the higher, up to 0.5 by a rule."""
    definition = (
        tpe(metric="loss", trials=60, constraints=rule)
        if sampler == "tpe"
        else nsga2(objectives={"loss": "min", "size": "min"}, trials=60, constraints=rule,
                   population=6)
    )  # fmt: skip
    told: list[Told] = []
    made = Sampler(definition, {name: uniform(0, 1) for name in "xabc"})  # one gene only mutates
    for number in range(60):
        suggestion = made.suggest(number, told)
        x = suggestion.params["x"]
        told.append(
            Told(
                params=suggestion.params, state="done", step=1, noted=suggestion.noted,
                loss=1 - x, others=(1 - x,) if sampler == "nsga2" else (),
                breaches=(max(0.0, x - 0.5),) if rule else (),
            )
        )  # fmt: skip
    return [one.params["x"] for one in told[30:]]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_samplers_are_told_and_move_to_where_the_rules_hold(sampler):
    ruled, free = late_ones(sampler, ["far <= 0.5"]), late_ones(sampler, [])
    kept = [x for x in ruled if x <= 0.5]
    assert len(kept) > 2 * sum(x <= 0.5 for x in free)
    assert max(kept) > 0.4


@pytest.mark.parametrize(
    "definition",
    [
        random(metric="loss", trials=12, max_steps=2, constraints="latency_ms <= 4"),
        asha(metric="loss", trials=12, max_steps=4, reduction=2, sampler="random",
             constraints=["latency_ms <= 4"]),
        asha(metric="loss", trials=12, max_steps=4, reduction=2, sampler="random", promote=False,
             constraints=["latency_ms <= 4"]),
    ],
    ids=["random", "asha", "stopping"],
)  # fmt: skip
def test_the_best_trial_is_the_best_that_keeps_the_rules(house, inline, definition):
    house.write(TRAIN)
    found = house.search(inline, definition, SPACE)
    detail = house.experiments(inline).get(found.experiment)
    kept = [one for one in detail.trials if not one.breaches]
    assert 0 < len(kept) < len(detail.trials)
    assert found.trial.id in {one.id for one in kept}
    assert found.metrics["latency_ms"] <= 4
    furthest = [one for one in kept if one.rung == found.trial.rung]
    assert found.trial.params["x"] == max(one.params["x"] for one in furthest)
    worst = next(one for one in detail.trials if one.breaches)
    assert worst.breaches == {"latency_ms <= 4": pytest.approx(10 * worst.params["x"] - 4)}
    assert detail.experiment.constraints == ("latency_ms <= 4",)


def test_where_no_trial_keeps_them_the_search_says_how_near_the_nearest_came(house, inline):
    house.write(TRAIN)
    definition = random(metric="loss", trials=4, max_steps=1, constraints="latency_ms <= 0")
    with pytest.raises(Invalid) as refused:
        house.search(inline, definition, SPACE)
    assert refused.value.code == "experiment.infeasible"
    found = house.experiments(inline).list()[0]
    trials = house.experiments(inline).get(found.id).trials
    nearest_x = min(one.params["x"] for one in trials)
    assert f"latency_ms = {10 * nearest_x:.6g}" in refused.value.message
    assert (found.state, found.best_trial) == ("failed", None)
    assert all(one.state == "done" and one.breaches for one in trials)


def test_a_metric_that_no_trial_reports_is_told_with_its_name(house, inline):
    house.write(TRAIN)
    with pytest.raises(Invalid) as refused:
        house.search(
            inline, random(metric="loss", trials=2, max_steps=1, constraints="size_mb <= 9"), SPACE
        )
    assert refused.value.code == "trial.metric_missing"
    assert "size_mb" in refused.value.message


def test_a_feasibility_function_decides_with_the_latest_of_all_metrics(house, inline):
    house.write(
        TRAIN
        + """
    def fits(params, metrics):
        return metrics["latency_ms"] - 3.5 if metrics["loss"] < 9 else False
    """
    )
    found = house.search(
        inline, grid(metric="loss", max_steps=2), {"x": uniform(0, 1, step=0.1)},
        feasible={"file": "train.py", "name": "fits"},
    )  # fmt: skip
    assert found.trial.params["x"] == pytest.approx(0.3)
    assert found.metrics["infeasibility"] == 0


def test_a_search_that_goes_on_after_a_crash_still_knows_who_broke_what(house, inline):
    house.write(TRAIN)
    definition = asha(
        metric="loss", trials=8, max_steps=4, reduction=2, sampler="random",
        constraints=["latency_ms <= 4"],
    )  # fmt: skip
    whole = house.search(inline, definition, SPACE, job="one")
    asked = iter(range(10_000))
    with pytest.raises(Exception, match="cancelled"):
        house.search(inline, definition, SPACE, job="two", cancelled=lambda: next(asked) > 9)
    again = house.search(inline, definition, SPACE, job="two")
    assert again.trial.params == whole.trial.params
