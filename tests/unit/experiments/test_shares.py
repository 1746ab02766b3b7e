"""Searches that go on at once share the slots: by priority, then evenly; who gives way goes on."""

from __future__ import annotations

import builtins
import threading
from typing import Any

import pytest

from clew.base.records import CodeRef
from clew.experiments import random, search, uniform, worker
from clew.experiments.shares import Claim, Shares, allotments


@pytest.mark.parametrize(
    ("slots", "claims", "found"),
    [
        (4, [(0, 4)], [4]),
        (4, [(0, 4), (0, 4)], [2, 2]),
        (4, [(0, 1), (0, 4)], [1, 3]),
        (5, [(0, 5), (0, 5)], [3, 2]),
        (1, [(0, 1), (0, 1)], [1, 1]),
        (4, [(0, 4), (5, 4)], [0, 4]),
        (4, [(0, 4), (5, 1), (0, 4)], [2, 1, 1]),
        (4, [(0, 4), (5, 0)], [4, 0]),
        (2, [(1, 2), (2, 1), (3, 1)], [0, 1, 1]),
    ],
)
def test_slots_go_by_priority_and_then_evenly(
    slots: int, claims: list[tuple[int, int]], found: list[int]
) -> None:
    assert allotments(slots, [Claim(priority=p, wants=w) for p, w in claims]) == found


def test_what_others_do_not_want_is_free_to_use() -> None:
    shares = Shares()
    first, second = shares.join(0, 4), shares.join(0, 4)
    assert first.ask(4, 1) == (2, False)
    assert second.ask(4, 4) == (3, False)
    higher = shares.join(1, 4)
    assert second.ask(4, 4) == (0, True)
    higher.leave()
    first.leave()
    assert second.ask(4, 4) == (4, False)


TRAINING = """
    import builtins

    def model(trial):
        seen = trial.restore() or []
        for step in trial.steps():
            print("trained", step)
            seen.append(step)
            trial.report(step, loss=1 / step)
            builtins.clew_between(trial, step)
        return seen
"""


def test_a_trial_gives_way_to_a_higher_priority_and_goes_on_afterwards(
    house: Any, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PULSE_EVERY_S", 0.0)
    monkeypatch.setattr(search, "WISHES_EVERY_S", 0.0)
    house.write(TRAINING)
    experiments = house.experiments(inline)
    order: list[tuple[str, int]] = []
    arrived = threading.Event()

    def between(trial: Any, step: int) -> None:
        name = experiments.trial(trial.id).global_id
        order.append((name, step))
        if (name, step) == ("low", 2) and not arrived.is_set():
            arrived.set()
            while not trial._port.pausing():
                pass

    monkeypatch.setattr(builtins, "clew_between", between, raising=False)
    definition = random(metric="loss", trials=1, max_steps=4)
    asked = {
        "pipeline": "shop", "step": "model", "definition": definition,
        "space": {"x": uniform(0, 1)}, "snapshot_dir": str(house.project), "inputs": [],
    }  # fmt: skip

    def run(name: str, priority: int) -> None:
        function = CodeRef(snapshot="", file="train.py", name="model")
        experiments.search(job=name, global_id=name, function=function, priority=priority, **asked)

    low = threading.Thread(target=run, args=("low", 0))
    low.start()
    arrived.wait()
    run("high", 5)
    low.join()
    assert order == [
        ("low", 1), ("low", 2), ("high", 1), ("high", 2), ("high", 3), ("high", 4),
        ("low", 3), ("low", 4),
    ]  # fmt: skip
    for experiment in experiments.list():
        (trial,) = experiments.get(experiment.id).trials
        assert (trial.state, trial.step) == ("done", 4)
        assert [point.step for point in experiments.points(trial.id)] == [1, 2, 3, 4]
