"""kill -9 of the engine at any moment: every job ends right, and no finished datum runs again."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from clew.pipelines import tables

if TYPE_CHECKING:
    from .conftest import Lab

DATUMS = 150


def done_keys(lab: Lab) -> dict[str, int]:
    query = select(tables.datums.c.key, tables.datums.c.finished_us)
    with lab.db.read() as tx:
        return {row.key: row.finished_us for row in tx.execute(query)}


def start_engine(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("conftest.py")), str(home)]
    )


def wait_for(lab: Lab, seen: int, *, rows: bool) -> None:
    """Until the engine has begun with a job, or has told of datums that are done."""
    last = seen
    while not (done_keys(lab) if rows else lab.db.events.after(seen, {"job.started"}, limit=1)):
        assert lab.db.events.wait(last, 60), "nothing more is done"
        last = lab.db.events.last()


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_engine_goes_on_where_it_was(lab: Lab, tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)
    runs = tmp_path / "runs"
    lab.code(
        f"""
        import os, time
        def up(raw: str) -> str:
            with open({str(runs)!r}, "a") as file:
                file.write(raw + " ")
            time.sleep(0.01)
            return raw.upper()
        def join(up: list[str]) -> str:
            return "".join(sorted(up))
        """
    )
    lab.apply(lab.step("up", "raw/"), lab.step("join", "up"))
    change = lab.put({f"/{n}.txt": f"<{n}>" for n in range(DATUMS)}).global_id
    kept: dict[str, int] = {}
    repeats = Counter[str]()
    for turn in range(3):
        seen = lab.db.events.last()
        engine = start_engine(tmp_path)
        wait_for(lab, seen, rows=turn > 0)
        threading.Event().wait(moments.uniform(0.1, 0.7))  # the moment is the test
        engine.kill()
        engine.wait()
        now = done_keys(lab)
        assert kept.items() <= now.items()
        kept = now
        repeats["kills"] += 1
    assert start_engine(tmp_path).wait(timeout=60) == 0
    assert kept.items() <= done_keys(lab).items()
    assert {job.state for job in lab.pipelines.of_change(change)} == {"done"}
    assert len(lab.output("up")) == DATUMS
    assert lab.output("join")["/join.txt"].count("<") == DATUMS
    assert len(done_keys(lab)) == DATUMS + 1
    ran = Counter(runs.read_text().split())
    assert max(ran.values()) <= 1 + repeats["kills"]
    assert kept, "no engine was killed in the middle of its work"
    states = {commit.state for commit in lab.repos.of_change(change)}
    assert states == {"finished"}


def test_recovery_lets_running_jobs_wait_again(lab: Lab) -> None:
    lab.code("def up(raw: str) -> str: return raw")
    lab.apply(lab.step("up", "raw/"))
    lab.put({"/a.txt": "a"})
    with lab.db.begin() as tx:
        tx.execute(tables.jobs.update().values(state="running"))
    assert lab.pipelines.recover() == 1
    lab.run()
    assert lab.last("up").state == "done"
