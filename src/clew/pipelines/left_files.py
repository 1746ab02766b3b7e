"""Expectations of a step that is a program: each table among the files that it left must keep them.

Knows files and their formats; what follows from a report is for the worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from msgspec.structs import replace

from clew.base.errors import Invalid
from clew.codecs import Place, reader_of
from clew.quality import FORMATS, Expectation, QualityReport, check
from clew.repos import File
from clew.store import Store


def check_files(
    store: Store, outputs: Sequence[tuple[str, str, int]], expectations: Sequence[Expectation]
) -> QualityReport:
    """One report of all tables among files (path, digest, size) that are in the store.

    Raises:
        Invalid: ``step.output`` where there is no table; ``file.unreadable``.
    """
    read = reader_of("polars.DataFrame")
    reports = []
    for path, digest, size in outputs:
        if PurePosixPath(path).suffix in FORMATS:
            frame = read([File.of(store, path, digest, size)], Place())
            reports.append((path, check(frame, expectations)))
    if not reports:
        raise Invalid(
            "step.output",
            "The program left no table, and it is expected what its tables hold.",
            hint=f"Let it write a file that ends in {', '.join(FORMATS)}.",
        )
    return QualityReport(
        passed=all(report.passed for _, report in reports),
        rows=sum(report.rows for _, report in reports),
        results=tuple(
            replace(result, message=f"{path}: {result.message}")
            for path, report in reports
            for result in report.results
        ),
    )
