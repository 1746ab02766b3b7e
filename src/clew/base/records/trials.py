"""What a trial keeps besides its metrics: files, checkpoints, and what it used of the machine.

Plain values; they know no storage.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from clew.base.records.work import MetricPoint, Trial


class TrialFile(Struct, frozen=True, kw_only=True):
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


class UsageSample(Struct, frozen=True, kw_only=True):
    """What a trial used of its machine at a moment.

    ``values``: ``cpu_percent`` (100 is one core), ``memory_bytes``, and for each GPU
    ``gpu0_percent`` and ``gpu0_memory_bytes`` (of the whole GPU).
    """

    at: datetime
    values: dict[str, float]


class TrialDetail(Struct, frozen=True, kw_only=True):
    """A trial with all that it kept: points by step, files by path, samples by time, its log."""

    trial: Trial
    points: tuple[MetricPoint, ...]
    files: tuple[TrialFile, ...]
    usage: tuple[UsageSample, ...]
    log: str


class CheckpointInfo(Struct, frozen=True, kw_only=True):
    """A checkpoint: its commit, of which trial after how many steps, with which metric.

    ``kept_for``: why it stays; without a reason it goes when checkpoints are pruned. ``size_bytes``
    are those of its files, whatever they share with others.
    """

    commit: str
    trial: str
    number: int
    step: int
    value: float | None
    size_bytes: int
    at: datetime
    kept_for: tuple[str, ...]


class Pruned(Struct, frozen=True, kw_only=True):
    """Checkpoints that went (or would go, where not ``done``) and those that stay."""

    removed: tuple[CheckpointInfo, ...]
    kept: tuple[CheckpointInfo, ...]
    done: bool
