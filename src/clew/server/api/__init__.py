"""The routes of the API, one file a subject; each route is one verb."""

from fastapi import APIRouter

from clew.server.api import data, keeping, models, querying, questions, versions, work
from clew.server.wire import ErrorBody

router = APIRouter(prefix="/api/v1", responses={"default": {"model": ErrorBody}})
for part in (data, querying, versions, keeping, work, models, questions):
    router.include_router(part.router)

__all__ = ["router"]
