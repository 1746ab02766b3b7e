"""Slow datums hold up nobody, and what user code does to its process is told of its own datum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Lab

WAITS = """
import time
from pathlib import Path

def up(raw: str) -> str:
    name, home, others = raw.split()
    until = time.monotonic() + 60
    while name == "slow" and len(list(Path(home).glob("*.done"))) < int(others):
        assert time.monotonic() < until, "those behind it wait for it"
        time.sleep(0.01)
    Path(home, f"{name}.done").write_text("")
    return name
"""

ENDS = """
import os, sys, threading, time

def up(raw: str) -> str:
    if raw == "exit":
        sys.exit(3)
    if raw == "interrupt":
        raise KeyboardInterrupt
    if raw == "recurse":
        return up(raw)
    if raw == "close":
        for number in range(3):
            os.close(number)
    if raw == "thread":
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    if raw == "fork" and os.fork() == 0:
        return "of the child"
    return raw.upper()
"""


@pytest.mark.parametrize("slow", ["/00.txt", "/03.txt"])
def test_what_waits_behind_a_slow_datum_goes_to_other_workers(lab: Lab, slow: str) -> None:
    lab.code(WAITS)
    lab.apply(lab.step("up", "raw/"))
    names = [f"/{number:02}.txt" for number in range(16)]
    marks = lab.home / "marks"
    marks.mkdir()
    lab.put({name: f"{'slow' if name == slow else name[1:3]} {marks} 15" for name in names})
    lab.run()
    assert lab.last("up").state == "done"
    assert set(lab.output("up")) == set(names)
    assert len(list(marks.iterdir())) == 16


def test_what_code_does_to_its_process_is_told_of_its_own_datum(lab: Lab) -> None:
    lab.code(ENDS)
    lab.apply(lab.step("up", "raw/"))
    bad = {"exit": "SystemExit: 3", "interrupt": "KeyboardInterrupt", "recurse": "RecursionError"}
    good = ["close", "thread", "fork", "plain"]
    lab.put({f"/{name}.txt": name for name in [*bad, *good]})
    lab.run()
    job = lab.last("up")
    assert (job.state, job.failed) == ("failed", 3), job.reason + job.error
    assert lab.states("up") == {
        **{f"/{name}.txt": "failed" for name in bad},
        **{f"/{name}.txt": "done" for name in good},
    }
    for name, text in bad.items():
        assert text in lab.datums("up")[f"/{name}.txt"].error
    lab.put({}, deletes=[f"/{name}.txt" for name in bad])
    lab.run()
    assert lab.output("up") == {f"/{name}.txt": name.upper() for name in good}
