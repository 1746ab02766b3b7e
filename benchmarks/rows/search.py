"""Searches beside Optuna's pruner and Ray Tune: what a quarter of a budget finds, trials a second.

The budget: the epochs that halving 64 trials over 81 epochs asks for, about 243; a quarter of them
is less than one whole trial. Every search gets the same space, model, split and 12 seeds, and one
worker; what counts is the least validation error that it has seen when the quarter is used up.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from measure import Row, less_is_better, more_is_better
from peers import python_of

from clew.base.ids import new_id
from clew.base.records import CodeRef
from clew.compute import ProcessPool
from clew.compute.inline import InlinePool
from clew.db import Database
from clew.experiments import (
    Experiments,
    SearchDefinition,
    asha,
    choice,
    loguniform,
    random,
    uniform,
)
from clew.lineage import Lineage
from clew.repos import Repos
from clew.store import Store

PEERS = Path(__file__).parent / "search_peers"
SEEDS, TRIALS, EPOCHS, BUDGET = 12, 64, 81, 243
QUARTER = BUDGET // 4
ROUNDS = 5
TRIVIAL = {"inline": 600, "processes": 600, "Ray Tune": 10, "a process each": 40}

DIGITS = """
import os
import warnings
import digits

def model(trial):
    warnings.simplefilter("ignore")
    model = trial.restore() or digits.made(trial.params, trial.seed)
    for step in trial.steps():
        error = digits.epoch(model)
        with open(os.environ["ERRORS"], "a") as file:
            file.write(f"{error}\\n")
        trial.report(step, error=error)
    return model
"""
NOTHING = "def model(trial):\n    trial.report(1, loss=trial.params.x)\n"
SPACE = {
    "width": choice(8, 16, 32, 64),
    "rate": loguniform(1e-5, 1.0),
    "alpha": loguniform(1e-6, 1.0),
}


class House:
    """A workspace of its own, with one training function."""

    def __init__(self, place: Path, pool: object, code: str) -> None:
        self.place = place
        (place / "train.py").write_text(code)
        (place / "digits.py").write_text((PEERS / "digits.py").read_text())
        self.db = Database.open(f"sqlite:///{place / 'clew.db'}")
        self.db.create()
        store = Store.open(place / "store")
        self.door = Experiments(self.db, Repos(self.db, store), store, Lineage(self.db), pool)

    def search(
        self,
        definition: SearchDefinition,
        space: dict,
        cancelled: Callable[[], bool],
        **variables: str,
    ) -> None:
        self.door.search(
            job=new_id(), pipeline="bench", step="model", global_id=new_id(),
            definition=definition, space=space, inputs=[], snapshot_dir=str(self.place),
            function=CodeRef(snapshot="", file="train.py", name="model"),
            environment=variables, cancelled=cancelled,
        )  # fmt: skip


@contextmanager
def house(code: str, workers: int):
    """A workspace on the disk of temporary files; ``workers`` 0 is inline."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        scratch, logs = place / "scratch", place / "logs"
        pool = ProcessPool(workers, scratch, logs) if workers else InlinePool(scratch)
        found = House(place, pool, code)
        yield found
        pool.close()
        found.db.close()


def measure_digits() -> list[Row]:
    ours, stopping = quarter(promote=True), quarter(promote=False)
    arguments = [SEEDS, TRIALS, EPOCHS, QUARTER]
    optuna = told("optuna", "optuna_pruner.py", *arguments)
    ray = told("raytune", "ray_tune.py", "digits", *arguments)
    peers = {"our stopping rule": stopping, "Optuna's pruner": optuna, "Ray Tune": ray}
    return [
        less_is_better(
            "search_error_at_a_quarter", statistics.mean(ours) * 100, "%", name,
            statistics.mean(theirs) * 100, rounds=SEEDS, bar="at most 5 %, and less",
            holds=lambda error, ratio: error <= 5 and ratio > 1,
        )
        for name, theirs in peers.items()
    ]  # fmt: skip


def quarter(*, promote: bool) -> list[float]:
    """The least error of each seed within a quarter of the budget."""
    found = []
    with house(DIGITS, workers=1) as here:
        for seed in range(SEEDS):
            log = here.place / f"errors{promote}{seed}"
            log.touch()

            def spent(log: Path = log) -> bool:
                return len(log.read_text().splitlines()) >= QUARTER

            definition = asha(
                metric="error", trials=TRIALS, max_steps=EPOCHS, seed=seed, promote=promote
            )
            try:
                here.search(definition, SPACE, spent, ERRORS=str(log))
            except Exception as error:
                if getattr(error, "code", "") != "experiment.cancelled":
                    raise
            found.append(min(map(float, log.read_text().splitlines()[:QUARTER])))
    return found


def measure_trivial() -> list[Row]:
    inline = statistics.median(rate(0, TRIVIAL["inline"]) for _ in range(ROUNDS))
    processes = statistics.median(rate(2, TRIVIAL["processes"]) for _ in range(ROUNDS))
    tune = TRIVIAL["Ray Tune"] / told("raytune", "ray_tune.py", "trivial", TRIVIAL["Ray Tune"])
    alone = apart(TRIVIAL["a process each"])
    rows = []
    for name, ours, bar in (("inline", inline, 300), ("processes", processes, 60)):
        rows += [
            more_is_better(
                f"trivial_trials_{name}", ours, "1/s", against, theirs, rounds=ROUNDS,
                bar=f"at least {bar}/s", holds=lambda rate, _ratio, bar=bar: rate >= bar,
            )
            for against, theirs in (("Ray Tune", tune), ("a process each", alone))
        ]  # fmt: skip
    return rows


def rate(workers: int, trials: int) -> float:
    """Trials a second of a search whose trials do nothing; workers are warm."""
    with house(NOTHING, workers) as here:
        here.search(random(metric="loss", trials=4, max_steps=1), {"x": uniform(0, 1)}, never)
        begun = time.perf_counter()
        definition = random(metric="loss", trials=trials, max_steps=1)
        here.search(definition, {"x": uniform(0, 1)}, never)
        return trials / (time.perf_counter() - begun)


def apart(trials: int) -> float:
    """Trials a second where each is a Python process, two at a time."""
    begun = time.perf_counter()
    program = "import random; print(random.random())"
    for _ in range(trials // 2):
        pair = [
            subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
            for _ in range(2)
        ]
        for one in pair:
            one.wait()
    return trials / (time.perf_counter() - begun)


def told(peer: str, program: str, *arguments: object) -> list[float] | float:
    """What a peer's program prints last, as JSON."""
    done = subprocess.run(
        [python_of(peer), PEERS / program, *map(str, arguments)],
        capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{program} exited with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def never() -> bool:
    return False
