"""Ranks on two real Ray nodes, started by Ray Train; one of them is killed, or its node is."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="not installed: torch"),
]
PIPELINE = """
import os, signal, time
from pathlib import Path
import clew
import numpy as np
import polars as pl

SIGNS = Path({signs!r})
p = clew.Pipeline("team")
rows = p.source("rows")


class Line:
    def __init__(self, slope):
        self.slope = slope

    def predict(self, frame):
        return frame["x"].to_numpy() * self.slope


def once(what):
    # True for the first that asks, over all processes and runs
    try:
        (SIGNS / what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def disturbed(trial, step):
    {trouble}


@p.train(rows, target="y", test=clew.holdout(0.2), workers={workers}, resources={{"CPU": {cpus}}},
         search=clew.single(metric="loss", max_steps=8, seed=5))
def model(data: pl.DataFrame, trial: clew.Trial):
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo")
    torch.manual_seed(trial.seed)
    net = nn.Linear(1, 1)
    saved = trial.restore()
    if saved:
        net.load_state_dict(saved)
    ddp = DistributedDataParallel(net)
    steps = torch.optim.SGD(ddp.parameters(), lr=0.05)
    own = slice(trial.rank, None, trial.world_size)
    x = torch.tensor(data["x"].to_numpy()[own], dtype=torch.float32)[:, None]
    y = torch.tensor(data["y"].to_numpy()[own], dtype=torch.float32)[:, None]
    print("rank", trial.rank, "on", os.environ["NODE"], os.environ["GROUP_RANK"],
          os.environ["LOCAL_RANK"])
    for step in trial.steps():
        time.sleep(0.4)  # checkpoints are kept once a second
        disturbed(trial, step)
        steps.zero_grad()
        loss = ((ddp(x) - y) ** 2).mean()
        loss.backward()
        steps.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        trial.report(step, loss=total.item() / trial.world_size)
        trial.checkpoint(net.state_dict())
    dist.destroy_process_group()
    return Line(net.weight.item())
"""
DEATH = """if trial.rank == 1 and step == 5 and once("killed"):
        os.kill(os.getpid(), signal.SIGKILL)"""
STAND = """if os.environ["NODE"] == "doomed" and step == 5 and once("stands"):
        while True:
            signal.pause()"""
ROWS = b"x,y\n" + b"".join(b"%f,%f\n" % (n / 50, 3 * n / 50) for n in range(100))


@pytest.fixture(autouse=True)
def keys(ray_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ray_cluster.variables.items():
        monkeypatch.setenv(name, value)


@contextlib.contextmanager
def workspace(home: Path, address: str) -> Iterator[Any]:
    found = open_workspace(Settings(home=home / ".clew", compute=address), create=True)
    try:
        yield found
    finally:
        found.close()


def train(place: Any, directory: Path, trouble: str = "return", workers: int = 2) -> Any:
    signs = directory / "signs"
    signs.mkdir(exist_ok=True)
    text = PIPELINE.format(signs=str(signs), trouble=trouble, workers=workers, cpus=2 * workers)
    place.apply_files({"team.py": text.encode()}, "team.py")
    place.put("team/rows", {"/rows.csv": ROWS})
    place.wait()
    jobs = {job.step: job for job in place.jobs(pipeline="team")}
    assert jobs["model"].state == "done", jobs["model"].error
    [experiment] = place.experiments()
    [trial] = place.experiment(experiment.id).trials
    return place.trial(trial.id)


def losses(trial: Any) -> list[float]:
    assert [point.step for point in trial.points] == list(range(1, 9))
    return [point.metrics["loss"] for point in trial.points]


@pytest.fixture(scope="module")
def calm(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses that nobody disturbs; the ranks are on two nodes."""
    directory = tmp_path_factory.mktemp("calm")
    before = dict(os.environ)
    os.environ.update(ray_cluster.variables)
    try:
        with workspace(directory, ray_cluster.address) as place:
            trial = train(place, directory)
    finally:
        os.environ.clear()
        os.environ.update(before)
    said = {line for line in trial.log.splitlines() if " on " in line and "rank " in line}
    nodes = {line.split(" on ")[1].split()[0] for line in said}
    assert nodes == {"left", "right"}, trial.log
    assert {tuple(line.split()[-2:]) for line in said} == {("0", "0"), ("1", "0")}
    return losses(trial)


def test_a_killed_rank_on_another_node_changes_no_loss(
    ray_cluster: Any, calm: list[float], tmp_path: Path
) -> None:
    with workspace(tmp_path, ray_cluster.address) as place:
        trial = train(place, tmp_path, DEATH)
    assert (tmp_path / "signs" / "killed").exists()
    assert losses(trial) == pytest.approx(calm, abs=1e-6)
    assert "; on after step " in trial.log
    assert "; on after step 0]" not in trial.log, "it began anew in place of going on"


def test_ranks_that_reach_the_store_through_their_launcher_learn_the_same(
    ray_cluster: Any, calm: list[float], tmp_path: Path
) -> None:
    with workspace(tmp_path, f"{ray_cluster.address}?store=relay") as place:
        trial = train(place, tmp_path)
    assert losses(trial) == pytest.approx(calm, abs=1e-6)


def test_a_node_that_dies_takes_its_rank_along_and_the_training_goes_on_with_another(
    ray_cluster: Any, tmp_path: Path
) -> None:
    doomed = ray_cluster.add("doomed")
    sign, over = tmp_path / "signs" / "stands", threading.Event()

    def kill() -> None:
        while not sign.exists():
            if over.wait(0.05):
                return
        doomed.kill()
        ray_cluster.add("heir")

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with workspace(tmp_path, ray_cluster.address) as place:
            trial = train(place, tmp_path, STAND, workers=3)
    finally:
        over.set()
        killer.join()
        for node in [one for one in ray_cluster.nodes if one.name in {"doomed", "heir"}]:
            ray_cluster.nodes.remove(node)
            node.stop()
    assert sign.exists()
    losses(trial)
    assert "; on after step " in trial.log
    said = [line for line in trial.log.splitlines() if " on heir " in line]
    assert said, trial.log
