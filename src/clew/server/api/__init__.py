"""The routes of the API, one file a subject; each route is one verb."""

from clew.server.api import (
    cards,
    control,
    data,
    exporting,
    feeds,
    keeping,
    knowing,
    models,
    naming,
    pools,
    querying,
    questions,
    serving,
    trials,
    triggers,
    uploads,
    versions,
    work,
)
from clew.server.shapes import Routes, answer
from clew.server.wire import ErrorBody

shapes: dict[str, type] = {}
router = Routes(
    prefix="/api/v1", responses={"default": answer(ErrorBody, "What went wrong.", shapes)}
)
for part in (
    control,
    data,
    uploads,
    versions,
    keeping,
    knowing,
    feeds,
    triggers,
    work,
    trials,
    pools,
    models,
    serving,
    cards,
    naming,
    exporting,
    questions,
    querying,
):
    router.include_router(part.router)
    shapes |= part.router.shapes

__all__ = ["router", "shapes"]
