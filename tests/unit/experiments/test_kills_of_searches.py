"""A search that is killed with -9 at seeded moments loses no step, no trial and no checkpoint."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clew.experiments import Experiments
from clew.testing.postgres import database_url

TRAINING = """
    import json, os
    from clew.experiments import worker

    worker.SAVE_EVERY_S = 0.0

    def model(trial):
        found = trial.restore()
        seen = json.loads((found / "seen.json").read_text()) if found else []
        assert seen == list(range(1, len(seen) + 1)), seen
        for step in trial.steps():
            assert step == len(seen) + 1, (step, seen)
            seen.append(step)
            with trial.checkpoint() as folder:
                (folder / "seen.json").write_text(json.dumps(seen))
                (folder / "weights.bin").write_bytes(os.urandom(1000))
            trial.log_text("step", str(step))
            trial.report(step, loss=abs(trial.params.x - 0.5) + 1 / step)
            marker = f"{os.environ['MARKERS']}/{trial.number}-{step}"
            if trial.number % 3 == 1 and step == 2 and not os.path.exists(marker):
                open(marker, "w").close()
                raise RuntimeError("this happens once")
        return None
"""

SEARCH = """
import os, random, signal, sys
from pathlib import Path
from clew.base.records import CodeRef
from clew.base.records.trial_policy import TrialPolicy
from clew.compute import ProcessPool
from clew.db import Database
from clew.testing.postgres import database_url
from clew.experiments import Experiments, asha, journal, uniform
from clew.lineage import Lineage
from clew.repos import Repos
from clew.store import Store

journal.PRUNE_EVERY_S = 0.0

def main(home, left):
    db = Database.open(database_url(home))
    db.create()
    begin = db.begin
    count = [0]

    def counted():
        count[0] += 1
        if count[0] == left:
            os.kill(os.getpid(), signal.SIGKILL)
        return begin()

    db.begin = counted
    store = Store.open(home / "store")
    pool = ProcessPool(1, home / "scratch", home / "logs")
    Experiments(db, Repos(db, store), store, Lineage(db), pool).search(
        job="job", pipeline="shop", step="model", global_id="change",
        definition=asha(metric="loss", trials=6, max_steps=9, seed=1),
        space={"x": uniform(0, 1)}, policy=TrialPolicy(restarts=1),
        function=CodeRef(snapshot="", file="train.py", name="model"),
        snapshot_dir=str(home / "project"), inputs=[],
        environment={"MARKERS": str(home)},
    )
    print("transactions", count[0])
    pool.close()

if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
"""


def run(house: Any, left: int) -> int:
    """Search on, to be killed at the beginning of a transaction (0: never)."""
    program: Path = house.home / "search.py"
    program.write_text(SEARCH)
    ended = subprocess.run(
        [sys.executable, str(program), str(house.home), str(left)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in {0, -signal.SIGKILL}, ended.stdout + ended.stderr
    return ended.returncode


def check(house: Any) -> list[Any]:
    """What must hold of a search that has ended, however often it was killed."""
    door = Experiments(house.db, house.repos, house.store, house.lineage, None)
    [experiment] = door.list()
    assert experiment.state == "done"
    detail = door.get(experiment.id)
    assert [trial.number for trial in detail.trials] == list(range(6))
    for trial in detail.trials:
        every = list(range(1, trial.step + 1))
        kept = door.detail(trial.id)
        assert [point.step for point in kept.points] == every
        assert sorted(file.step for file in kept.files) == every
        assert trial.checkpoint is not None
        assert trial.checkpoint_step == trial.step
    commits = {commit.id for commit in house.repos.log("shop/model.checkpoints", None)}
    named = {one.commit for one in door.checkpoints(experiment.id)}
    assert named == commits
    assert not house.repos.check([door.roots]).problems
    return [(t.number, t.params, t.seed, t.state, t.value, t.step) for t in detail.trials]


def killed(house: Any, seed: int) -> list[Any]:
    chance = random.Random(seed)
    house.write(TRAINING)
    for _ in range(3):
        if run(house, chance.randrange(1, 40)) == 0:
            break
    assert run(house, 0) == 0
    return check(house)


@pytest.fixture
def undisturbed(house: Any) -> list[Any]:
    """What the search finds when nobody kills it."""
    other = type(house)(**vars(house))
    other.home = house.home / "other"
    other.project = other.home / "project"
    other.project.mkdir(parents=True)
    other.db = type(house.db).open(database_url(other.home))
    other.db.create()
    other.store = type(house.store).open(other.home / "store")
    other.repos = type(house.repos)(other.db, other.store)
    other.lineage = type(house.lineage)(other.db)
    other.write(TRAINING)
    assert run(other, 0) == 0
    found = check(other)
    other.db.close()
    return found


def test_a_search_that_was_killed_three_times_ends_as_an_undisturbed_one(
    house: Any, undisturbed: list[Any]
) -> None:
    assert killed(house, 0) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 40))
def test_a_search_that_was_killed_often_ends_as_an_undisturbed_one(
    house: Any, undisturbed: list[Any], seed: int
) -> None:
    assert killed(house, seed) == undisturbed
