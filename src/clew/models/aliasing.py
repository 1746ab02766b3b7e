"""Aliases of models: where they stand, where they stood, and one step back.

Knows rows; who may move what is for the doors above. Nothing is ever taken out of the history.
"""

from __future__ import annotations

from clew.base.errors import Conflict, Denied, Invalid, NotFound
from clew.base.records import AliasMove, ModelVersion
from clew.db import Database, Tx
from clew.lineage import Lineage
from clew.models import registry, tables
from clew.repos import Repos

FREE = "challenger"
"""The one alias that may stand on a version that no gate has blessed."""


class Aliasing:
    """The part of :class:`clew.models.Models` that moves aliases."""

    _db: Database
    _repos: Repos
    _lineage: Lineage

    def alias(self, alias: str, ref: str, *, by: str = "", reason: str = "") -> AliasMove:
        """Let an alias stand on a version of its model; where it stood before is kept."""
        with self._db.begin() as tx:
            version = registry.find(tx, ref)
            move = registry.moved(version, alias, by, reason)
            self._moved(tx, move)
        return move

    def alias_history(self, model: str) -> list[AliasMove]:
        """All moves of the aliases of a model, newest first; nothing is ever taken out."""
        with self._db.read() as tx:
            return registry.history(tx, model)

    def follow(self, model: str, alias: str) -> None:
        """Let the repo ``<model>.<alias>``, where there is one, hold the version of the alias.

        What reads it follows the alias from then on. Idempotent.
        """
        with self._db.begin() as tx:
            moves = [one for one in registry.history(tx, model) if one.alias == alias]
            if moves:
                self._follow(tx, moves[0])

    def _moved(self, tx: Tx, move: AliasMove) -> None:
        """Note a move, and let those who follow the alias know."""
        registry.move_alias(tx, move)
        self._follow(tx, move)

    def _follow(self, tx: Tx, move: AliasMove) -> None:
        name = f"{move.model}.{move.alias}"
        try:
            self._repos.get(name, tx=tx)
        except NotFound:
            return  # nobody follows it
        version = registry.find(tx, move.version)
        tree = self._repos.commit_by_id(version.commit, tx=tx).tree
        head = self._repos.head(name, tx=tx)
        if head is not None and head.tree == tree:
            return
        opened = self._repos.open_commit(
            name,
            global_id=move.global_id or version.global_id,
            provenance=[version.commit],
            message=f"{move.alias} is version {version.version}",
            tx=tx,
        )
        self._repos.finish(opened.id, tree, rebase=True, tx=tx)
        self._lineage.link(tx, opened.id, [(version.id, "version")])

    def allow_alias(self, alias: str, found: ModelVersion) -> None:
        """That an alias may stand on a version: what is used must have been blessed.

        An override lets a version be deployed; it makes it the champion only where it says so
        (``clew deploy --champion``), and then the alias is there already.

        Raises:
            Denied: ``model.not_blessed``.
        """
        enough = {"blessed"} if alias == registry.CHAMPION else {"blessed", "overridden"}
        if alias == FREE or found.state in enough or alias in found.aliases:
            return
        raise Denied(
            "model.not_blessed",
            f"{found.model} version {found.version} is {found.state}, not blessed by its gate: "
            f"{alias!r} cannot stand on it.",
            hint=f"See why: clew model {found.model}@{found.version}. To override, by name and "
            f"for a reason: clew deploy ENDPOINT {found.model}@{found.version} --by NAME --reason "
            "TEXT --champion",
        )

    def set_alias(self, model: str, alias: str, version: str, *, by: str, reason: str) -> AliasMove:
        """Move an alias to a version that it may stand on; where it is there, the last move.

        ``version``: a number or an alias of the model, or the id of a version.

        Raises:
            Denied: ``model.not_blessed``.
            NotFound: ``model.unknown``.
            Invalid: ``ref.ambiguous``, ``branch.name``, ``alias.number``, ``alias.model`` where the
                version is another model's.
        """
        with self._db.begin() as tx:
            found = _version(tx, model, version)
            self.allow_alias(alias, found)
            if alias in found.aliases:
                return next(one for one in registry.history(tx, model) if one.alias == alias)
            move = registry.moved(found, alias, by, reason)
            self._moved(tx, move)
        return move

    def rollback_alias(self, model: str, alias: str, *, by: str, reason: str) -> AliasMove:
        """Move an alias to where it stood before; the move itself is a new one.

        Raises:
            NotFound: ``alias.unknown`` where the model has none of that name.
            Conflict: ``alias.first`` where it never stood elsewhere.
        """
        with self._db.begin() as tx:
            moves = [one for one in registry.history(tx, model) if one.alias == alias]
            if not moves:
                known = sorted({one.alias for one in registry.history(tx, model)})
                raise NotFound(
                    "alias.unknown",
                    f"{model} has no alias {alias!r}.",
                    hint=f"It has {', '.join(known)}." if known else "It has none yet.",
                )
            before = _before(moves)
            if before is None:
                raise Conflict(
                    "alias.first",
                    f"{alias!r} of {model} has never stood on another version.",
                    hint=f"Set it: clew alias {model} {alias} VERSION",
                )
            version = registry.find(tx, before)
            move = registry.moved(version, alias, by, reason, back=True)
            self._moved(tx, move)
        return move


def _version(tx: Tx, model: str, name: str) -> ModelVersion:
    """The version of a model by its number, an alias, or its id."""
    table = tables.model_versions
    if "@" in name:
        found = registry.find(tx, name)
    else:
        mine = registry.versions(tx, tables.VERSIONS.where(table.c.model == model))
        named = [one for one in mine if name == str(one.version) or name in one.aliases]
        found = named[0] if named else registry.find(tx, name)
    if found.model != model:
        raise Invalid(
            "alias.model",
            f"{name!r} is a version of {found.model}, not of {model}.",
            hint=f"See its versions: clew models {model}",
        )
    return found


def _before(moves: list[AliasMove]) -> str | None:
    """The version below the one that an alias stands on (moves are newest first).

    A step back is undone from the stack of where it stood, so that two steps back go two back.
    """
    stack: list[str] = []
    for move in reversed(moves):
        if move.back and len(stack) > 1:
            stack.pop()
        elif not stack or stack[-1] != move.version:
            stack.append(move.version)
    return stack[-2] if len(stack) > 1 else None
