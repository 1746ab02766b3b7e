"""Datums that run anew although they are done, because somebody asked for it.

Reads rows and changes the work of a job; knows nothing of how it is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clew.db import Database
from clew.pipelines import tables
from clew.pipelines.datums import Cut
from clew.pipelines.work import Found, Known, Work

ASKED_FOR = "its restart was asked for"


def take_anew(db: Database, cut: Cut, work: Work, anew: Mapping[str, Any], job_id: str) -> None:
    """Move datums that are to run anew to what is to do, and what they made to what is gone.

    ``anew`` maps keys to [outputs, aside] of before. What this job has run anew already (an engine
    died since) is known, and not run again.
    """
    if not anew:
        return
    if work.whole:  # the output is made from nothing
        work.found = ([_anew(one, anew, job_id) for one in some] for some in work.found)
        return
    found = [one for some in work.found for one in some]
    told = {unit.key for unit, _, _ in found}
    units = {unit.key: unit for unit in cut.units() if unit.key in anew}
    with db.read() as tx:
        rows = tx.execute(tables.DONE_AMONG, {"keys": list(units)}).all()
    for row in [row for row in rows if row.key not in told]:
        unit, (outputs, aside) = units[row.key], anew[row.key]
        work.kept -= 1
        work.gone.append(Known(unit, row.job, outputs, aside))
        found.append((unit, Known(unit, row.job, row.outputs, row.aside), ""))
    work.found = [[_anew(one, anew, job_id) for one in found]]


def _anew(one: Found, anew: Mapping[str, Any], job_id: str) -> Found:
    unit, known, _ = one
    if known is None or unit.key not in anew or known.job == job_id:
        return one
    return unit, None, ASKED_FOR
