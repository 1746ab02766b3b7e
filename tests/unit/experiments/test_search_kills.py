"""Searches of every kind, killed with -9 at seeded moments, end as if nobody had touched them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from typing import Any

import pytest

from clew.experiments import Experiments
from clew.testing.postgres import database_url

TRAINING = """
    import os, signal
    from pathlib import Path

    def model(trial):
        state = trial.restore() or []
        for step in trial.steps():
            state.append(step)
            with open(os.environ["STEPS"], "a") as file:
                file.write(f"{trial.number} {step}\\n")
            if len(Path(os.environ["STEPS"]).read_text().splitlines()) == int(os.environ["FATAL"]):
                os.kill(os.getppid(), signal.SIGKILL)
                signal.pause()
            size = trial.params.x * trial.params.get("depth", 1)
            trial.report(step, loss=abs(trial.params.x - 0.5) + 1 / step, size=size)
        return state
"""

PROGRAM = """
import os, signal, sys
from pathlib import Path
from clew.base.records import CodeRef
from clew.compute import ProcessPool
from clew.db import Database
from clew.testing.postgres import database_url
from clew.experiments import Experiments, asha, choice, grid, randint, random, uniform
from clew.experiments.definitions import hyperband, nsga2, qmc, tpe
from clew.lineage import Lineage
from clew.repos import Repos
from clew.store import Store

KINDS = {
    "asha": asha(metric="loss", trials=12, max_steps=9, seed=3, sampler="qmc"),
    "stopping": asha(metric="loss", trials=9, max_steps=9, seed=2, promote=False),
    "hyperband": hyperband(metric="loss", max_steps=4, reduction=2, seed=1),
    "nsga2": nsga2(objectives={"loss": "min", "size": "max"}, trials=14, max_steps=1, seed=4),
    "tpe": tpe(metric="loss", trials=14, max_steps=1, seed=5, patience=6),
    "random": random(metric="loss", trials=30, max_steps=1, seed=6, constraints=["x > 0.2"]),
    "grid": grid(metric="loss", max_steps=2),
}
SPACE = {"x": uniform(0, 1), "kind": choice("a", "b"), "depth": randint(2, 4).when(kind="b")}
STEPPED = {**SPACE, "x": uniform(0, 1, step=0.25)}

def main(home, kind, fatal_turn):
    db = Database.open(database_url(home))
    db.create()
    store = Store.open(home / "store")
    pool = ProcessPool(2 if kind in {"random", "grid"} else 1, home / "scratch", home / "logs")
    turns = []
    def progress(total, done):
        turns.append(done)
        if len(turns) == fatal_turn:
            os.kill(os.getpid(), signal.SIGKILL)
    Experiments(db, Repos(db, store), store, Lineage(db), pool).search(
        job="job", pipeline="shop", step="model", global_id="change",
        definition=KINDS[kind], space=STEPPED if kind == "grid" else SPACE,
        function=CodeRef(snapshot="", file="train.py", name="model"),
        snapshot_dir=str(home / "project"), inputs=[],
        environment={name: os.environ[name] for name in ("STEPS", "FATAL")}, progress=progress,
    )
    pool.close()

if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""
KINDS = ["asha", "stopping", "hyperband", "nsga2", "tpe", "random", "grid"]
_whole: dict[str, Any] = {}


def run(house: Any, kind: str, *, step: int = 0, turn: int = 0) -> tuple[int, str]:
    program = house.home / "kinds.py"
    program.write_text(PROGRAM)
    steps = house.home / "steps.txt"
    steps.touch()
    ended = subprocess.run(
        [sys.executable, str(program), str(house.home), kind, str(turn)],
        env=os.environ | {"STEPS": str(steps), "FATAL": str(step)},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def look(house: Any) -> tuple[list[Any], str | None, tuple[int, ...]]:
    """Trials, which is the best, and the front, by numbers."""
    door = Experiments(house.db, house.repos, house.store, house.lineage, None)
    [experiment] = door.list()
    assert experiment.state == "done"
    detail = door.get(experiment.id)
    for trial in detail.trials:
        steps = [point.step for point in detail.points if point.trial == trial.id]
        assert steps == list(range(1, trial.step + 1))
    numbers = {trial.id: trial.number for trial in detail.trials}
    trials = [
        (t.number, t.params, t.seed, t.state, t.value, t.step, t.bracket) for t in detail.trials
    ]
    front = tuple(numbers[one] for one in experiment.front)
    return trials, str(numbers[experiment.best_trial]), front


def whole(house: Any, kind: str) -> Any:
    """The same search on a new workspace, in peace; once for each kind."""
    if kind not in _whole:
        other = type(house)(**vars(house))
        other.home = house.home / "other"
        (other.home / "project").mkdir(parents=True)
        other.project = other.home / "project"
        other.write(TRAINING)
        code, said = run(other, kind)
        assert code == 0, said
        other.db = type(house.db).open(database_url(other.home))
        _whole[kind] = look(other)
        other.db.close()
    return _whole[kind]


def kill_and_compare(house: Any, kind: str, moment: random.Random) -> None:
    house.write(TRAINING)
    expected = whole(house, kind)
    steps = sum(trial[5] for trial in expected[0])
    kills = moment.randint(1, 2)
    for _ in range(kills):
        done = len((house.home / "steps.txt").read_text().split("\n")) - 1 if _ else 0
        at_step = moment.random() < 0.5
        code, said = run(
            house,
            kind,
            step=done + moment.randint(1, steps) if at_step else 0,
            turn=0 if at_step else moment.randint(1, 8),
        )
        assert code in {0, -signal.SIGKILL}, said
    code, said = run(house, kind)
    assert code == 0, said
    assert look(house) == expected


@pytest.mark.parametrize(("kind", "seed"), [("nsga2", 1), ("random", 3)])
def test_a_search_killed_at_a_seeded_moment_ends_with_the_same_trials(
    house: Any, kind: str, seed: int
) -> None:
    kill_and_compare(house, kind, random.Random(seed))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(10, 18))
def test_a_search_of_any_kind_killed_at_many_moments_ends_with_the_same_trials(
    house: Any, kind: str, seed: int
) -> None:
    kill_and_compare(house, kind, random.Random(f"{kind}/{seed}"))
