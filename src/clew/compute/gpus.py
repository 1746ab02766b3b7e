"""The GPUs of this machine: which there are, what they hold, and who has them now.

Reads ``nvidia-smi``, which comes with every driver; knows no library of any framework.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from clew.base.errors import Unavailable

FIELDS = ("index", "uuid", "name", "memory.total", "memory.used", "utilization.gpu")
_TIMEOUT_S = 20
_AGAIN_S = 0.2
_MIB = 1 << 20
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU as it was a moment ago. ``load`` is the share of time it worked, None if unknown."""

    index: int
    uuid: str
    name: str
    memory_bytes: int
    used_bytes: int
    load: float | None = None


def gpus(environment: Mapping[str, str] | None = None) -> list[Gpu]:
    """Those that this process may use (``CUDA_VISIBLE_DEVICES``), in that order; none is no error.

    A slice of a GPU (MIG) that the variable names counts as one, with what its GPU says.
    """
    known = os.environ if environment is None else environment
    wanted = known.get(VISIBLE)
    if wanted is not None and not _names(wanted):
        return []
    program = shutil.which("nvidia-smi")
    return [] if program is None else visible(read_gpus(_ask(program)), wanted)


def read_gpus(text: str) -> list[Gpu]:
    """What ``nvidia-smi --query-gpu=… --format=csv,noheader,nounits`` printed.

    Lines that are not of a GPU (warnings of the driver, GPUs that have fallen off) are passed over.
    """
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(FIELDS) or not cells[0].isdigit():
            continue
        total, used, load = (_number(cell) for cell in cells[3:])
        found.append(
            Gpu(
                index=int(cells[0]),
                uuid=cells[1],
                name=cells[2],
                memory_bytes=int((total or 0) * _MIB),
                used_bytes=int((used or 0) * _MIB),
                load=None if load is None else load / 100,
            )
        )
    return found


def visible(found: Sequence[Gpu], wanted: str | None) -> list[Gpu]:
    """Those that ``CUDA_VISIBLE_DEVICES`` names: numbers, (beginnings of) ids, up to the first
    that is not there, as CUDA reads it. All of them where it is not set.
    """
    if wanted is None:
        return list(found)
    chosen: list[Gpu] = []
    for name in _names(wanted):
        if name.startswith("MIG-"):
            chosen += [msgspec.structs.replace(one, uuid=name) for one in found[:1]]
            continue
        one = next((gpu for gpu in found if _is(gpu, name)), None)
        if one is None:
            break
        chosen.append(one)
    return chosen


class Lease:
    """GPUs that no other group of this user on this machine is given while this is open.

    Held by locks that the system lets go when the process ends, however it ends.
    """

    def __init__(self, held: Mapping[int, Gpu]) -> None:
        self._held = dict(held)

    @property
    def gpus(self) -> list[Gpu]:
        """In the order in which they were asked for."""
        return list(self._held.values())

    def close(self) -> None:
        """Give them back. Idempotent."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held = {}


def lease(
    count: int,
    *,
    among: Callable[[], list[Gpu]] = gpus,
    directory: Path | None = None,
) -> Lease:
    """Wait until ``count`` GPUs are free, and hold them: all or none, so that nobody waits in turn.

    Raises:
        Unavailable: ``gpus.too_few`` where there are not so many.
    """
    places = directory or Path(tempfile.gettempdir(), f"clew-gpus-{os.getuid()}")
    if not count:
        return Lease({})
    found = among()
    if len(found) < count:
        raise Unavailable(
            "gpus.too_few",
            f"{count} GPUs are wanted, and {len(found)} are here.",
            hint="Ask for fewer, or look at nvidia-smi and CUDA_VISIBLE_DEVICES.",
        )
    places.mkdir(mode=0o700, exist_ok=True)
    while True:
        held: dict[int, Gpu] = {}
        for gpu in found:
            descriptor = _lock(places / gpu.uuid.replace("/", "-"))
            if descriptor is not None:
                held[descriptor] = gpu
            if len(held) == count:
                return Lease(held)
        Lease(held).close()
        time.sleep(_AGAIN_S)


def _ask(program: str) -> str:
    command = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""  # a driver that hangs has no GPUs to give
    return told.stdout if told.returncode == 0 else ""


def _names(wanted: str) -> list[str]:
    return [name.strip() for name in wanted.split(",") if name.strip() not in {"", "-1"}]


def _is(gpu: Gpu, name: str) -> bool:
    return gpu.index == int(name) if name.isdigit() else gpu.uuid.startswith(name)


def _number(cell: str) -> float | None:
    """``[N/A]`` and its kind are no number."""
    try:
        return float(cell)
    except ValueError:
        return None


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
