"""Checkpoints that no policy keeps go, with their bytes; what others rest on stays."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from clew.base.errors import Conflict, Denied, NotFound
from clew.base.ids import new_id
from clew.base.records.trial_policy import Keep, TrialPolicy
from clew.experiments import asha, journal, random, uniform, worker
from clew.experiments.retention import Candidate, reasons

SIZE = 200_000
TRAINING = f"""
    import random

    def model(trial):
        start = trial.restore() or {{"steps": []}}
        for step in trial.steps():
            start["steps"].append(step)
            start["weights"] = random.Random(trial.number * 1000 + step).randbytes({SIZE})
            trial.report(step, loss=abs(step - 4) + trial.number * 10)
            trial.checkpoint(start)
        return None
"""


def found(*values: float | None, trial: str = "t") -> list[Candidate]:
    return [
        Candidate(commit=f"{trial}{step}", trial=trial, step=step, value=value)
        for step, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize(
    ("keep", "mode", "stay"),
    [
        (Keep(best=0, trial_best=0, trial_latest=0), "min", set()),
        (Keep(best=0, trial_best=0, trial_latest=1), "min", {"a4", "b2"}),
        (Keep(best=0, trial_best=0, trial_latest=2), "min", {"a3", "a4", "b1", "b2"}),
        (Keep(best=0, trial_best=1, trial_latest=0), "min", {"a2", "b2"}),
        (Keep(best=0, trial_best=1, trial_latest=0), "max", {"a1", "b1"}),
        (Keep(best=1, trial_best=0, trial_latest=0), "min", {"a2"}),
        (Keep(best=3, trial_best=0, trial_latest=0), "min", {"a2", "a4", "b2"}),
        (Keep(best=1, trial_best=1, trial_latest=1), "min", {"a2", "a4", "b2"}),
    ],
)
def test_a_policy_names_what_stays(keep: Keep, mode: str, stay: set[str]) -> None:
    some = [*found(9.0, 1.0, None, 2.0, trial="a"), *found(5.0, 2.0, trial="b")]
    assert set(reasons(some, keep, mode)) == stay


def test_what_is_not_finite_is_never_the_best_and_of_equals_the_later_is() -> None:
    keep = Keep(best=1, trial_best=0, trial_latest=0)
    assert set(reasons(found(float("nan"), 3.0, 3.0, None), keep, "min")) == {"t3"}


def size_of(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step's checkpoint is written, and pruned in the next transaction."""
    monkeypatch.setattr(worker, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(journal, "PRUNE_EVERY_S", 0.0)


def kept_steps(house: Any, experiments: Any, experiment: str) -> dict[int, list[int]]:
    steps: dict[int, list[int]] = {}
    for one in experiments.checkpoints(experiment):
        steps.setdefault(one.number, []).append(one.step)
        state = pickle.loads(
            house.repos.read(house.repos.commit_by_id(one.commit), "/checkpoint.pkl")
        )
        assert state["steps"] == list(range(1, one.step + 1))
    return steps


@pytest.mark.usefixtures("often")
def test_best_and_latest_of_each_trial_stay_and_the_rest_is_freed(house: Any, inline: Any) -> None:
    house.write(TRAINING)
    definition = random(metric="loss", trials=3, max_steps=8)
    result = house.search(inline, definition, {"x": uniform(0, 1)})
    experiments = house.experiments(inline)
    assert kept_steps(house, experiments, result.experiment) == {n: [4, 8] for n in range(3)}
    named = {
        (one.number, one.step): one.kept_for for one in experiments.checkpoints(result.experiment)
    }
    assert named[0, 4] == ("best of its trial", "best of the experiment")
    assert named[2, 8] == ("latest of its trial",)
    heads = {trial.id: trial.checkpoint for trial in experiments.get(result.experiment).trials}
    for trial, checkpoint in heads.items():
        log = house.repos.log("shop/model.checkpoints", trial)
        assert log[0].id == checkpoint
        assert len(log) == 2  # the parent of the latest is the best, whatever was between them
    before = size_of(house.home / "store")
    freed = house.repos.collect([experiments.roots], thorough=True, wait_s=60)
    after = size_of(house.home / "store")
    assert before > 3 * 8 * SIZE
    assert before - after > 3 * 5 * SIZE
    assert freed.freed_bytes > 0
    assert kept_steps(house, experiments, result.experiment) == {n: [4, 8] for n in range(3)}
    assert not house.repos.check([experiments.roots]).problems


@pytest.mark.usefixtures("often")
def test_pruning_by_hand_frees_bytes_but_never_what_others_rest_on(house: Any, inline: Any) -> None:
    house.write(TRAINING)
    definition = random(metric="loss", trials=3, max_steps=6)
    job = new_id()
    result = house.search(inline, definition, {"x": uniform(0, 1)}, job=job)
    experiments = house.experiments(inline)
    trials = experiments.get(result.experiment).trials
    nothing = Keep(best=0, trial_best=0, trial_latest=0)
    experiments.holders = lambda tx: {trials[1].id: ["shop/model@3, champion"]}
    warm = experiments.learned(trials[2].id)
    house.search(inline, definition, {"x": uniform(0, 1)}, initial=warm)

    planned = experiments.prune(result.experiment[:10], nothing, dry_run=True)
    assert not planned.done
    assert len(experiments.checkpoints(result.experiment)) == 6
    pruned = experiments.prune(result.experiment, nothing)
    assert pruned.removed == planned.removed
    assert {(one.number, one.step) for one in pruned.kept} == {(1, 6), (2, 6)}
    assert [why for one in pruned.kept[:1] for why in one.kept_for] == ["shop/model@3, champion"]
    assert pruned.kept[1].kept_for[0].startswith("warm start of experiment")
    assert experiments.prune(result.experiment, nothing).removed == ()

    again = experiments.get(result.experiment).trials
    assert [trial.checkpoint is None for trial in again] == [True, False, False]
    assert experiments.learned(trials[0].id) == ""
    before = size_of(house.home / "store")
    house.repos.collect([experiments.roots], thorough=True, wait_s=60)
    assert before - size_of(house.home / "store") > 3 * SIZE
    # The search itself still answers, without what it has given up.
    assert house.search(inline, definition, {"x": uniform(0, 1)}, job=job).trial.number == 0


@pytest.mark.usefixtures("often")
def test_a_search_that_keeps_no_latest_promotes_all_the_same(house: Any, inline: Any) -> None:
    house.write(TRAINING)
    policy = TrialPolicy(keep=Keep(best=1, trial_best=0, trial_latest=0))
    definition = asha(metric="loss", trials=9, max_steps=9, sampler="random")
    result = house.search(inline, definition, {"x": uniform(0, 1)}, policy=policy)
    experiments = house.experiments(inline)
    assert result.trial.step == 9
    assert [p.step for p in experiments.points(result.trial.id)] == list(range(1, 10))
    assert kept_steps(house, experiments, result.experiment) == {0: [4, 9]}
    assert result.trial.checkpoint is not None


def test_only_checkpoints_can_be_retired(house: Any, inline: Any) -> None:
    house.repos.create("shop/rows", kind="source")
    commit = house.repos.commit("shop/rows", {"/a": b"1"})
    with pytest.raises(Denied) as refused, house.db.begin() as tx:
        house.repos.retire([commit.id], tx=tx, reason="no")
    assert refused.value.code == "repo.derived"
    with pytest.raises(NotFound):
        house.experiments(inline).prune("nothing-like-it")
    with pytest.raises((NotFound, Conflict)):
        house.experiments(inline).checkpoints("nothing-like-it")
