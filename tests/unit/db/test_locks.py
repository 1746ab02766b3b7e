from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from clew.base.errors import Conflict
from clew.db import FileLock

HOLD = """
import sys
from pathlib import Path
from clew.db import FileLock
lock = FileLock.acquire(Path(sys.argv[1]), "clew server")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_has_one_holder_whom_the_refusal_names(tmp_path):
    path = tmp_path / "engine.lock"
    with FileLock.acquire(path, "clew put"):
        with pytest.raises(Conflict) as caught:
            FileLock.acquire(path, "another")
        assert caught.value.code == "lock.held"
        assert f"clew put (process {os.getpid()})" in caught.value.message
        assert FileLock.holder(path) == f"clew put (process {os.getpid()})"
    assert FileLock.holder(path) is None


def test_a_released_lock_can_be_taken_and_released_again(tmp_path):
    path = tmp_path / "engine.lock"
    assert FileLock.holder(path) is None
    lock = FileLock.acquire(path, "a")
    lock.release()
    lock.release()
    FileLock.acquire(path, "b").release()


def test_the_death_of_the_holder_frees_the_lock(tmp_path):
    path = tmp_path / "engine.lock"
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Conflict, match=f"clew server .process {child.pid}."):
            FileLock.acquire(path, "me")
        child.send_signal(signal.SIGKILL)
        child.wait()
        FileLock.acquire(path, "me").release()


def test_children_do_not_inherit_a_lock(tmp_path):
    path = tmp_path / "engine.lock"
    lock = FileLock.acquire(path, "me")
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        close_fds=False,
    ):
        lock.release()
        FileLock.acquire(path, "me").release()


def test_a_copy_of_the_descriptor_does_not_keep_a_released_lock(tmp_path):
    path = tmp_path / "engine.lock"
    lock = FileLock.acquire(path, "me")
    copy = os.dup(lock._descriptor)  # as a child has it between fork and exec
    try:
        lock.release()
        FileLock.acquire(path, "me").release()
    finally:
        os.close(copy)
