"""The verbs of traffic and feedback, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from clew.base.feedback import feedback_items
from clew.base.records import ExplainResult, Prediction
from clew.base.records.traffic import Feedback, FeedbackResult, Outcome, Traffic
from clew.client.wire import Wire


class RemoteServing:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def traffic(self, endpoint: str) -> Traffic:
        """How the requests of an endpoint are shared now."""
        return self._wire.get(f"/endpoints/{quote(endpoint, safe='')}/traffic", Traffic)

    def set_traffic(
        self,
        endpoint: str,
        *,
        weights: Mapping[str, float] | None = None,
        shadow: Mapping[str, float] | None = None,
        promote: str = "",
        reason: str = "",
    ) -> Traffic:
        """Share the requests by hand."""
        body = {
            "weights": dict(weights or {}),
            "shadow": dict(shadow or {}),
            "promote": promote,
            "reason": reason,
        }
        return self._wire.post(f"/endpoints/{quote(endpoint, safe='')}/traffic", Traffic, body)

    def feedback(
        self, items: Sequence[Feedback | Mapping[str, object]], *, endpoint: str = ""
    ) -> FeedbackResult:
        """Say what became of predictions."""
        body = {"items": msgspec.to_builtins(feedback_items(items)), "endpoint": endpoint}
        return self._wire.post("/feedback", FeedbackResult, body)

    def outcome(self, prediction_id: str) -> Outcome:
        """What is known of a prediction's outcome."""
        return self._wire.get(f"/predictions/{quote(prediction_id, safe='')}/feedback", Outcome)

    def prediction(self, prediction_id: str) -> Prediction:
        """One prediction of the log."""
        return self._wire.get(f"/predictions/{quote(prediction_id, safe='')}", Prediction)

    def explain_prediction(self, prediction_id: str, *, row: int = 0) -> ExplainResult:
        """What each input did to a prediction of the log."""
        path = f"/predictions/{quote(prediction_id, safe='')}/explain"
        return self._wire.post(path, ExplainResult, {"row": row})
