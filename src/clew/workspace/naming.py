"""The verbs that name model versions: aliases with their history.

Knows the room of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clew.base.importing import source_files
from clew.base.records import AliasMove, Commit, ModelVersion
from clew.base.records.imports import REMOTE, SOURCE_SUFFIX, ImportWish
from clew.base.verbs import Source
from clew.workspace import late
from clew.workspace.rooms import Rooms


class Naming:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms
    _author: str

    def alias_history(self, model: str) -> list[AliasMove]:
        """All moves of the aliases of a model, newest first."""
        self.rooms.models.versions(model, limit=1)  # says which are near
        return self.rooms.models.alias_history(model)

    def import_model(
        self,
        source: str | Path,
        *,
        name: str,
        trust: bool = False,
        example: str | Path = "",
        test: str = "",
        target: str = "",
        task: str = "auto",
        registry: str = "",
        requirements: Sequence[str] = (),
        python: str = "",
        own_environment: bool = False,
    ) -> ModelVersion:
        """A model of another tool as a candidate version."""
        told = str(source)
        files = source_files(told, str(example))
        commit = self._put_source(name, files) if files else ""
        wish = ImportWish(
            name=name,
            told=told if told.startswith(REMOTE) else Path(told).name,
            commit=commit,
            uri=told if told.startswith(REMOTE) else "",
            registry=registry,
            trust=trust,
            test=test,
            target=target,
            task=task,
            requirements=tuple(requirements),
            python=python,
            own_environment=own_environment,
        )
        return self.import_wish(wish)

    def import_wish(self, wish: ImportWish) -> ModelVersion:
        """The same, where the files are in the repo already."""
        return late.import_model(self.rooms, wish, self._author)

    def _put_source(self, name: str, files: Mapping[str, Path]) -> str:
        repo = name + SOURCE_SUFFIX
        self.rooms.repos.create(repo, kind="source", exist_ok=True)
        return self.put(repo, files, replace=True, message="to be imported").id

    def put(
        self, repo: str, files: Mapping[str, Source], *, message: str = "", replace: bool = False
    ) -> Commit:
        """Commit files."""
        raise NotImplementedError

    def set_alias(
        self, model: str, alias: str, version: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Let an alias stand on a version of a model."""
        self.rooms.models.versions(model, limit=1)
        return self.rooms.models.set_alias(
            model, alias, version, by=by or self._author, reason=reason or "set by hand"
        )

    def rollback_alias(
        self, model: str, alias: str, *, by: str = "", reason: str = ""
    ) -> AliasMove:
        """Move an alias one step back."""
        self.rooms.models.versions(model, limit=1)
        return self.rooms.models.rollback_alias(
            model, alias, by=by or self._author, reason=reason or "rolled back by hand"
        )
