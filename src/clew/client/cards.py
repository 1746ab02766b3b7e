"""The verbs for cards and comparisons, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from clew.base.records.cards import ModelCard
from clew.base.records.comparing import Comparison
from clew.base.records.reports import EvaluationReport
from clew.base.records.run_cards import RunCard
from clew.client.wire import Wire


class RemoteCards:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def card(self, ref: str) -> ModelCard:
        """The card of a model version, also as Markdown."""
        return self._wire.get(f"/cards/{quote(ref)}", ModelCard)

    def run_card(self, subject: str) -> RunCard:
        """The card of a run or registered version of an MLflow client, also as Markdown."""
        return self._wire.get(f"/run-cards/{quote(subject)}", RunCard)

    def report(self, ref: str) -> EvaluationReport:
        """What was found when a version was judged."""
        return self._wire.get(f"/reports/{quote(ref)}", EvaluationReport)

    def compare_runs(self, subjects: Sequence[str]) -> Comparison:
        """Runs side by side: parameters, metrics, data, code, packages."""
        return self._wire.get("/runs/compare", Comparison, run=list(subjects))
