"""The routes of the API, one file a subject; each route is one verb."""

from fastapi import APIRouter

from clew.server.api import (
    control,
    data,
    feeds,
    keeping,
    knowing,
    models,
    querying,
    questions,
    trials,
    triggers,
    uploads,
    versions,
    work,
)
from clew.server.wire import ErrorBody

router = APIRouter(prefix="/api/v1", responses={"default": {"model": ErrorBody}})
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
    models,
    questions,
    querying,
):
    router.include_router(part.router)

__all__ = ["router"]
