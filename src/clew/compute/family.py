"""All that a worker has started: found and ended, also after the pool was killed.

Knows ``/proc``; where there is none, a process group has to do. A process belongs to a worker by a
variable that it has inherited and that outlives every fork.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "CLEW_POOL"
"""The variable that all processes of a worker have: ``POOL.NUMBER``."""

_PROC = Path("/proc")
_ROUNDS = 100
_PAUSE_S = 0.002  # what was killed is still seen for a moment


def end_group(pid: int) -> None:
    """Kill the group that a process leads; it keeps its number while one of it lives."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def end_family(pid: int, mark: str) -> None:
    """Kill a worker and all that it has started, sessions and daemons of their own included."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # it can start no more while the others are looked for
    end_marked(mark)
    end_group(pid)


def end_marked(mark: str) -> None:
    """Kill every process of a pool, or of one of its workers; those that fork meanwhile too."""
    for _ in range(_ROUNDS):
        members = list(_marked(mark.encode()))
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_S)


def _marked(mark: bytes) -> Iterator[int]:
    """Processes that live and have the mark, or one below it."""
    start = MARK.encode() + b"="
    for pid in _pids():
        with contextlib.suppress(OSError):
            environment = (_PROC / str(pid) / "environ").read_bytes()
            at = 0 if environment.startswith(start) else environment.find(b"\0" + start) + 1
            if not at and not environment.startswith(start):
                continue
            value = environment[at + len(start) :].partition(b"\0")[0]
            if value == mark or value.startswith(mark + b"."):
                yield pid


def _pids() -> Iterator[int]:
    try:
        names = os.listdir(_PROC)  # noqa: PTH208 - names are enough
    except OSError:
        return
    yield from (int(name) for name in names if name.isdigit() and int(name) != os.getpid())
