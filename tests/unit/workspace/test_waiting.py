"""Whoever waits on the files does the work; whoever stops waiting leaves nothing half way."""

import threading

import pytest

from clew.base.errors import NotReady
from clew.base.settings import Settings
from clew.workspace import open_workspace

FILE = """
import time
from pathlib import Path
import clew

p = clew.Pipeline("p")
source = p.source("numbers")

@p.step(source.glob("/*.txt"), per="file")
def slow(number: str) -> str:
    while not Path({signal!r}).exists():
        time.sleep(0.01)
    return number
"""


@pytest.fixture
def signal(tmp_path):
    return tmp_path / "go"


@pytest.fixture
def workspace(tmp_path, signal):
    file = tmp_path / "project" / "p.py"
    file.parent.mkdir()
    file.write_text(FILE.format(signal=str(signal)))
    settings = Settings(home=tmp_path / ".clew", workers=2)
    opened = open_workspace(settings, create=True)
    opened.apply(file)
    yield opened
    opened.close()


def test_work_that_is_not_waited_for_any_longer_waits_and_is_taken_up_again(workspace, signal):
    commit = workspace.put("p/numbers", {"/one.txt": b"1"})
    started = threading.Event()
    for patience_s in (1, 5, 25, 120):  # until it was long enough for a worker to start
        with pytest.raises(NotReady) as raised:
            workspace.wait(
                commit.global_id,
                watch=lambda event: event.kind == "job.started" and started.set(),
                timeout_s=patience_s,
            )
        assert raised.value.code == "wait.timeout"
        if started.is_set():
            break
    assert started.is_set()
    [job] = workspace.jobs()
    assert job.state == "waiting"

    signal.touch()
    workspace.wait(commit.global_id)
    [job] = workspace.jobs()
    assert job.state == "done"
    assert workspace.read("p/slow@main:/one.txt") == b"1"
