"""What a model version carries besides the model: read from its tree, as it was packaged.

Knows which tree; what lies in it is for ``reading``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from clew.base.errors import NotReady
from clew.base.records import ModelVersion, Verdict
from clew.models import late
from clew.models.layout import RECIPE
from clew.store import Store

if TYPE_CHECKING:
    from clew.base.records.card_words import CardText
    from clew.base.records.cards import NineThings
    from clew.base.records.reports import EvaluationReport


class Looking:
    """The part of :class:`clew.models.Models` that reads what was kept."""

    _store: Store

    def get(self, ref: str) -> ModelVersion:
        """The version of a name."""
        raise NotImplementedError

    def _tree(self, version: ModelVersion) -> str:
        raise NotImplementedError

    def outputs(self, version: ModelVersion) -> dict[str, tuple[int, ...]] | None:
        """Output → its shape behind the rows; None where only the model itself knows."""
        entry = self._store.get(self._tree(version), RECIPE)
        if entry is None:
            return None
        recipe = msgspec.json.decode(self._store.read(entry.digest), type=dict[str, Any])
        gives, signature = recipe["gives"], version.signature
        if gives == "values":
            return {"prediction": ()}
        if gives == "labels":
            return {"label": ()}
        if gives in {"named", "several"}:
            return None
        if signature.task == "binary":
            return {"label": (), "probability": ()}
        return {"label": (), "probabilities": (len(signature.classes),)}

    def verdict(self, verdict_id: str) -> Verdict:
        """The verdict of an id."""
        raise NotImplementedError

    def report(self, ref: str) -> EvaluationReport:
        """What was found when a version was judged; read by the digest that its verdict signs.

        Raises:
            NotFound: ``model.unknown``.
            Invalid: ``ref.ambiguous``.
            NotReady: ``report.none`` where nobody has judged it.
            Corrupt: where the bytes are not what was signed.
        """
        version = self.get(ref)
        verdict = self.verdict(version.verdict) if version.verdict else None
        if verdict is None or not verdict.report:
            raise NotReady(
                "report.none",
                f"{version.model} version {version.version} has no evaluation report: no gate "
                "has judged it.",
                hint="A gate reports on what it judges: clew run PIPELINE TRAINING.gate",
            )
        return late.evaluation_in(self._store, version, verdict)

    def reference(self, ref: str) -> dict[str, Any]:
        """``{"inputs": profile, "outputs": profile, "training": {...}}`` that a version carries.

        The profiles (as :func:`clew.quality.profile` makes them) are of the rows that it learned
        from and of its answers on test rows.
        """
        return late.reference_in(self._store, self._tree(self.get(ref)))

    def things(self, ref: str) -> NineThings:
        """The nine things that are kept of a version, but for the raw data in its lineage.

        Raises:
            NotFound: ``model.unknown``.
            Invalid: ``ref.ambiguous``.
        """
        version = self.get(ref)
        return late.things_in(self._store, version, self._tree(version))

    def text_then(self, ref: str) -> CardText | None:
        """What the pipeline said of the model when it was trained; None where that was not kept."""
        return late.text_in(self._store, self._tree(self.get(ref)))
