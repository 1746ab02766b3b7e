"""Datums that run anew although they are done, because somebody asked for it.

Reads rows and changes the work of a job; knows nothing of how it is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.datums import Cut
from clew.pipelines.work import Known, Work

ASKED_FOR = "its restart was asked for"


def take_anew(tx: Tx, cut: Cut, work: Work, anew: Mapping[str, Any], job_id: str) -> None:
    """Move datums that are to run anew to what is to do, and what they made to what is gone.

    ``anew`` maps keys to [outputs, aside] of before. What this job has run anew already (an engine
    died since) is known, and not run again.
    """
    if not anew:
        return
    units = {unit.key: unit for unit in cut.units() if unit.key in anew}
    rows = tx.execute(tables.DONE_AMONG, {"keys": list(units)}).all()
    todo = {unit.key for unit, _ in work.todo}
    for row in [row for row in rows if row.key not in todo]:
        unit, (outputs, aside) = units[row.key], anew[row.key]
        waits = [known for known in work.known if known.unit.key == row.key]
        if waits:  # the output is made from nothing
            work.known.remove(waits[0])
        else:
            work.kept -= 1
            work.gone.append(Known(unit, row.job, outputs, aside))
        if row.job == job_id:
            work.known.append(Known(unit, row.job, row.outputs, row.aside))
        else:
            work.todo.append((unit, ASKED_FOR))
