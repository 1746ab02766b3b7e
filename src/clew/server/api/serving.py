"""Routes of traffic and feedback.

Thin over the verbs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from fastapi.responses import Response

from clew.base.errors import Invalid
from clew.base.records import ExplainResult, Prediction
from clew.base.records.traffic import Feedback, FeedbackResult, Outcome, Traffic
from clew.server.call import Asked
from clew.server.shapes import Routes

router = Routes(tags=["models and endpoints"])


@dataclass(frozen=True, kw_only=True)
class TrafficRequest:
    """Percentages by revision (its number or id); the live one has the rest."""

    weights: dict[str, float] = field(default_factory=dict)
    shadow: dict[str, float] = field(default_factory=dict)
    promote: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ExplainRequest:
    """Which row of a request of several, from 0."""

    row: int = 0


@dataclass(frozen=True, kw_only=True)
class FeedbackItem:
    """What became of one row of a prediction: a label, a reward, or both."""

    id: str
    label: Any = None
    reward: float | None = None
    row: int = 0
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class FeedbackRequest:
    """What became of several predictions."""

    items: list[FeedbackItem]
    endpoint: str = ""


@dataclass(frozen=True, kw_only=True)
class OneFeedback:
    """What became of the prediction that the path names."""

    label: Any = None
    reward: float | None = None
    row: int = 0
    name: str = ""


@router.get("/endpoints/{name}/traffic", response_model=Traffic)
def traffic(call: Asked, name: str) -> Response:
    """Who gets how much of the requests, the test under way, and what was decided lately."""
    return call.reply(call.verbs.traffic(name))


@router.post("/endpoints/{name}/traffic", response_model=Traffic)
def set_traffic(call: Asked, name: str, wish: TrafficRequest) -> Response:
    """Share the requests by hand."""
    found = call.verbs.set_traffic(
        name, weights=wish.weights, shadow=wish.shadow, promote=wish.promote, reason=wish.reason
    )
    return call.reply(found)


@router.post("/feedback", response_model=FeedbackResult)
def feedback(call: Asked, told: FeedbackRequest) -> Response:
    """What became of predictions, by their ids."""
    items = [_item(item.id, item) for item in told.items]
    return call.reply(call.verbs.feedback(items, endpoint=told.endpoint))


@router.post("/predictions/{prediction_id}/feedback", response_model=FeedbackResult)
def feedback_on(call: Asked, prediction_id: str, told: OneFeedback) -> Response:
    """What became of one prediction."""
    return call.reply(call.verbs.feedback([_item(prediction_id, told)]))


@router.get("/predictions/{prediction_id}", response_model=Prediction)
def prediction(call: Asked, prediction_id: str) -> Response:
    """One prediction of the log."""
    return call.reply(call.verbs.prediction(prediction_id))


@router.post("/predictions/{prediction_id}/explain", response_model=ExplainResult)
def explain_prediction(call: Asked, prediction_id: str, asked: ExplainRequest) -> Response:
    """What each input did to a row of a logged prediction: SHAP values."""
    return call.reply(call.verbs.explain_prediction(prediction_id, row=asked.row))


@router.get("/predictions/{prediction_id}/feedback", response_model=Outcome)
def outcome(call: Asked, prediction_id: str) -> Response:
    """What is known of a prediction's outcome."""
    return call.reply(call.verbs.outcome(prediction_id))


def _item(id: str, told: FeedbackItem | OneFeedback) -> Feedback:
    try:
        return msgspec.convert(
            {"id": id, "label": told.label, "reward": told.reward, "row": told.row,
             "name": told.name},
            Feedback,
        )  # fmt: skip
    except msgspec.ValidationError as error:
        raise Invalid("feedback.value", f"{error}.", hint="Give a label or a reward.") from None
