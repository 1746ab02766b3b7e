"""How a row is measured: pairs in one run, several rounds, medians; and how it is written down."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured comparison.

    ``ratio`` is how many times better ours is (above 1: ours is better), whatever the unit.
    ``bar`` says in words what is asked; ``holds`` whether it is met.
    """

    name: str
    ours: float
    unit: str
    against: str
    theirs: float
    ratio: float
    rounds: int
    bar: str
    holds: bool


def less_is_better(
    name: str, ours: float, unit: str, against: str, theirs: float, *, rounds: int, bar: str,
    holds: Callable[[float, float], bool],
) -> Row:  # fmt: skip
    return Row(
        name=name, ours=ours, unit=unit, against=against, theirs=theirs, ratio=theirs / ours,
        rounds=rounds, bar=bar, holds=holds(ours, theirs / ours),
    )  # fmt: skip


def more_is_better(
    name: str, ours: float, unit: str, against: str, theirs: float, *, rounds: int, bar: str,
    holds: Callable[[float, float], bool],
) -> Row:  # fmt: skip
    return Row(
        name=name, ours=ours, unit=unit, against=against, theirs=theirs, ratio=ours / theirs,
        rounds=rounds, bar=bar, holds=holds(ours, ours / theirs),
    )  # fmt: skip


def seconds(command: Sequence[object], *, cwd: Path, env: dict[str, str] | None = None) -> float:
    """Wall seconds of a whole process; its failure is an error."""
    start = time.perf_counter()
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    spent = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command} exited with {done.returncode}:\n{done.stdout[-3000:]}")
    return spent


def paired(rounds: int, *runs: Callable[[], float]) -> list[float]:
    """Medians of several things, measured in turn (A B A B …) so that drift hits all alike."""
    figures: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for values, run in zip(figures, runs, strict=True):
            values.append(run())
    return [statistics.median(values) for values in figures]


def machine() -> str:
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {system}"
