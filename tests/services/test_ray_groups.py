"""A group of ranks on two real Ray nodes: it is cancelled whole, and keeps off a bad node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from clew.base.settings import Settings
from clew.workspace import open_workspace

pytestmark = pytest.mark.timeout(600)
PIPELINE = """
import os, signal
from pathlib import Path
import clew
import polars as pl
from sklearn.dummy import DummyClassifier

SIGNS = Path({signs!r})
p = clew.Pipeline("team")
rows = p.source("rows")


@p.train(rows, target="y", test=clew.holdout(0.2), workers=2, resources={{"CPU": 4}},
         search=clew.single(metric="loss", max_steps=1),
         trials=clew.trials(on_log=clew.on_log("fallen off the bus", exclude_slot=True)))
def model(data: pl.DataFrame, trial: clew.Trial):
    node = os.environ["NODE"]
    (SIGNS / f"{{node}}-{{os.getpid()}}").touch()
    {trouble}
    for step in trial.steps():
        trial.report(step, loss=1.0)
    return DummyClassifier().fit(data.select("x").to_numpy(), data["y"].to_numpy())
"""
STAND = "signal.pause()"
BAD = """if node == "left":
        raise RuntimeError("GPU has fallen off the bus")"""
ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(40))


@pytest.fixture
def place(ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A workspace on the cluster."""
    for name, value in ray_cluster.variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings(home=tmp_path / ".clew", compute=ray_cluster.address)
    found = open_workspace(settings, create=True)
    try:
        yield found
    finally:
        found.close()


def begin(place: Any, signs: Path, trouble: str) -> None:
    signs.mkdir(exist_ok=True)
    text = PIPELINE.format(signs=str(signs), trouble=trouble)
    place.apply_files({"team.py": text.encode()}, "team.py")
    place.put("team/rows", {"/rows.csv": ROWS})


def seen(signs: Path) -> dict[int, str]:
    """Process → node of the ranks that have begun."""
    return {int(pid): node for node, _, pid in (one.name.partition("-") for one in signs.iterdir())}


def until(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 240
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def training(place: Any) -> Any:
    return next(job for job in place.jobs(pipeline="team") if job.kind == "train")


def test_a_cancelled_group_ends_on_every_node_and_the_next_one_has_its_slots(
    place: Any, tmp_path: Path
) -> None:
    signs = tmp_path / "signs"
    begin(place, signs, STAND)
    worker = threading.Thread(target=place.wait)
    worker.start()
    try:
        until(lambda: set(seen(signs).values()) == {"left", "right"}, "both ranks run")
    finally:
        place.cancel(training(place).id)
        worker.join()
    assert training(place).state == "cancelled"
    until(lambda: not any(map(psutil.pid_exists, seen(signs))), "every rank has ended")
    begin(place, tmp_path / "again", "pass")
    place.wait()
    assert training(place).state == "done", training(place).error
    assert set(seen(tmp_path / "again").values()) == {"left", "right"}


def test_a_node_that_a_rule_excludes_gets_no_rank_any_more_until_it_is_given_back(
    place: Any, ray_cluster: Any, tmp_path: Path
) -> None:
    spare = ray_cluster.add("spare")
    signs = tmp_path / "signs"
    try:
        # Ranks may have gone to the other two at first: then nothing is known of the bad one
        for turn in range(5):
            begin(place, signs, f"{BAD}\n    turn = {turn}")
            place.wait()
            assert training(place).state == "done", training(place).error
            if "left" in seen(signs).values():
                break
        assert "left" in seen(signs).values(), "no rank ever came to the bad node"
        out = [slot for pool in place.pools() for slot in pool.slots if slot.state == "excluded"]
        assert ["fallen off the bus" in slot.reason for slot in out] == [True]
        begin(place, tmp_path / "later", "pass")
        place.wait()
        assert set(seen(tmp_path / "later").values()) == {"right", "spare"}
        place.restore_slot(out[0].name)
        states = {slot.state for pool in place.pools() for slot in pool.slots}
        assert "excluded" not in states
    finally:
        ray_cluster.nodes.remove(spare)
        spare.stop()
