"""The verbs of traffic and feedback: who gets how much of the requests, and what came of them.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from clew.base.records import ExplainResult, Prediction
    from clew.base.records.traffic import Feedback, FeedbackResult, Outcome, Traffic


class ServingVerbs(Protocol):
    """What is asked and told of an endpoint while it answers."""

    def traffic(self, endpoint: str) -> Traffic:
        """How the requests of an endpoint are shared now: arms, the test under way, and what was
        decided lately with its evidence. Raises NotFound ``endpoint.unknown``.
        """
        ...

    def set_traffic(
        self,
        endpoint: str,
        *,
        weights: Mapping[str, float] | None = None,
        shadow: Mapping[str, float] | None = None,
        promote: str = "",
        reason: str = "",
    ) -> Traffic:
        """Share the requests by hand; revisions are named by their number or id.

        ``weights``: revision → percent (0 takes it off); the live revision has the rest. Other
        arms, a canary and a test end. ``shadow``: revision → percent of the requests that it gets
        copies of (0: no more). ``promote``: the revision that gets all. Raises NotFound
        ``endpoint.unknown``, ``revision.unknown``, Invalid ``traffic.weights``.
        """
        ...

    def feedback(
        self, items: Sequence[Feedback | Mapping[str, object]], *, endpoint: str = ""
    ) -> FeedbackResult:
        """Say what became of predictions, by their ids; which were kept, known or not found.

        Items are records, or mappings with the same names. Idempotent: the same again changes
        nothing, another label or reward takes the place of the first.
        With ``endpoint`` only its predictions count. Raises Invalid ``feedback.value``,
        ``feedback.row``, ``feedback.many``, NotFound ``endpoint.unknown``.
        """
        ...

    def outcome(self, prediction_id: str) -> Outcome:
        """What is known of a prediction's outcome. Raises NotFound ``prediction.unknown``."""
        ...

    def prediction(self, prediction_id: str) -> Prediction:
        """One prediction of the log, by its id or a unique beginning.

        Raises NotFound ``prediction.unknown``, Conflict ``id.ambiguous``.
        """
        ...

    def explain_prediction(self, prediction_id: str, *, row: int = 0) -> ExplainResult:
        """What each input did to a prediction of the log (to one of its rows), by the version that
        made it.

        Raises NotFound ``prediction.unknown``, ``endpoint.version`` where that is not in memory any
        more; Invalid ``explain.inputs`` where the log does not have its inputs, ``explain.graph``
        where a graph made it; Unavailable ``endpoint.unavailable`` where shap is not installed
        beside the endpoint.
        """
        ...
