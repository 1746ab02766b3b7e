"""The verbs of traffic and feedback, on the files of one directory.

Knows names only; serving does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clew.base.feedback import feedback_items
from clew.base.records import ExplainResult, Prediction
from clew.base.records.traffic import Feedback, FeedbackResult, Outcome, Traffic
from clew.workspace.predicting import explain_logged, logged
from clew.workspace.rooms import Rooms, serving_settings


class EndpointTraffic:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms

    def traffic(self, endpoint: str) -> Traffic:
        """How the requests of an endpoint are shared now."""
        return self.rooms.serving.traffic(endpoint)

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
        return self.rooms.serving.set_traffic(
            endpoint, weights=weights, shadow=shadow, promote=promote, reason=reason
        )

    def feedback(
        self, items: Sequence[Feedback | Mapping[str, object]], *, endpoint: str = ""
    ) -> FeedbackResult:
        """Say what became of predictions."""
        return self.rooms.serving.feedback(feedback_items(items), endpoint=endpoint)

    def outcome(self, prediction_id: str) -> Outcome:
        """What is known of a prediction's outcome."""
        return self.rooms.serving.outcome(prediction_id)

    def prediction(self, prediction_id: str) -> Prediction:
        """One prediction of the log."""
        return logged(self.rooms.serving, prediction_id)

    def explain_prediction(self, prediction_id: str, *, row: int = 0) -> ExplainResult:
        """What each input did to a prediction of the log."""
        rooms = self.rooms
        made = self.prediction(prediction_id)
        version = rooms.models.get(made.model_version).version if made.model_version else None
        return explain_logged(rooms.serving, serving_settings(rooms.settings), made, version, row)
