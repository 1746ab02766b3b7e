"""A search whose process is killed with -9 goes on from rows and checkpoints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from clew.experiments import Experiments
from clew.testing.postgres import database_url

# The user's function writes each step that it trains into a file, and may kill the search.
TRAINING = """
    import os, signal
    from pathlib import Path
    from clew.experiments import worker

    worker.SAVE_EVERY_S = 0.0

    def model(trial):
        state = trial.restore() or []
        for step in trial.steps():
            state.append(step)
            with open(os.environ["STEPS"], "a") as file:
                file.write(f"{trial.number} {step}\\n")
            fatal = len(Path(os.environ["STEPS"]).read_text().splitlines())
            if fatal == int(os.environ["FATAL_STEP"]):
                os.kill(os.getppid(), signal.SIGKILL)
                signal.pause()
            trial.report(step, loss=abs(trial.params.x - 0.5) + 1 / step)
            if os.environ["SAVES"]:
                trial.checkpoint(state)
        return state
"""

SEARCH = """
import os, signal, sys
from pathlib import Path
from clew.base.records import CodeRef
from clew.compute import ProcessPool
from clew.db import Database
from clew.testing.postgres import database_url
from clew.experiments import Experiments, asha, uniform
from clew.lineage import Lineage
from clew.repos import Repos
from clew.store import Store

def main(home, fatal_turn):
    db = Database.open(database_url(home))
    db.create()
    store = Store.open(home / "store")
    pool = ProcessPool(1, home / "scratch", home / "logs")
    turns = []
    def progress(total, done):
        turns.append(done)
        if len(turns) == fatal_turn:
            os.kill(os.getpid(), signal.SIGKILL)
    names = ("STEPS", "FATAL_STEP", "SAVES")
    result = Experiments(db, Repos(db, store), store, Lineage(db), pool).search(
        job="job", pipeline="shop", step="model", global_id="change",
        definition=asha(metric="loss", trials=9, max_steps=9, seed=1),
        space={"x": uniform(0, 1)},
        function=CodeRef(snapshot="", file="train.py", name="model"),
        snapshot_dir=str(home / "project"), inputs=[],
        environment={name: os.environ[name] for name in names}, progress=progress,
    )
    print(result.experiment, result.artefact)
    pool.close()

if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
"""


def run(
    house: Any, *, fatal_step: int = 0, fatal_turn: int = 0, saves: bool = False
) -> tuple[int, str]:
    program = house.home / "search.py"
    program.write_text(SEARCH)
    ended = subprocess.run(
        [sys.executable, str(program), str(house.home), str(fatal_turn)],
        env=os.environ
        | {
            "STEPS": str(steps_file(house)),
            "FATAL_STEP": str(fatal_step),
            "SAVES": "yes" if saves else "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def steps_file(house: Any) -> Path:
    path: Path = house.home / "steps.txt"
    path.touch()
    return path


def look(house: Any) -> tuple[list[Any], dict[int, list[int]], str]:
    """Trials, reported steps of each, and the state of the experiment."""
    door = Experiments(house.db, house.repos, house.store, house.lineage, None)
    [experiment] = door.list()
    detail = door.get(experiment.id)
    points = {t.number: [p.step for p in door.points(t.id)] for t in detail.trials}
    trials = [(t.number, t.params, t.seed, t.state, t.value, t.step) for t in detail.trials]
    return trials, points, experiment.state


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the search finds when nobody kills it."""
    return []


@pytest.mark.parametrize(
    ("fatal", "saves"),
    [
        ({"fatal_step": 1}, False),
        ({"fatal_step": 6}, False),
        ({"fatal_step": 16}, False),
        ({"fatal_step": 20}, True),
        ({"fatal_turn": 1}, False),
        ({"fatal_turn": 4}, False),
        ({"fatal_turn": 11}, True),
    ],
)
def test_a_killed_search_ends_as_an_undisturbed_one(
    house: Any, undisturbed: list[Any], fatal: dict[str, int], saves: bool
) -> None:
    house.write(TRAINING)
    code, said = run(house, **fatal, saves=saves)
    assert code == -signal.SIGKILL, said
    before, _, state = look(house)
    assert state == "running"
    executed = Counter(steps_file(house).read_text().splitlines())
    code, said = run(house, saves=saves)
    assert code == 0, said
    trials, points, state = look(house)
    assert state == "done"
    assert points == {trial[0]: list(range(1, trial[5] + 1)) for trial in trials}
    again = Counter(steps_file(house).read_text().splitlines()) - executed
    repeated = {int(line.split()[0]) for line in executed & again}
    assert repeated <= {trial[0] for trial in before if trial[3] == "running"}
    if not undisturbed:
        undisturbed.append(fresh(house, saves))
    assert trials == undisturbed[0]


def fresh(house: Any, saves: bool) -> list[Any]:
    """The same search on a new workspace."""
    other = type(house)(**vars(house))
    other.home = house.home / "other"
    (other.home / "project").mkdir(parents=True)
    other.project = other.home / "project"
    other.write(TRAINING)
    code, said = run(other, saves=saves)
    assert code == 0, said
    other.db = type(house.db).open(database_url(other.home))
    found = look(other)[0]
    other.db.close()
    return found
