"""A trial is paused, resumed and cancelled while its search goes on."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable
from typing import Any

import pytest

from clew.base.errors import Conflict, NotFound
from clew.base.ids import new_id
from clew.experiments import random, search, uniform, worker

TRAINING = """
    import builtins

    def model(trial):
        seen = trial.restore() or []
        for step in trial.steps():
            print("trained", step)
            seen.append(step)
            trial.report(step, loss=trial.number + 1 / step)
            builtins.clew_between(trial, step)
        return seen
"""
SPACE = {"x": uniform(0, 1)}


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any, int], None]], None]:
    """Have something called after each step that a trial trains; wishes are looked for at once."""
    monkeypatch.setattr(worker, "PULSE_EVERY_S", 0.0)
    monkeypatch.setattr(search, "WISHES_EVERY_S", 0.0)

    def act(what: Callable[[Any, int], None]) -> None:
        monkeypatch.setattr(builtins, "clew_between", what, raising=False)

    return act


def trained(experiments: Any, trial: str) -> list[str]:
    return [line for line in experiments.log(trial).splitlines() if line.startswith("trained")]


def test_a_paused_trial_goes_on_from_its_checkpoint_when_it_is_resumed(
    house: Any, inline: Any, between: Any
) -> None:
    house.write(TRAINING)
    experiments = house.experiments(inline)

    def pause(trial: Any, step: int) -> None:
        if (trial.number, step) == (0, 3) and not experiments.trial(trial.id).checkpoint:
            experiments.pause_trial(trial.id)
            while not trial._port.pausing():
                pass

    between(pause)
    seen = house.db.events.last()
    found: list[Any] = []
    definition = random(metric="loss", trials=2, max_steps=6)
    running = threading.Thread(
        target=lambda: found.append(house.search(inline, definition, SPACE, job="job"))
    )
    running.start()
    try:
        paused = None
        while paused is None:
            house.db.events.wait(seen, 5)
            paused = next((e for e in house.db.events.after(0) if e.kind == "trial.paused"), None)
        trial = experiments.trial(paused.subject)
        assert (trial.state, trial.step, trial.checkpoint_step) == ("paused", 3, 3)
        experiments.resume_trial(trial.id)
    finally:
        running.join()
    assert trained(experiments, trial.id) == [f"trained {step}" for step in range(1, 7)]
    assert [p.step for p in experiments.points(trial.id)] == list(range(1, 7))
    assert [t.state for t in experiments.get(found[0].experiment).trials] == ["done", "done"]
    with pytest.raises(Conflict) as ended:
        experiments.pause_trial(trial.id)
    assert ended.value.code == "trial.ended"


def test_a_cancelled_trial_ends_and_is_not_the_best(
    house: Any, processes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.write("""
        import signal

        def model(trial):
            for step in trial.steps():
                trial.report(step, loss=trial.number + 1 / step)
                if trial.number == 0 and step == 2:
                    signal.pause()
            return trial.number
    """)
    monkeypatch.setattr(search, "WISHES_EVERY_S", 0.0)
    compute = processes(1)
    experiments = house.experiments(compute)
    found: list[Any] = []
    definition = random(metric="loss", trials=3, max_steps=3)
    running = threading.Thread(
        target=lambda: found.append(house.search(compute, definition, SPACE, job=new_id()))
    )
    seen = house.db.events.last()
    running.start()
    told = None
    while told is None or told.data["step"] < 2:
        house.db.events.wait(seen, 5)
        reports = [e for e in house.db.events.after(0) if e.kind == "trial.reported"]
        told = reports[-1] if reports else None
    with pytest.raises(Conflict) as awake:
        experiments.resume_trial(told.subject)
    assert awake.value.code == "trial.not_paused"
    experiments.cancel_trial(told.subject)
    running.join()
    trials = experiments.get(found[0].experiment).trials
    assert [trial.state for trial in trials] == ["cancelled", "done", "done"]
    assert [p.step for p in experiments.points(trials[0].id)] == [1, 2]
    assert found[0].trial.number == 1


def test_what_is_not_there_has_no_wishes(house: Any, inline: Any) -> None:
    with pytest.raises(NotFound):
        house.experiments(inline).cancel_trial("nothing-like-it")
    assert house.experiments(inline).subject("nothing-like-it") is None
