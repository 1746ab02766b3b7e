"""What a trial keeps besides its metrics: files, checkpoints, and what it used of the machine.

Plain values; they know no storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from clew.base.records.work import MetricPoint, Trial


@dataclass(frozen=True, kw_only=True)
class TrialFile:
    """A file that a trial logged. ``kind``: text, table, figure or image.

    ``path`` is ``name/STEP.suffix``: one file for each name and step.
    """

    trial: str
    path: str
    kind: str
    step: int
    size_bytes: int
    digest: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class UsageSample:
    """What a trial used of its machine at a moment.

    ``values``: ``cpu_percent`` (100 is one core), ``memory_bytes``, and for each GPU
    ``gpu0_percent`` and ``gpu0_memory_bytes`` (of the whole GPU).
    """

    at: datetime
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrialDetail:
    """A trial with all that it kept: points by step, files by path, samples by time, its log."""

    trial: Trial
    points: tuple[MetricPoint, ...]
    files: tuple[TrialFile, ...]
    usage: tuple[UsageSample, ...]
    log: str
