"""kill -9 of a rank, of the launcher, or of the process that searches, at moments drawn by a seed.

Nothing that was reported is lost or counted twice, and no process stays.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from clew.compute.family import MARK
from clew.experiments import Experiments

TRAINING = """
    import json, os, signal, socket, time
    from pathlib import Path
    from clew.experiments import worker

    worker.SAVE_EVERY_S = 0.0

    def peer_of(trial):
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        if trial.rank == 0:
            with socket.create_server(place) as server:
                return server.accept()[0]
        while True:
            try:
                return socket.create_connection(place)
            except ConnectionRefusedError:
                time.sleep(0.01)

    def model(trial):
        state = trial.restore() or {"sum": 0}
        with peer_of(trial) as peer:
            for step in trial.steps():
                peer.sendall(step.to_bytes(4, "big"))
                other = peer.recv(4, socket.MSG_WAITALL)
                if len(other) < 4:
                    raise ConnectionError("the peer is gone")
                state["sum"] += (trial.rank + 1) * step * trial.number
                kill(trial, step)
                trial.report(step, loss=1 / (1 + state["sum"]))
                trial.checkpoint(state, shard=True)
        return state

    def kill(trial, step):
        fatal = json.loads(os.environ["FATAL"])
        flag = Path(os.environ["FLAG"])
        if fatal[1:] != [trial.rank, trial.number, step] or flag.exists():
            return
        flag.touch()
        pid = {"rank": os.getpid, "launcher": os.getppid, "search": lambda: int(os.environ["TOP"])}
        os.kill(pid[fatal[0]](), signal.SIGKILL)
        signal.pause()
"""

SEARCH = """
import os, sys
from pathlib import Path
from clew.base.ranks import workers
from clew.base.records import CodeRef
from clew.compute import ProcessPool
from clew.db import Database
from clew.testing.postgres import database_url
from clew.experiments import Experiments, asha, uniform
from clew.lineage import Lineage
from clew.repos import Repos
from clew.store import Store

home = Path(sys.argv[1])
db = Database.open(database_url(home))
db.create()
store = Store.open(home / "store")
pool = ProcessPool(2, home / "scratch", home / "logs")
Experiments(db, Repos(db, store), store, Lineage(db), pool).search(
    job="job", pipeline="shop", step="model", global_id="change",
    definition=asha(metric="loss", trials=3, max_steps=9, sampler="random", seed=1),
    space={"x": uniform(0, 1)}, ranks=workers(2),
    function=CodeRef(snapshot="", file="train.py", name="model"),
    snapshot_dir=str(home / "project"), inputs=[],
    environment={"FATAL": os.environ["FATAL"], "FLAG": str(home / "fatal"),
                 "TOP": str(os.getpid())},
)
pool.close()
db.close()
"""


def run(house: Any, fatal: str) -> int:
    program = house.home / "search.py"
    program.write_text(SEARCH)
    ended = subprocess.run(
        [sys.executable, str(program), str(house.home)],
        env=os.environ | {"FATAL": fatal},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in {0, -signal.SIGKILL}, ended.stderr
    return ended.returncode


def look(house: Any) -> tuple[str, list[Any], dict[int, list[int]]]:
    door = Experiments(house.db, house.repos, house.store, house.lineage, None)
    [experiment] = door.list()
    trials = door.get(experiment.id).trials
    points = {one.number: [point.step for point in door.points(one.id)] for one in trials}
    return experiment.state, [(t.number, t.state, t.value, t.step) for t in trials], points


def wait_until_nothing_is_left(home: Path) -> None:
    """The test's own limit of time says when something stays."""
    while any(belongs_to(home, process) for process in psutil.process_iter()):
        time.sleep(0.05)


def belongs_to(home: Path, process: psutil.Process) -> bool:
    try:
        mark = process.environ().get(MARK, "")
        return bool(mark) and any(one.startswith(str(home)) for one in process.cmdline())
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def undisturbed() -> list[Any]:
    return []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_whoever_is_killed_the_search_ends_as_one_that_was_left_alone(
    house: Any, undisturbed: list[Any], seed: int
) -> None:
    house.write(TRAINING)
    drawn = random.Random(seed)
    whom = ("rank", "launcher", "search")[seed % 3]
    # the first trial trains one step, and the best one nine of them
    fatal = [whom, drawn.randrange(2), *drawn.choice([(0, 1), (1, 1), (2, 1), (2, 2), (2, 5)])]
    first = run(house, str(fatal).replace("'", '"'))
    assert (house.home / "fatal").exists()
    assert (first == -signal.SIGKILL) == (whom == "search")
    wait_until_nothing_is_left(house.home)
    if first:
        assert look(house)[0] == "running"
        assert run(house, "[]") == 0
    state, trials, points = look(house)
    assert state == "done"
    assert points == {trial[0]: list(range(1, trial[3] + 1)) for trial in trials}
    if not undisturbed:
        undisturbed.append(trials)
    assert trials == undisturbed[0]
