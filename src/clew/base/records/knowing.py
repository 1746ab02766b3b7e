"""Records of what is known of results: checks, repetitions, causes.

Plain values that travel between rooms and over the wire; they know no storage.
"""

from __future__ import annotations

from msgspec import Struct

from clew.base.records.differences import TableDiff, TextDiff
from clew.base.records.work import UndeclaredRead


class Cause(Struct, frozen=True, kw_only=True):
    """One difference between what something was made of and what was before.

    ``kind``: code, package, parameter, option, expectation, input, depends, version, file, run or
    accepted.
    ``diff`` is a unified diff of the piece of code; '' where ``old`` and ``new`` say it all.
    """

    kind: str
    name: str
    old: str = ""
    new: str = ""
    diff: str = ""


class FileCheck(Struct, frozen=True, kw_only=True):
    """A file that is not the same when it is made again. ``kind``: changed, added or removed.

    ``offset`` is the first byte that differs, None where only one side has the file.
    """

    path: str
    kind: str
    old: str
    new: str
    offset: int | None = None
    table: TableDiff | None = None
    text: TextDiff | None = None


class DatumCheck(Struct, frozen=True, kw_only=True):
    """A datum that was run again. ``verdict``: same, different or failed."""

    datum: str
    step: str
    job: str
    """The job that made the result which it is compared with."""
    inputs: tuple[str, ...]
    verdict: str
    files: tuple[FileCheck, ...] = ()
    error: str = ""


class Verification(Struct, frozen=True, kw_only=True):
    """Datums of a pipeline that would be skipped, run again to see whether they give the same.

    ``known`` is how many there are, of which ``datums`` were drawn with ``seed``.
    """

    pipeline: str
    steps: tuple[str, ...]
    seed: int
    known: int
    same: int
    different: int
    failed: int
    datums: tuple[DatumCheck, ...]
    undeclared: tuple[UndeclaredRead, ...] = ()


class MetricCheck(Struct, frozen=True, kw_only=True):
    """A metric of a training, then and when it was repeated."""

    name: str
    old: float
    new: float | None


class Reproduction(Struct, frozen=True, kw_only=True):
    """A job that was repeated in a scratch place. ``verdict``: identical, equal, different, failed.

    ``equal``: the metrics of a training are the same, its bytes are not. ``expected`` and ``found``
    are digests of the output's tree; of a training, of the model's that its trial returned.
    ``packages`` differ from then (``polars 2.0 → 2.1``); ``reasons`` are what may explain a
    difference.
    """

    job: str
    commit: str
    pipeline: str
    step: str
    kind: str
    verdict: str
    expected: str
    found: str
    datums: int
    files: tuple[FileCheck, ...] = ()
    packages: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    metrics: tuple[MetricCheck, ...] = ()
    error: str = ""
    test_commit: str = ""
    """The frozen test set of a training, which was kept out of it again."""
    trial: str = ""
    """The trial of a training that won, which ran again with its parameters and seed."""
