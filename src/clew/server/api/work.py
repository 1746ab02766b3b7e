"""Routes of work: pipelines, jobs, experiments.

Thin over the verbs; knows nothing of how work is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import anyio.to_thread
import msgspec
from fastapi import Query, Request
from fastapi.responses import PlainTextResponse, Response

from clew.base.address import DEFAULT_BRANCH
from clew.base.errors import Invalid
from clew.base.records import (
    Applied,
    Datum,
    Experiment,
    ExperimentDetail,
    Importance,
    Job,
    PipelineInfo,
    Plan,
)
from clew.server.api.data import TAR_BODY
from clew.server.call import Asked, Call, Limit
from clew.server.shapes import Routes
from clew.server.upload import Upload, project, received

router = Routes(tags=["work"])
T = TypeVar("T")


Values = Annotated[str, Query(description="Values of parameters, a JSON object.")]
Packages = Annotated[str, Query(description="Versions that packages would have, a JSON object.")]


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Which step to run anew (all without one), why, and before which others."""

    step: str | None = None
    reason: str = ""
    priority: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RetireRequest:
    """Why a pipeline is taken out of service."""

    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Started:
    """The global id of what was started."""

    global_id: str


@router.post("/apply", response_model=list[Applied], openapi_extra=TAR_BODY)
async def apply(
    request: Request,
    call: Asked,
    entry: Annotated[str, Query(min_length=1)],
    message: str = "",
    parameters: Values = "{}",
    branch: str = DEFAULT_BRANCH,
) -> Response:
    """Register the pipelines that a file defines; the body is the project around it, as tar."""
    given = _values(parameters)

    def act(sent: Upload) -> list[Applied]:
        return call.verbs.apply_files(
            sent.files, entry, message=message, parameters=given, branch=branch
        )

    return call.reply(await with_project(request, call, entry, act))


@router.post("/plan", response_model=list[Plan], openapi_extra=TAR_BODY)
async def plan(
    request: Request,
    call: Asked,
    entry: str = "",
    parameters: Values = "{}",
    branch: str = DEFAULT_BRANCH,
    packages: Packages = "{}",
) -> Response:
    """What applying a file would run, skip and delete, and why; the registered pipelines without.

    Files of the archive below ``.clew-supposed/`` (``.clew-supposed/repo@branch:/path``) are data
    that is planned with, as if it were committed.
    """
    given, versions = _values(parameters), _versions(packages)

    def act(sent: Upload) -> list[Plan]:
        return call.verbs.plan_files(
            sent.files,
            entry,
            parameters=given,
            branch=branch,
            put=sent.put,
            delete=sent.delete,
            packages=versions,
        )

    return call.reply(await with_project(request, call, entry, act))


def _versions(text: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise Invalid(
            "plan.package",
            f"packages={text!r} is no JSON object of versions: {error}.",
            hint='Give names and versions: {"polars": "2.1.0"}.',
        ) from None


def _values(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Invalid(
            "parameter.json",
            f"parameters={text!r} is no JSON object: {error}.",
            hint='Give names and values: {"threshold": 0.7}.',
        ) from None


async def with_project(request: Request, call: Call, entry: str, act: Callable[[Upload], T]) -> T:
    """``act`` with the project that is the body of a request, in a thread."""
    async with received(request, call.scratch) as body:

        def work() -> T:
            return act(project(body, entry))

        return await anyio.to_thread.run_sync(work)


@router.get("/pipelines", response_model=list[PipelineInfo])
def pipelines(call: Asked) -> Response:
    """All pipelines, by name."""
    return call.reply(call.verbs.pipelines())


@router.post("/pipelines/{pipeline}/run", response_model=Started)
def run(call: Asked, pipeline: str, wish: RunRequest) -> Response:
    """Run a step anew (all steps without one), although nothing changed."""
    global_id = call.verbs.run(
        pipeline,
        wish.step,
        reason=wish.reason,
        priority=wish.priority,
        parameters=wish.parameters,
    )
    return call.reply(Started(global_id=global_id))


@router.post("/pipelines/{pipeline}/retire", response_model=Applied)
def retire(call: Asked, pipeline: str, wish: RetireRequest) -> Response:
    """Take a pipeline out of service; what it made stays."""
    return call.reply(call.verbs.retire(pipeline, reason=wish.reason))


@router.get("/jobs", response_model=list[Job])
def jobs(
    call: Asked, pipeline: str | None = None, state: str | None = None, limit: Limit = 100
) -> Response:
    """Jobs, newest first."""
    return call.reply(call.verbs.jobs(pipeline=pipeline, state=state, limit=limit))


@router.get("/jobs/{job_id}", response_model=Job)
def job(call: Asked, job_id: str) -> Response:
    """One job."""
    return call.reply(call.verbs.job(job_id))


@router.get("/jobs/{job_id}/datums", response_model=list[Datum])
def datums(call: Asked, job_id: str, limit: Limit = 1000) -> Response:
    """Datums of a job with the reason that each ran or was skipped."""
    return call.reply(call.verbs.datums(job_id, limit=limit))


@router.get("/jobs/{job_id}/log", response_class=PlainTextResponse)
def job_log(call: Asked, job_id: str) -> Response:
    """What the user's code printed in a job."""
    return PlainTextResponse(call.verbs.job_log(job_id))


@router.post("/jobs/{job_id}/cancel", response_model=Job)
def cancel(call: Asked, job_id: str) -> Response:
    """Stop a job that has not ended."""
    return call.reply(call.verbs.cancel(job_id))


@router.get("/experiments", response_model=list[Experiment])
def experiments(call: Asked, limit: Limit = 50) -> Response:
    """Experiments, newest first."""
    return call.reply(call.verbs.experiments(limit=limit))


@router.get("/experiments/{experiment_id}", response_model=ExperimentDetail)
def experiment(call: Asked, experiment_id: str) -> Response:
    """One experiment with its trials and curves."""
    return call.reply(call.verbs.experiment(experiment_id))


@router.get("/experiments/{experiment_id}/importances", response_model=list[Importance])
def importances(call: Asked, experiment_id: str) -> Response:
    """How much each parameter of a search mattered, the most first."""
    return call.reply(call.verbs.importances(experiment_id))
