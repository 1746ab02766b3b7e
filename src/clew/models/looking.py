"""What a model version carries besides the model: read from its tree, as it was packaged.

Knows which tree; what lies in it is for ``reading``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clew.base.records import ModelVersion
from clew.models import late
from clew.store import Store

if TYPE_CHECKING:
    from clew.base.records.card_words import CardText
    from clew.base.records.cards import NineThings


class Looking:
    """The part of :class:`clew.models.Models` that reads what was kept."""

    _store: Store

    def get(self, ref: str) -> ModelVersion:
        """The version of a name."""
        raise NotImplementedError

    def _tree(self, version: ModelVersion) -> str:
        raise NotImplementedError

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
