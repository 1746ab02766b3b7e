"""What is broken now: steps whose last good job, if any, lies before a bad one.

Knows rows of jobs; nothing of how they run.
"""

from __future__ import annotations

from clew.base.records import Job
from clew.db import Tx
from clew.pipelines import tables
from clew.pipelines.jobs import job_of
from clew.pipelines.registry import Graph

_CAUSES = frozenset({"failed", "refused"})


def broken_now(tx: Tx, graph: Graph) -> tuple[list[Job], int]:
    """The newest bad job (failed, refused or blocked) of each step that is still there and has had
    no good one since; what failed or was refused before what was blocked by it. And how many bad
    jobs there are besides.
    """
    rows = tx.execute(tables.BROKEN).all()
    found = [job_of(row) for row in rows if graph.step((row.pipeline, row.step)) is not None]
    every = int(tx.execute(tables.BAD_JOBS).scalar_one())
    return sorted(found, key=lambda job: job.state not in _CAUSES), every - len(found)
