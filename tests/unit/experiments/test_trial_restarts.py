"""A trial that fails goes on from its latest checkpoint, as often and with what its policy says."""

from __future__ import annotations

from typing import Any

import pytest

from clew.base.errors import Invalid
from clew.base.records.trial_policy import LogRule, TrialPolicy
from clew.experiments import choice, single, worker

FAILING = """
    from pathlib import Path

    class Broken(Exception):
        pass

    def model(trial):
        seen = trial.restore() or []
        for step in trial.steps():
            print("trained", step)
            seen.append(step)
            trial.report(step, loss=1 / step)
            trial.checkpoint(seen)
            if step in (3, 6):
                marker = Path(trial_marker(trial, step))
                if not marker.exists():
                    marker.touch()
                    raise Broken("CUDA out of memory" if step == 3 else "disk on fire")
        return seen, trial.params.batch

    def trial_marker(trial, step):
        return str(Path(__file__).parent / f"failed-{trial.id}-{step}")
"""
SPACE = {"batch": choice(64)}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SAVE_EVERY_S", 0.0)


def search(house: Any, inline: Any, policy: TrialPolicy) -> Any:
    house.write(FAILING)
    return house.search(inline, single(metric="loss", max_steps=8), SPACE, policy=policy)


def test_a_trial_with_restarts_left_repeats_no_step_that_its_checkpoint_has(
    house: Any, inline: Any
) -> None:
    result = search(house, inline, TrialPolicy(restarts=2))
    experiments = house.experiments(inline)
    printed = experiments.log(result.trial.id).splitlines()
    assert [line for line in printed if line.startswith("trained")] == [
        f"trained {step}" for step in (1, 2, 3, 3, 4, 5, 6, 6, 7, 8)
    ]
    assert result.trial.restarts == 2
    assert [p.step for p in experiments.points(result.trial.id)] == list(range(1, 9))
    assert "restart 2 of 2; on after step 5" in "\n".join(printed)


def test_without_restarts_left_it_has_failed(house: Any, inline: Any) -> None:
    with pytest.raises(Invalid) as failed:
        search(house, inline, TrialPolicy(restarts=1))
    assert failed.value.code == "experiment.failed"
    assert "disk on fire" in failed.value.message


def test_what_its_log_has_may_end_it_or_change_its_parameters(house: Any, inline: Any) -> None:
    smaller = LogRule(pattern="out of memory", act="scale", factors=(("batch", 0.5),))
    result = search(house, inline, TrialPolicy(restarts=1, on_log=(smaller,)))
    assert result.trial.params == {"batch": 32}
    assert result.trial.restarts == 2
    hopeless = LogRule(pattern="on fire", act="give_up")
    with pytest.raises(Invalid) as failed:
        search(house, inline, TrialPolicy(restarts=9, on_log=(smaller, hopeless)))
    assert "disk on fire" in failed.value.message


def test_a_rule_is_used_as_often_as_it_says(house: Any, inline: Any) -> None:
    house.write("""
        def model(trial):
            raise MemoryError(f"too large: {trial.params.batch}")
    """)
    smaller = LogRule(pattern="too large", act="scale", factors=(("batch", 0.5),), times=2)
    with pytest.raises(Invalid) as failed:
        house.search(inline, single(), SPACE, policy=TrialPolicy(restarts=9, on_log=(smaller,)))
    assert "too large: 16" in failed.value.message
