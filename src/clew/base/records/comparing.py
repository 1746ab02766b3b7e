"""Runs side by side: what they were told, what came out, and what differs in data and code.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from msgspec import Struct

from clew.base.records.differences import FileDiff
from clew.base.records.knowing import Cause


class ComparedRun(Struct, frozen=True, kw_only=True):
    """One of the runs: a trial, with the model version that was made of it, if any.

    ``subject`` is what was asked for; ``kind`` what that is: trial, model_version, experiment, job.
    """

    subject: str
    kind: str
    id: str
    title: str
    trial: str
    experiment: str
    job: str
    model_version: str | None
    global_id: str
    state: str
    seed: int
    steps: int
    busy_s: float
    feasible: bool = True


class ComparedRow(Struct, frozen=True, kw_only=True):
    """A name with its value in each run, in their order; None where a run has none."""

    name: str
    values: tuple[object, ...]
    differs: bool


class DataPair(Struct, frozen=True, kw_only=True):
    """How a run's data differ from the first run's: the files, the first of them looked into.

    ``run`` is its place among the runs. ``note``: why they cannot be compared.
    """

    run: int
    added: int = 0
    removed: int = 0
    changed: int = 0
    files: tuple[FileDiff, ...] = ()
    note: str = ""


class ComparedData(Struct, frozen=True, kw_only=True):
    """Some data that runs rest on. ``role``: features, test or source.

    ``commits``: of each run, '' where it has none; ``pairs``: only for runs whose data differ.
    """

    role: str
    repo: str
    commits: tuple[str, ...]
    pairs: tuple[DataPair, ...] = ()


class ComparedCode(Struct, frozen=True, kw_only=True):
    """How a run's code differs from the first run's, piece by piece; nothing: it is the same."""

    run: int
    causes: tuple[Cause, ...]
    note: str = ""


class Comparison(Struct, frozen=True, kw_only=True):
    """Two or more runs; the first is what the others are held against.

    ``metrics``: what trials reported last, and with ``test `` before the name, what the model
    versions do on their frozen test rows. ``configuration``: fields of the search, the step and the
    evaluation. ``environment``: versions of packages.
    """

    runs: tuple[ComparedRun, ...]
    parameters: tuple[ComparedRow, ...]
    metrics: tuple[ComparedRow, ...]
    configuration: tuple[ComparedRow, ...]
    environment: tuple[ComparedRow, ...]
    data: tuple[ComparedData, ...]
    code: tuple[ComparedCode, ...]
    notes: tuple[str, ...] = ()
