"""The page that holds runs side by side.

Thin over the verbs; knows which rows differ and how to name the runs, and nothing of HTML.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from clew.server.web.show import Shown

router = APIRouter(include_in_schema=False)


@router.get("/compare")
def compare(
    page: Shown,
    run: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
    same: bool = False,
) -> Response:
    """Runs side by side; with ``same``, also what does not differ."""
    found = page.verbs.compare_runs(run)
    names = [chr(ord("A") + at) for at in range(len(found.runs))]
    tables = {
        "Parameters": found.parameters,
        "Metrics": found.metrics,
        "Configuration": found.configuration,
        "Packages": found.environment,
    }
    return page.show(
        "compare.html",
        found=found,
        names=names,
        tables={
            title: ([row for row in rows if same or row.differs], len(rows))
            for title, rows in tables.items()
        },
        same=same,
        asked=run,
    )
