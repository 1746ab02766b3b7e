"""The verbs that hold models up to the light: the card of one, and several runs side by side.

Knows names only; what answers is loaded when somebody asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clew.workspace import late
from clew.workspace.rooms import Rooms

if TYPE_CHECKING:
    from clew.base.records.cards import ModelCard
    from clew.base.records.comparing import Comparison
    from clew.base.records.reports import EvaluationReport
    from clew.base.records.run_cards import RunCard


class Cards:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms

    def card(self, ref: str) -> ModelCard:
        """The card of a model version."""
        return late.card_of(self.rooms, ref)

    def run_card(self, subject: str) -> RunCard:
        """The card of a run or registered version of an MLflow client."""
        return late.run_card(self.rooms, subject)

    def report(self, ref: str) -> EvaluationReport:
        """What was found when a version was judged."""
        return self.rooms.models.report(ref)

    def compare_runs(self, subjects: Sequence[str]) -> Comparison:
        """Runs side by side."""
        return late.compare_runs(self.rooms, subjects)
