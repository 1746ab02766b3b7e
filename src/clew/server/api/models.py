"""Routes of models and endpoints.

Thin over the verbs. Predictions at speed go to the endpoint server; this door is for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from clew.base.records import (
    DriftReport,
    Endpoint,
    ExplainResult,
    ModelVersion,
    Prediction,
    PredictResult,
    Revision,
    Verdict,
)
from clew.server.call import Asked, Limit
from clew.server.origin import seen_from
from clew.server.shapes import Routes

router = Routes(tags=["models and endpoints"])


@dataclass(frozen=True, kw_only=True)
class DeployRequest:
    """Which version to put on an endpoint; one that is not blessed needs a name and a reason."""

    model_version: str
    override_by: str = ""
    override_reason: str = ""
    champion: bool = False
    rollout: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ArmsRequest:
    """Versions that come together: percentages by version (null: all the same), or a list."""

    arms: dict[str, float | None] | list[str]
    rollout: dict[str, Any] | None = None
    override_by: str = ""
    override_reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RollbackRequest:
    """Why traffic goes back."""

    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Rows to ask about: objects by column, or lists of numbers."""

    rows: list[dict[str, object]] | list[list[float]]


@router.get("/models", response_model=list[ModelVersion])
def models(call: Asked, model: str | None = None, where: str = "") -> Response:
    """Model versions, newest first, of one model or all; `where` chooses among them."""
    return call.reply(call.verbs.models(model, where=where))


@router.get("/models/{ref:path}", response_model=ModelVersion)
def model(call: Asked, ref: str) -> Response:
    """One version: its id, `model@3` or `model@champion`."""
    return call.reply(call.verbs.model(ref))


@router.get("/verdicts", response_model=list[Verdict])
def verdicts(call: Asked, model: str | None = None) -> Response:
    """Verdicts, newest first."""
    return call.reply(call.verbs.verdicts(model))


@router.get("/verdicts/{verdict_id}", response_model=Verdict)
def verdict(call: Asked, verdict_id: str) -> Response:
    """One verdict with its evidence."""
    return call.reply(call.verbs.verdict(verdict_id))


@router.get("/endpoints", response_model=list[Endpoint])
def endpoints(call: Asked, request: Request) -> Response:
    """All endpoints with their revisions and traffic."""
    return call.reply([seen_from(request, one) for one in call.verbs.endpoints()])


@router.get("/endpoints/{name}", response_model=Endpoint)
def endpoint(call: Asked, request: Request, name: str) -> Response:
    """One endpoint."""
    return call.reply(seen_from(request, call.verbs.endpoint(name)))


@router.post("/endpoints/{name}/deploy", response_model=Revision)
def deploy(call: Asked, name: str, wish: DeployRequest) -> Response:
    """Put a model version on an endpoint. Only a blessed one, or with a name and a reason."""
    revision = call.verbs.deploy(
        name,
        wish.model_version,
        override_by=wish.override_by,
        override_reason=wish.override_reason,
        champion=wish.champion,
        rollout=wish.rollout,
    )
    return call.reply(revision)


@router.post("/endpoints/{name}/arms", response_model=list[Revision])
def deploy_arms(call: Asked, name: str, wish: ArmsRequest) -> Response:
    """Put several versions on an endpoint at once, as arms of one rollout."""
    revisions = call.verbs.deploy_arms(
        name,
        wish.arms,
        rollout=wish.rollout,
        override_by=wish.override_by,
        override_reason=wish.override_reason,
    )
    return call.reply(revisions)


@router.post("/endpoints/{name}/rollback", response_model=Revision)
def rollback(call: Asked, name: str, wish: RollbackRequest) -> Response:
    """Give all traffic back to the revision before the live one."""
    return call.reply(call.verbs.rollback(name, reason=wish.reason))


@router.post("/endpoints/{name}/predict", response_model=PredictResult)
def predict(call: Asked, name: str, asked: PredictRequest) -> Response:
    """Ask an endpoint; logged like every prediction."""
    return call.reply(call.verbs.predict(name, asked.rows))


@router.post("/endpoints/{name}/explain", response_model=ExplainResult)
def explain(call: Asked, name: str, asked: PredictRequest) -> Response:
    """What each input did to the answers for rows: SHAP values."""
    return call.reply(call.verbs.explain(name, asked.rows))


@router.get("/endpoints/{name}/predictions", response_model=list[Prediction])
def predictions(call: Asked, name: str, limit: Limit = 20) -> Response:
    """Logged predictions, newest first."""
    return call.reply(call.verbs.predictions(name, limit=limit))


@router.get("/drift", response_model=list[DriftReport])
def drift(call: Asked, endpoint: str | None = None, limit: Limit = 20) -> Response:
    """Drift reports, newest first."""
    return call.reply(call.verbs.drift(endpoint, limit=limit))
