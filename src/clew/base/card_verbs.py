"""The verbs that hold models up to the light: the card of one, and several runs side by side.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from clew.base.records.cards import ModelCard
    from clew.base.records.comparing import Comparison
    from clew.base.records.reports import EvaluationReport
    from clew.base.records.run_cards import RunCard


class CardVerbs(Protocol):
    """What people ask of models before they use one."""

    def card(self, ref: str) -> ModelCard:
        """The card of a model version (its id, ``model@3``, ``model@champion``), also as Markdown.

        With the nine things that are kept of it. Raises NotFound ``model.unknown``, Invalid
        ``ref.ambiguous``.
        """
        ...

    def run_card(self, subject: str) -> RunCard:
        """The card of a run or registered version of an MLflow client, also as Markdown.

        ``runs:/ID``, ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``; what nobody has said is
        said to be unknown. Raises NotFound ``run.unknown``, ``model.unknown``, Invalid
        ``card.subject``, ``card.of_clew``.
        """
        ...

    def report(self, ref: str) -> EvaluationReport:
        """What was found when a version was judged: metrics with intervals, slices, charts.

        Read by the digest that its verdict signs. Raises NotFound ``model.unknown``, Invalid
        ``ref.ambiguous``, NotReady ``report.none``.
        """
        ...

    def compare_runs(self, subjects: Sequence[str]) -> Comparison:
        """Runs side by side, against the first: parameters, metrics, data, code, packages.

        Each subject is a trial, a model version (``model@3``), an experiment (its best trial), the
        job of a training, or of an MLflow client ``runs:/ID`` or ``models:/NAME/VERSION``. Raises
        Invalid ``compare.few``, ``compare.many``, ``compare.kind``, Conflict ``id.ambiguous``,
        NotFound ``why.unknown``, ``model.unknown``, ``run.unknown``.
        """
        ...
