"""What a trial uses of its machine, sampled while it runs: cores, memory, GPUs.

Knows /proc, and who asks nvidia-smi; where either is missing, what it would tell is left out.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from clew.base.clock import now, to_us
from clew.base.gpus import gpus

FIRST_S = 2.0
EVERY_S = 5.0
LONGEST_S = 60.0
"""The first sample, the pause between two, and how long that grows in a long training."""

_GROWS_AFTER = 100


class Sampling:
    """Tells ``send`` now and then what this process and those below it use, while it is open."""

    def __init__(self, send: Callable[[dict[str, object]], None]) -> None:
        self._send = send
        self._over = threading.Event()
        own = os.times()  # looking at every process is for those that last
        busy_s = own.user + own.system + own.children_user + own.children_system
        self._begun = Usage(time.monotonic(), busy_s, {})
        self._thread = threading.Thread(target=self._run, name="clew-usage", daemon=True)

    def __enter__(self) -> Sampling:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        taken, before = 0, self._begun
        while not self._over.wait(pause_s(taken)):
            before = usage(before)
            taken += 1
            values = before.values | gpu_values()
            self._send({"kind": "usage", "at_us": to_us(now()), "values": values})


class Usage:
    """Processor time so far, and what that makes since the sample before."""

    def __init__(self, at_s: float, busy_s: float, values: dict[str, float]) -> None:
        self.at_s = at_s
        self.busy_s = busy_s
        self.values = values


def pause_s(taken: int) -> float:
    """Seconds to the next sample, after so many."""
    return min(LONGEST_S, EVERY_S * (1 + taken // _GROWS_AFTER)) if taken else FIRST_S


def usage(before: Usage | None) -> Usage:
    """``cpu_percent`` (100 is one core) since ``before``, and ``memory_bytes`` now."""
    at_s = time.monotonic()
    busy_s, memory_bytes = _of_family(os.getpid())
    values = {"memory_bytes": float(memory_bytes)} if memory_bytes else {}
    if before is not None and at_s > before.at_s:
        # A process that has ended takes its time with it: less than none is none.
        spent_s = max(0.0, busy_s - before.busy_s)
        values["cpu_percent"] = round(100 * spent_s / (at_s - before.at_s), 1)
    return Usage(at_s, busy_s, values)


def gpu_values() -> dict[str, float]:
    """``gpu0_percent`` and ``gpu0_memory_bytes`` of each GPU that this process may use."""
    found: dict[str, float] = {}
    for gpu in gpus():
        if gpu.load is not None:
            found[f"gpu{gpu.index}_percent"] = round(100 * gpu.load, 1)
        found[f"gpu{gpu.index}_memory_bytes"] = float(gpu.used_bytes)
    return found


def _of_family(root: int) -> tuple[float, int]:
    """Processor seconds and resident bytes of a process and all below it."""
    own = os.times()
    found = _processes()
    if root not in found:
        return own.user + own.system + own.children_user + own.children_system, 0
    below: dict[int, list[int]] = {}
    for pid, (parent, _, _) in found.items():
        below.setdefault(parent, []).append(pid)
    busy_s, memory_bytes, queue = own.children_user + own.children_system, 0, [root]
    while queue:
        pid = queue.pop()
        _, ticks, pages = found[pid]
        busy_s += ticks / os.sysconf("SC_CLK_TCK")
        memory_bytes += pages * os.sysconf("SC_PAGE_SIZE")
        queue += below.get(pid, [])
    return busy_s, memory_bytes


def _processes() -> dict[int, tuple[int, int, int]]:
    """Parent, ticks and pages of each process, by its id; empty where there is no /proc."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            continue  # it ended since it was listed
        found[int(place.parent.name)] = (
            int(fields[1]),
            int(fields[11]) + int(fields[12]),
            int(fields[21]),
        )
    return found
