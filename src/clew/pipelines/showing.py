"""Datums as people see them: from rows, from what runs now, from what was known before.

Knows rows and units as values; asks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clew.base.records import Datum
from clew.pipelines.datums import Unit, datum_id
from clew.pipelines.signals import Live
from clew.pipelines.work import Known, unchanged_since


def datum_of(row: Any) -> Datum:
    """The record of a row of ``datums``."""
    return Datum(
        id=datum_id(row.key),
        job=row.job,
        key=row.key,
        state=row.state,
        reason=row.reason,
        inputs=_inputs(row.inputs),
        duration_s=row.duration_us / 1e6,
        error=row.error,
        made_by=row.job,
        evidence=row.evidence,
    )


def live_datum(row: Any, live: Live) -> Datum:
    """A datum of a job that runs now."""
    return Datum(
        id=datum_id(live.unit.key),
        job=row.id,
        key=live.unit.key,
        state="running",
        reason=live.reason,
        inputs=_inputs(live.unit.files()),
        duration_s=live.spent_s,
    )


def _inputs(files: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((f"{repo}:{path}", digest) for repo, path, digest in files)


def skipped_datum(row: Any, unit: Unit, known: Known) -> Datum:
    """A datum of a job whose result was known."""
    return Datum(
        id=datum_id(unit.key),
        job=row.id,
        key=unit.key,
        state="skipped",
        reason=unchanged_since(known.job),
        inputs=_inputs(unit.files()),
        duration_s=0.0,
        made_by=known.job,
    )
