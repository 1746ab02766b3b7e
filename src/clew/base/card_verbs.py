"""The verbs that hold models up to the light: the card of one, and several runs side by side.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records.cards import ModelCard


class CardVerbs(Protocol):
    """What people ask of models before they use one."""

    def card(self, ref: str) -> ModelCard:
        """The card of a model version (its id, ``model@3``, ``model@champion``), also as Markdown.

        With the nine things that are kept of it. Raises NotFound ``model.unknown``, Invalid
        ``ref.ambiguous``.
        """
        ...
