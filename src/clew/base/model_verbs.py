"""The verbs that name model versions: aliases with their history.

A part of ``clew.base.verbs.Verbs``.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records import AliasMove


class ModelVerbs(Protocol):
    """What stands on which version, and what stood there before."""

    def alias_history(self, model: str) -> list[AliasMove]:
        """All moves of the aliases of a model, newest first; nothing is ever taken out.

        Raises NotFound ``model.unknown``.
        """
        ...

    def set_alias(
        self, model: str, alias: str, version: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Let an alias stand on a version of a model (its number, an alias of it, or its id).

        Only on a blessed one (``challenger``: on any; others than ``champion``: on an overridden
        one too). Raises Denied ``model.not_blessed``, NotFound ``model.unknown``, Invalid
        ``branch.name``, ``alias.number``, ``alias.model``, ``ref.ambiguous``.
        """
        ...

    def rollback_alias(
        self, model: str, alias: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Move an alias one step back, to where it stood before; the history grows by that move.

        Raises NotFound ``model.unknown``, ``alias.unknown``, Conflict ``alias.first``.
        """
        ...
