"""The GPUs of this machine: which there are, and what they hold.

Reads ``nvidia-smi``, which comes with every driver; knows no library of any framework. The one
place that asks it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

import msgspec

FIELDS = ("index", "uuid", "name", "memory.total", "memory.used", "utilization.gpu")
_TIMEOUT_S = 20
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
